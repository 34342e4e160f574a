"""Holds a judge against grades that a person has just given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from icl_align.passport.asking import Verdicts
from icl_align.passport.figures import verdict
from icl_align.passport.items import Pair, Rating, read_pairs, read_ratings
from icl_align.passport.judges import Judge
from icl_align.passport.label import Labels
from icl_align.passport.ratings import rating_scores
from icl_align.passport.validate import Plan, answers_of
from icl_align.stats.agreement import agreement, rank_agreement


def compare_with_labels(
    judge: Judge, items: Sequence[Pair] | Sequence[Rating], labels: Labels
) -> dict[str, Any]:
    """Compares a judge with a person's grades: those under the present criteria, and all.

    Args:
        judge: Whom to compare.
        items: What was graded, with recorded predictions where the judge is one of those.
        labels: The grades.

    Returns:
        "current" and "all", each with figures and counts; None where there are no grades.

    Raises:
        UserError: the judge cannot grade such items.
    """
    outdated = set(labels.outdated)
    rows = {item.id: item.row for item in items}
    if isinstance(items[0], Pair):
        pairs = [
            Pair(p.id, p.query, p.first, p.second, p.label, (), ("", ""), rows.get(p.id, {}))
            for p in read_pairs(labels.file)
        ]
        answers = answers_of(judge, pairs, Plan(swap=False), Verdicts(None))
        judged = [verdict(asked.preference) for asked in answers.given]
        fresh = [pair.id not in outdated for pair in pairs]
        return {
            "current": _pairs(
                [row for row, new in zip(pairs, fresh, strict=True) if new],
                [row for row, new in zip(judged, fresh, strict=True) if new],
            ),
            "all": _pairs(pairs, judged),
        }
    ratings = [
        Rating(r.id, r.query, r.response, r.scores, r.scale, rows.get(r.id, {}))
        for r in read_ratings(labels.file)
    ]
    scores = [score.value for score in rating_scores(judge, ratings)]
    fresh = [rating.id not in outdated for rating in ratings]
    return {
        "current": _ratings(
            [row for row, new in zip(ratings, fresh, strict=True) if new],
            [row for row, new in zip(scores, fresh, strict=True) if new],
        ),
        "all": _ratings(ratings, scores),
    }


def _pairs(pairs: Sequence[Pair], judged: Sequence[int | None]) -> dict[str, Any] | None:
    if not pairs:
        return None
    found = agreement(judged, [pair.label for pair in pairs], [pair.query for pair in pairs])
    content = found.to_json()
    return {key: content[key] for key in ("accuracy", "accuracy_answered", "kappa", "n", "missing")}


def _ratings(ratings: Sequence[Rating], scores: Sequence[float | None]) -> dict[str, Any] | None:
    if not ratings:
        return None
    people, clusters = [one.score for one in ratings], [one.query for one in ratings]
    return rank_agreement(scores, people, clusters).to_json()
