"""How far the length of responses decides a judge's verdicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from icl_align.passport.items import Pair
from icl_align.stats import Interval
from icl_align.stats.clustered import clustered_mean

MATCHED = 1.3
"""Two responses are of matched length when (characters + 1) differ by this factor at most."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How figures are computed.

    Attributes:
        level: Coverage of the intervals.
        seed: Of the bootstrap.
        epsilon: Of the alternative annotator test.
    """

    level: float = 0.95
    seed: int = 0
    epsilon: float = 0.1


def length_figures(
    pairs: Sequence[Pair], judged: Sequence[int | None], settings: Settings
) -> dict[str, Any]:
    """How far length decides: at equal lengths, and how often the longer one wins."""
    scored = [(pair, mine) for pair, mine in zip(pairs, judged, strict=True) if mine is not None]
    non_tie = [(pair, mine) for pair, mine in scored if pair.label]

    def right(rows: Sequence[tuple[Pair, int]]) -> dict[str, Any] | None:
        values = [(1 + mine * pair.label) / 2 for pair, mine in rows]
        return as_json(mean_of(values, [pair for pair, _ in rows], settings))

    uneven = [(pair, mine) for pair, mine in scored if lead(pair)]
    of_judge = [(1 + mine * sign_of(lead(pair))) / 2 for pair, mine in uneven]
    of_people = [(1 + pair.label * sign_of(lead(pair))) / 2 for pair, _ in uneven]
    rows = [pair for pair, _ in uneven]
    return {
        "matched_ratio": MATCHED,
        "matched": right([row for row in non_tie if is_matched(row[0])]),
        "unmatched": right([row for row in non_tie if not is_matched(row[0])]),
        "people_prefer_longer": right([row for row in non_tie if row[0].label * lead(row[0]) > 0]),
        "people_prefer_shorter": right([row for row in non_tie if row[0].label * lead(row[0]) < 0]),
        "longer_share": as_json(mean_of(of_judge, rows, settings)),
        "longer_share_people": as_json(mean_of(of_people, rows, settings)),
        "longer_share_difference": as_json(
            mean_of([a - b for a, b in zip(of_judge, of_people, strict=True)], rows, settings)
        ),
    }


def is_matched(pair: Pair) -> bool:
    """Whether the two responses are of about one length."""
    return abs(length_ratio(pair)) <= math.log(MATCHED)


def length_ratio(pair: Pair) -> float:
    """The natural logarithm of the first response's length over the second's, in characters + 1."""
    return math.log((len(pair.first) + 1) / (len(pair.second) + 1))


def lead(pair: Pair) -> int:
    """By how many characters the first response is the longer one."""
    return len(pair.first) - len(pair.second)


def sign_of(number: int) -> int:
    """1, 0 or -1."""
    return (number > 0) - (number < 0)


def mean_of(values: Sequence[float], rows: Sequence[Pair], settings: Settings) -> Interval | None:
    """Bounds a mean over rows, whole instructions resampled."""
    clusters = [pair.query for pair in rows]
    return clustered_mean(values, clusters, level=settings.level, seed=settings.seed)


def as_json(interval: Interval | None) -> dict[str, Any] | None:
    """Gives an interval for JSON."""
    return None if interval is None else interval.to_json()
