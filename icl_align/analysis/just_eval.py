"""just-eval's tables: means by model, aspect, task type, topic and difficulty."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from icl_align.analysis.means import mean_over_items
from icl_align.analysis.ratings import HIGH, LABELS, LOW, Rating, read_ratings
from icl_align.analysis.tables import Cell, Table, check_groups
from icl_align.errors import UserError
from icl_align.stats import Interval

__all__ = ["GROUPS", "NaRule", "Rating", "just_eval_table", "read_ratings"]

GROUPS = ("model", "judge", "aspect", *LABELS)
"""By what a table may go; an item counts in each of its task types, topics and tags."""
UNLABELLED = "(none)"
"""The group of items that have no label of a kind."""
NaRule: TypeAlias = Literal["drop"] | float
"""What becomes of "not applicable": it is left out, or a number stands in for it."""


def just_eval_table(
    ratings: Sequence[Rating],
    by: Sequence[str] = ("model",),
    *,
    na: NaRule = "drop",
    resamples: int = 2000,
    seed: int | None = 0,
) -> Table:
    """Means with 95 % intervals, one row per group; judges are never mixed in one mean.

    With `aspect` among the groups a row is one aspect; without, aspects are columns. `words` is the mean
    length of the outputs whose category is not "safety", as published. A score that could not be read
    is counted as unscored and is in no mean.

    Args:
        ratings: As read; those without a judge are left out and counted in a note.
        by: Names from `GROUPS`; `judge` is added where it is missing.
        na: "drop" leaves "not applicable" out of means; a number stands in for it (5 as published).
        resamples: Bootstrap samples (BCa, over items) per mean.
        seed: Seed of the bootstrap; None draws a fresh one.

    Raises:
        UserError: an unknown or doubled group, a stand-in off the scale, or no rating by any judge.
    """
    groups = check_groups(by, GROUPS, "a just-eval")
    if na != "drop" and not LOW <= na <= HIGH:
        raise UserError(f"what stands in for N/A must be from 1 to 5, or drop, got {na}")
    judged = [rating for rating in ratings if rating.judge]
    if not judged:
        raise UserError("no record names a judge; give 'judge' and 'scores'")
    aspects = list(dict.fromkeys(aspect for rating in judged for aspect in rating.scores))
    parts = _parts(judged, [name for name in groups if name != "aspect"])
    means = _Means(na, resamples, seed)
    notes = tuple(_notes(groups, na, len(ratings) - len(judged)))
    if "aspect" in groups:
        rows = _by_aspect(parts, groups, aspects, means)
        return Table((*groups, "rated", "n/a", "unscored", "mean"), tuple(rows), notes)
    heads = (*groups, "rated", "n/a", "unscored", *aspects, "words")
    return Table(heads, tuple(_by_group(parts, aspects, means)), notes)


_Parts: TypeAlias = dict[tuple[str, ...], list[Rating]]


def _parts(ratings: Iterable[Rating], names: Sequence[str]) -> _Parts:
    """Ratings by group, sorted; one with several labels is in several groups."""
    parts: _Parts = {}
    for rating in ratings:
        keys: list[tuple[str, ...]] = [()]
        for name in names:
            own = {"model": (rating.model,), "judge": (rating.judge,)}.get(name)
            labels = own or rating.labels.get(name) or (UNLABELLED,)
            keys = [(*key, label) for key in keys for label in labels]
        for key in keys:
            parts.setdefault(key, []).append(rating)
    return dict(sorted(parts.items()))


def _by_group(parts: _Parts, aspects: Sequence[str], means: _Means) -> Iterator[tuple[Cell, ...]]:
    for key, part in parts.items():
        scores = [means.of(part, aspect) for aspect in aspects]
        yield (*key, *_counts(part, aspects), *scores, _words(part))


def _by_aspect(
    parts: _Parts, groups: Sequence[str], aspects: Sequence[str], means: _Means
) -> Iterator[tuple[Cell, ...]]:
    at = groups.index("aspect")
    pairs = [(key, aspect) for key in parts for aspect in aspects]
    if at == 0:  # the table goes by aspect first
        pairs.sort(key=lambda pair: aspects.index(pair[1]))
    for key, aspect in pairs:
        part = [rating for rating in parts[key] if aspect in rating.scores]
        if part:
            whole = (*key[:at], aspect, *key[at:])
            yield (*whole, *_counts(part, [aspect]), means.of(part, aspect))


@dataclass(frozen=True, slots=True)
class _Means:
    """Means of an aspect under one rule for "not applicable"."""

    na: NaRule
    resamples: int
    seed: int | None

    def of(self, ratings: Iterable[Rating], aspect: str) -> Interval | None:
        scores: list[tuple[str, float]] = []
        for rating in ratings:
            score = rating.scores.get(aspect)
            if score is not None:
                scores.append((rating.id, score))
            elif aspect in rating.not_applicable and self.na != "drop":
                scores.append((rating.id, float(self.na)))
        return mean_over_items(scores, resamples=self.resamples, seed=self.seed)


def _counts(ratings: Sequence[Rating], aspects: Sequence[str]) -> tuple[int, int, int]:
    """Outputs rated on any of the aspects; verdicts not applicable; verdicts that are missing."""
    items = sum(not rating.scores.keys().isdisjoint(aspects) for rating in ratings)
    none = [
        aspect in rating.not_applicable
        for rating in ratings
        for aspect in aspects
        if aspect in rating.scores and rating.scores[aspect] is None
    ]
    return items, sum(none), len(none) - sum(none)


def _words(ratings: Iterable[Rating]) -> float | None:
    counts = [
        rating.words
        for rating in ratings
        if rating.words is not None and rating.labels.get("category") != ("safety",)
    ]
    return math.fsum(counts) / len(counts) if counts else None


def _notes(groups: Sequence[str], na: NaRule, unjudged: int) -> Iterator[str]:
    rule = "left out" if na == "drop" else f"counted as {na:g}"
    yield f"N/A is {rule}, unscored is left out. Intervals: 95 %, BCa bootstrap over items."
    if {"task_type", "topic", "tag"} & set(groups):
        yield "An item counts in each of its labels, so rows overlap."
    if unjudged:
        yield f"{unjudged} records without a judge are left out."
