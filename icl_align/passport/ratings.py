"""The figures of a passport about ratings: does a judge's score rise where people's does?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from icl_align.errors import UserError
from icl_align.ledger import content_digest
from icl_align.passport.asking import CHUNK, Asked, Verdicts
from icl_align.passport.items import Rating, example, recorded, response
from icl_align.passport.judges import Judge
from icl_align.passport.length import Settings
from icl_align.scorers import Scorer
from icl_align.stats.agreement import rank_agreement
from icl_align.stats.clustered import clustered_mean
from icl_align.types import Preference, Score


def rating_scores(
    judge: Judge,
    ratings: Sequence[Rating],
    on_done: Callable[[int], None] | None = None,
    verdicts: Verdicts | None = None,
) -> list[Score]:
    """Gives the judge's scores of the rated responses.

    Args:
        judge: Grades single responses, or has its grades recorded (on the line's own scale).
        ratings: What is graded.
        on_done: Told how many more are done, now and then.
        verdicts: Where scores are remembered, those that are missing left out; None for nowhere.

    Raises:
        UserError: the judge only compares.
    """
    if judge.column:
        columns = recorded(ratings, judge.column)
        return [_recorded(value, one) for value, one in zip(columns, ratings, strict=True)]
    if judge.scorer is None:
        raise UserError(
            f"--ratings: the judge {judge.name!r} only compares responses, it gives no scores; give "
            "--pairs alone, or a judge that scores"
        )
    known = verdicts or Verdicts(None)
    scores: list[Score] = []
    for start in range(0, len(ratings), CHUNK):
        part = ratings[start : start + CHUNK]
        scores += _remembered(judge.scorer, part, known)
        if on_done is not None:
            on_done(len(part))
    return scores


def _remembered(scorer: Scorer, part: Sequence[Rating], verdicts: Verdicts) -> list[Score]:
    """Gives the scores that are known, and asks for the others."""
    keys = [content_digest(["rating", scorer.fingerprint, one.query, one.response]) for one in part]
    new = {key: one for key, one in zip(keys, part, strict=True) if verdicts.get(key) is None}
    asked = [example(one) for one in new.values()]
    given = scorer.score(asked, [response(one.response) for one in new.values()]) if new else []
    fresh = {
        key: Asked(Preference(score.value, note=score.note, judge=score.judge))
        for key, score in zip(new, given, strict=True)
    }
    verdicts.put(fresh)
    found = [
        (fresh.get(key) or verdicts.get(key) or Asked(Preference(None))).preference for key in keys
    ]
    return [Score(one.value, note=one.note, judge=one.judge) for one in found]


def rating_figures(
    ratings: Sequence[Rating], scores: Sequence[Score], settings: Settings | None = None
) -> dict[str, Any]:
    """Compares scores with people's ratings, as JSON-able values.

    Args:
        ratings: What people say.
        scores: What the judge says; one without a value is in no figure, but counted.
        settings: How figures are computed.
    """
    settings = settings or Settings()
    people = [one.score for one in ratings]
    clusters = [one.query for one in ratings]
    rows = [
        (score.value - one.score, one.query)
        for score, one in zip(scores, ratings, strict=True)
        if score.value is not None
    ]
    lead = clustered_mean(
        [value for value, _ in rows],
        [query for _, query in rows],
        level=settings.level,
        seed=settings.seed,
    )

    def ranks(values: Sequence[float | None]) -> dict[str, Any]:
        found = rank_agreement(values, people, clusters, level=settings.level, seed=settings.seed)
        return found.to_json()

    return {
        "judge": ranks([score.value for score in scores]),
        "longer": ranks([float(len(one.response)) for one in ratings]),
        "annotator": _between_annotators(ratings, settings),
        "mean_difference": lead.to_json() if lead else None,
        "missing": {
            "n": len(ratings) - len(rows),
            "share": 1 - len(rows) / len(ratings),
            "reasons": sorted(
                {s.note[:300] or "no reason given" for s in scores if s.value is None}
            ),
        },
    }


def _between_annotators(ratings: Sequence[Rating], settings: Settings) -> dict[str, Any] | None:
    """Each annotator against the mean of the others."""
    mine: list[float] = []
    theirs: list[float] = []
    clusters: list[str] = []
    for rating in ratings:
        for place, score in enumerate(rating.scores):
            others = [*rating.scores[:place], *rating.scores[place + 1 :]]
            if others:
                mine.append(score)
                theirs.append(math.fsum(others) / len(others))
                clusters.append(rating.query)
    if not mine:
        return None
    found = rank_agreement(mine, theirs, clusters, level=settings.level, seed=settings.seed)
    return found.to_json()


def _recorded(value: object, rating: Rating) -> Score:
    low, high = rating.scale
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and low <= value <= high:  # type: ignore[operator]
        return Score((value - low) / (high - low))  # type: ignore[operator]
    return Score(None, note=f"recorded {str(value)[:40]!r} is no score from {low:g} to {high:g}")
