"""The figures of a passport about pairs: agreement, length, position, repeats, authors, cost."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from icl_align.passport.asking import Asked
from icl_align.passport.items import Pair, annotators
from icl_align.passport.length import Settings, as_json, lead, length_figures, mean_of, sign_of
from icl_align.stats.agreement import Agreement, agreement
from icl_align.stats.alt_test import MIN_ANNOTATORS, alt_test
from icl_align.types import Preference

_REASONS = 10
_REASON_SHOWN = 300
"""Characters: a note may hold a whole reply."""
_BOTH = 2


@dataclass(frozen=True, slots=True)
class Answers:
    """What a judge said about pairs.

    Attributes:
        given: One verdict per pair.
        swapped: The same with the responses shown the other way round, where that was asked.
        repeats: The same, asked again with other seeds.
        author: Who made the judge's model; empty where unknown.
    """

    given: Sequence[Asked]
    swapped: Sequence[Asked | None] = ()
    repeats: Sequence[Sequence[Asked]] = ()
    author: str = ""


def verdict(preference: Preference) -> int | None:
    """Which one is preferred: 1 the first, -1 the second, 0 neither, None no verdict."""
    return None if preference.value is None else _sign(preference.value)


def pair_figures(
    pairs: Sequence[Pair], answers: Answers, settings: Settings | None = None
) -> dict[str, Any]:
    """Computes all figures of a judge of pairs, as JSON-able values.

    A figure that cannot be had is null, and `notes` has the reason under its name.
    """
    settings = settings or Settings()
    judged = [verdict(asked.preference) for asked in answers.given]
    notes: dict[str, str] = {}
    longer = [sign_of(lead(pair)) for pair in pairs]
    found: dict[str, Any] = {
        "judge": _agree(pairs, judged, settings).to_json(),
        "longer": _agree(pairs, longer, settings).to_json(),
        "shorter": _agree(pairs, [-one for one in longer], settings).to_json(),
        "annotator": _between_annotators(pairs, settings, notes),
        "beats_longer": as_json(
            mean_of(
                [
                    float(mine == pair.label) - float(theirs == pair.label)
                    for mine, theirs, pair in zip(judged, longer, pairs, strict=True)
                ],
                pairs,
                settings,
            )
        ),
        "length": length_figures(pairs, judged, settings),
        "position": _position(pairs, answers, settings, notes),
        "repeatability": _repeats(pairs, answers, settings, notes),
        "self_preference": _self_preference(pairs, judged, answers.author, settings, notes),
        "alt_test": _alternative(pairs, judged, settings, notes),
        "missing": _missing(answers.given),
        "cost": _cost(answers),
    }
    return {**found, "notes": notes}


def annotator_figures(pairs: Sequence[Pair], settings: Settings | None = None) -> dict[str, Any]:
    """Computes the figures of one annotator, judged by another one, over all such couples.

    Raises:
        ValueError: no pair has two labels.
    """
    rows = annotators(pairs)
    if not rows:
        raise ValueError("no pair has the labels of two annotators")
    spread = [
        Pair(pair.id, pair.query, pair.first, pair.second, theirs, (), pair.models)
        for pair, _, theirs in rows
    ]
    given = [Asked(Preference((1 + mine) / 2)) for _, mine, _ in rows]
    return pair_figures(spread, Answers(given), settings)


def _agree(pairs: Sequence[Pair], judged: Sequence[int | None], settings: Settings) -> Agreement:
    return agreement(
        judged,
        [pair.label for pair in pairs],
        [pair.query for pair in pairs],
        level=settings.level,
        seed=settings.seed,
    )


def _between_annotators(
    pairs: Sequence[Pair], settings: Settings, notes: dict[str, str]
) -> dict[str, Any] | None:
    rows = annotators(pairs)
    if not rows:
        notes["annotator"] = "no pair has the labels of two annotators"
        return None
    return agreement(
        [mine for _, mine, _ in rows],
        [theirs for _, _, theirs in rows],
        [pair.query for pair, _, _ in rows],
        level=settings.level,
        seed=settings.seed,
    ).to_json()


def _position(
    pairs: Sequence[Pair], answers: Answers, settings: Settings, notes: dict[str, str]
) -> dict[str, Any] | None:
    """How often both orders give one verdict, and how often the response shown first wins."""
    rows: list[Pair] = []
    same: list[float] = []
    shown_first: list[float] = []
    swapped = answers.swapped or [None] * len(pairs)
    for pair, asked, other in zip(pairs, answers.given, swapped, strict=True):
        orders: tuple[float, ...] = asked.preference.orders
        if other is not None and asked.preference.value is not None:
            again = other.preference.value
            orders = () if again is None else (asked.preference.value, again)
        if len(orders) == _BOTH:
            rows.append(pair)
            same.append(float(_sign(orders[0]) == _sign(orders[1])))
            shown_first.append((2 + _sign(orders[0]) - _sign(orders[1])) / 4)
    if not rows:
        notes["position"] = "no pair has a verdict in both orders"
        return None
    return {
        "consistency": as_json(mean_of(same, rows, settings)),
        "shown_first": as_json(mean_of(shown_first, rows, settings)),
    }


def _repeats(
    pairs: Sequence[Pair], answers: Answers, settings: Settings, notes: dict[str, str]
) -> dict[str, Any] | None:
    rows: list[Pair] = []
    same: list[float] = []
    for repeat in answers.repeats:
        for pair, before, now in zip(pairs, answers.given, repeat, strict=True):
            one, two = verdict(before.preference), verdict(now.preference)
            if one is not None and two is not None:
                rows.append(pair)
                same.append(float(one == two))
    if not rows:
        notes["repeatability"] = (
            "no pair has two verdicts"
            if answers.repeats
            else "the judge was asked once; give --seeds"
        )
        return None
    return {"identical": as_json(mean_of(same, rows, settings)), "repeats": len(answers.repeats)}


def _self_preference(
    pairs: Sequence[Pair],
    judged: Sequence[int | None],
    author: str,
    settings: Settings,
    notes: dict[str, str],
) -> dict[str, Any] | None:
    """How often the judge's own author wins, in the judge's eyes and in people's."""
    if not author:
        notes["self_preference"] = "the judge's author is not known; give author in [judge]"
        return None
    rows = [
        (pair, mine * side, pair.label * side)
        for pair, mine in zip(pairs, judged, strict=True)
        if mine is not None and (pair.models[0] == author) != (pair.models[1] == author)
        for side in (1 if pair.models[0] == author else -1,)
    ]
    if not rows:
        notes["self_preference"] = f"no pair has {author!r} against another author"
        return None
    owners = [pair for pair, _, _ in rows]
    return {
        "author": author,
        "judge": as_json(mean_of([(1 + mine) / 2 for _, mine, _ in rows], owners, settings)),
        "people": as_json(mean_of([(1 + theirs) / 2 for _, _, theirs in rows], owners, settings)),
        "difference": as_json(
            mean_of([(mine - theirs) / 2 for _, mine, theirs in rows], owners, settings)
        ),
    }


def _alternative(
    pairs: Sequence[Pair],
    judged: Sequence[int | None],
    settings: Settings,
    notes: dict[str, str],
) -> dict[str, Any] | None:
    width = max((len(pair.labels) for pair in pairs), default=0)
    rows = [
        (mine, pair) for mine, pair in zip(judged, pairs, strict=True) if len(pair.labels) == width
    ]
    instructions = len({pair.query for mine, pair in rows if mine is not None})
    if width < MIN_ANNOTATORS or instructions < _BOTH:
        notes["alt_test"] = (
            f"the alternative annotator test needs at least {MIN_ANNOTATORS} labels per pair and two "
            f"instructions; there are {width} labels and {instructions} instructions"
        )
        return None
    return alt_test(
        [mine for mine, _ in rows],
        [pair.labels for _, pair in rows],
        [pair.query for _, pair in rows],
        epsilon=settings.epsilon,
    ).to_json()


def _missing(given: Sequence[Asked]) -> dict[str, Any]:
    notes = [
        asked.preference.note[:_REASON_SHOWN] or "no reason given"
        for asked in given
        if asked.preference.value is None
    ]
    reasons = [{"reason": note, "n": n} for note, n in Counter(notes).most_common(_REASONS)]
    return {"n": len(notes), "share": len(notes) / len(given), "reasons": reasons}


def _cost(answers: Answers) -> dict[str, Any]:
    swapped = [asked for asked in answers.swapped if asked is not None]
    rows = [*answers.given, *swapped, *(one for repeat in answers.repeats for one in repeat)]
    tokens = [one.tokens for one in rows if one.tokens is not None]
    return {
        "questions": len(rows),
        "tokens": round(math.fsum(tokens)) if tokens else None,
        "seconds": round(math.fsum(one.seconds for one in rows), 3),
    }


def _sign(value: float) -> int:
    """The verdict of a preference, in [0, 1]."""
    return (value > 0.5) - (value < 0.5)  # noqa: PLR2004 (a tie)
