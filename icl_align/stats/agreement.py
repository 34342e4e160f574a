"""How far a judge agrees with people: verdicts on pairs, and ratings.

A verdict is 1 where the first response is the better one, -1 where the second is, 0 for a tie, and None
where the judge gave none. Rows about the same instruction are not independent, so every interval
resamples whole instructions (clusters).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from icl_align.stats.bootstrap import Interval
from icl_align.stats.clustered import RESAMPLES, Array, cluster_sums, clustered_bootstrap, ratio

_RANK_RESAMPLES = 1000
_CLASSES = (1, 0, -1)
_MISSING = 3
_FLAT = 1e-12
"""Values this near to one another are equal."""
_LINEAR = 1.0 - np.abs(np.subtract.outer(np.arange(3), np.arange(3))) / 2
"""Credit of a verdict by how far it is off: a tie is half-way between first and second."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """A judge's verdicts against people's; each figure with its interval, None where it is undefined.

    Attributes:
        accuracy: Share of all rows with people's verdict (of three); a missing verdict is not it.
        accuracy_answered: The same over the rows that have a verdict.
        accuracy_non_tie: Over answered rows that people did not call a tie; a judge's tie counts half,
            as a coin would earn.
        kappa: Cohen's kappa (Educational and Psychological Measurement 20, 1960), answered rows.
        kappa_weighted: The same with linear weights (Cohen, Psychological Bulletin 70, 1968): a tie is
            half-way between first and second.
        precision: Mean over the three verdicts (those that occur), answered rows; 0 for a verdict that
            the judge never gives.
        recall: The same.
        f1: The mean of the verdicts' F1.
        n: Rows.
        missing: Rows without a verdict.
        confusion: Rows (4, 3): the judge's verdict (first, tie, second, missing) by people's (first,
            tie, second).
    """

    accuracy: Interval | None
    accuracy_answered: Interval | None
    accuracy_non_tie: Interval | None
    kappa: Interval | None
    kappa_weighted: Interval | None
    precision: Interval | None
    recall: Interval | None
    f1: Interval | None
    n: int
    missing: int
    confusion: tuple[tuple[int, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """Gives all figures."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: value.to_json() if isinstance(value, Interval) else value
            for name, value in found.items()
        } | {"confusion": [list(row) for row in self.confusion]}


def agreement(
    judged: Sequence[int | None],
    people: Sequence[int],
    clusters: Sequence[str],
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int | None = 0,
) -> Agreement:
    """Compares a judge's verdicts with people's, row by row.

    Args:
        judged: 1, 0, -1 or None, one per row.
        people: 1, 0 or -1, one per row.
        clusters: The instruction of each row.
        level: Nominal coverage in (0, 1).
        resamples: Number of bootstrap samples, >= 1.
        seed: Seed of the resampling; None draws a fresh one.

    Raises:
        ValueError: unequal lengths, no rows, or a verdict that is none.
    """
    if not len(judged) == len(people) == len(clusters) or not people:
        raise ValueError(
            "agreement needs as many verdicts of the judge as of people, and at least one; got "
            f"{len(judged)}, {len(people)} and {len(clusters)} clusters"
        )
    if not {*people} <= {*_CLASSES} or not {*judged} <= {*_CLASSES, None}:
        raise ValueError("a verdict must be 1 (first), 0 (tie) or -1 (second), or None for none")
    rows = np.zeros((len(people), 12))
    for number, (mine, theirs) in enumerate(zip(judged, people, strict=True)):
        row = _MISSING if mine is None else _CLASSES.index(mine)
        rows[number, row * 3 + _CLASSES.index(theirs)] = 1
    sums = cluster_sums(rows, clusters)
    answered = sum(verdict is not None for verdict in judged)

    def figure(statistic: Callable[[Array], Array], n: int) -> Interval | None:
        return clustered_bootstrap(sums, statistic, n, level=level, resamples=resamples, seed=seed)

    non_tie = int(rows.reshape(-1, 4, 3)[:, :3, [0, 2]].sum())
    confusion = sums.sum(axis=0).reshape(4, 3).astype(int).tolist()
    return Agreement(
        accuracy=figure(_accuracy, len(people)),
        accuracy_answered=figure(_accuracy_answered, answered),
        accuracy_non_tie=figure(_accuracy_non_tie, non_tie),
        kappa=figure(lambda cells: _kappa(cells, np.eye(3)), answered),
        kappa_weighted=figure(lambda cells: _kappa(cells, _LINEAR), answered),
        precision=figure(lambda cells: _macro(cells)[0], answered),
        recall=figure(lambda cells: _macro(cells)[1], answered),
        f1=figure(lambda cells: _macro(cells)[2], answered),
        n=len(people),
        missing=len(people) - answered,
        confusion=tuple(tuple(row) for row in confusion),
    )


@dataclass(frozen=True, slots=True)
class RankAgreement:
    """A judge's ratings against people's.

    Attributes:
        spearman: Correlation of ranks, ties sharing a rank.
        kendall: Kendall's tau-b.
        n: Rows with a rating.
        missing: Rows without one, in no figure.
    """

    spearman: Interval | None
    kendall: Interval | None
    n: int
    missing: int

    def to_json(self) -> dict[str, Any]:
        """Gives all figures."""
        return {
            "spearman": self.spearman.to_json() if self.spearman else None,
            "kendall": self.kendall.to_json() if self.kendall else None,
            "n": self.n,
            "missing": self.missing,
        }


def rank_agreement(
    judged: Sequence[float | None],
    people: Sequence[float],
    clusters: Sequence[str],
    *,
    level: float = 0.95,
    resamples: int = _RANK_RESAMPLES,
    seed: int | None = 0,
) -> RankAgreement:
    """Compares ratings, row by row; any two scales will do, since only order counts.

    Raises:
        ValueError: unequal lengths.
    """
    rows = [
        (mine, theirs, cluster)
        for mine, theirs, cluster in zip(judged, people, clusters, strict=True)
        if mine is not None
    ]
    pairs = np.asarray([row[:2] for row in rows], dtype=np.float64).reshape(-1, 2)
    places: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        places.setdefault(row[2], []).append(number)
    groups = [np.asarray(numbers) for numbers in places.values()]
    rng = np.random.default_rng(seed)
    found = [_ranks(pairs)]
    if len(groups) > 1:
        for _ in range(resamples):
            chosen = rng.integers(len(groups), size=len(groups))
            found.append(_ranks(pairs[np.concatenate([groups[one] for one in chosen])]))
    spearman, kendall = (
        _percentile_interval(found[0][one], [draw[one] for draw in found[1:]], level, len(rows))
        for one in (0, 1)
    )
    return RankAgreement(spearman, kendall, len(rows), len(judged) - len(rows))


def _percentile_interval(
    value: float, draws: Sequence[float], level: float, n: int
) -> Interval | None:
    if math.isnan(value):
        return None
    there = [draw for draw in draws if not math.isnan(draw)]
    if not there:
        return Interval(value, -math.inf, math.inf, level, n)
    low, high = np.quantile(there, ((1 - level) / 2, (1 + level) / 2))
    return Interval(value, min(value, float(low)), max(value, float(high)), level, n)


def _ranks(pairs: Array) -> tuple[float, float]:
    """Spearman's and Kendall's correlation; NaN where one side never varies."""
    from scipy import stats

    if len(pairs) < 2 or np.ptp(pairs[:, 0]) < _FLAT or np.ptp(pairs[:, 1]) < _FLAT:  # noqa: PLR2004 (a pair)
        return math.nan, math.nan
    spearman = stats.spearmanr(pairs[:, 0], pairs[:, 1]).statistic
    return float(spearman), float(stats.kendalltau(pairs[:, 0], pairs[:, 1]).statistic)


def _answered(cells: Array) -> Array:
    """The judge's verdict by people's, (draws, 3, 3), rows without a verdict left out."""
    return cells.reshape(-1, 4, 3)[:, :3]


def _accuracy(cells: Array) -> Array:
    return ratio(np.trace(_answered(cells), axis1=1, axis2=2), cells.sum(axis=1))


def _accuracy_answered(cells: Array) -> Array:
    there = _answered(cells)
    return ratio(np.trace(there, axis1=1, axis2=2), there.sum(axis=(1, 2)))


def _accuracy_non_tie(cells: Array) -> Array:
    there = _answered(cells)
    right = there[:, 0, 0] + there[:, 2, 2] + 0.5 * (there[:, 1, 0] + there[:, 1, 2])
    return ratio(right, there[:, :, [0, 2]].sum(axis=(1, 2)))


def _kappa(cells: Array, credit: Array) -> Array:
    there = _answered(cells)
    n = there.sum(axis=(1, 2))
    seen = ratio((there * credit).sum(axis=(1, 2)), n)
    product = there.sum(axis=2)[:, :, None] * there.sum(axis=1)[:, None, :]
    chance = ratio((product * credit).sum(axis=(1, 2)), n**2)
    return ratio(seen - chance, np.where(chance < 1 - _FLAT, 1 - chance, 0.0))


def _macro(cells: Array) -> tuple[Array, Array, Array]:
    """Precision, recall and F1, each the mean over the verdicts that occur."""
    there = _answered(cells)
    right = np.diagonal(there, axis1=1, axis2=2)
    given, wanted = there.sum(axis=2), there.sum(axis=1)
    occurs = (given + wanted) > 0
    figures = (
        ratio(right, given),
        ratio(right, wanted),
        ratio(2 * right, given + wanted),
    )
    precision, recall, f1 = (
        ratio(np.nan_to_num(figure).sum(axis=1), occurs.sum(axis=1).astype(np.float64))
        for figure in figures
    )
    return precision, recall, f1
