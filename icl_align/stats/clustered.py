"""Intervals where rows share instructions: whole instructions (clusters) are resampled."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from icl_align.stats.bootstrap import Interval

RESAMPLES = 4000
_CELLS_PER_DRAW = 2_000_000
"""Most counts of clusters held at once (16 MB); bounds memory where there are many."""
_FLAT = 1e-12
"""Values this near to one another are equal."""

Array = NDArray[np.float64]


def clustered_mean(
    values: Sequence[float],
    clusters: Sequence[str],
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int | None = 0,
) -> Interval | None:
    """Bounds the mean of values whose rows share instructions; None without values."""
    data = np.asarray([[value, 1.0] for value in values], dtype=np.float64).reshape(-1, 2)
    return clustered_bootstrap(
        cluster_sums(data, clusters),
        lambda cells: ratio(cells[:, 0], cells[:, 1]),
        len(values),
        level=level,
        resamples=resamples,
        seed=seed,
    )


def clustered_bootstrap(
    sums: Array,
    statistic: Callable[[Array], Array],
    n: int,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int | None = 0,
) -> Interval | None:
    """Bounds a statistic of added-up counts by the BCa bootstrap over clusters.

    Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapter 14.3, with a jackknife that
    leaves out one cluster at a time. Samples in which the statistic is undefined are left out.

    Args:
        sums: float64, (clusters, columns): each cluster's counts.
        statistic: From counts, (draws, columns), to values, (draws,); NaN where undefined.
        n: How many rows the figure rests on.
        level: Nominal coverage in (0, 1).
        resamples: Number of bootstrap samples, >= 1.
        seed: Seed of the resampling; None draws a fresh one.

    Returns:
        The interval, its ends infinite with a single cluster; None where the statistic is undefined.
    """
    if not len(sums):
        return None
    total = sums.sum(axis=0, keepdims=True)
    value = float(statistic(total)[0])
    if math.isnan(value):
        return None
    if len(sums) == 1:
        return Interval(value, -math.inf, math.inf, level, n)
    rng = np.random.default_rng(seed)
    size, batch = len(sums), max(1, _CELLS_PER_DRAW // len(sums))
    draws = np.concatenate(
        [
            statistic(
                rng.multinomial(size, np.full(size, 1 / size), size=min(batch, resamples - start))
                @ sums
            )
            for start in range(0, resamples, batch)
        ]
    )
    draws = draws[~np.isnan(draws)]
    if not draws.size or np.ptp(draws) < _FLAT:
        return Interval(value, value, value, level, n)
    left_out = statistic(total - sums)
    tails = _bca_tails(value, draws, left_out[~np.isnan(left_out)], level)
    low, high = np.quantile(draws, tails)
    return Interval(value, min(value, float(low)), max(value, float(high)), level, n)


def cluster_sums(rows: Array, clusters: Sequence[str]) -> Array:
    """Adds rows up by cluster.

    Args:
        rows: float64, (rows, columns).
        clusters: The cluster of each row.

    Returns:
        float64, (clusters, columns), in order of first appearance.

    Raises:
        ValueError: another number of clusters than rows.
    """
    if len(rows) != len(clusters):
        raise ValueError(f"{len(rows)} rows need as many clusters, got {len(clusters)}")
    names = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
    sums = np.zeros((len(names), rows.shape[1]))
    np.add.at(sums, [names[name] for name in clusters], rows)
    return sums


def ratio(part: Array, whole: Array) -> Array:
    """Divides, (draws,) by (draws,); NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


def _bca_tails(value: float, draws: Array, left_out: Array, level: float) -> tuple[float, float]:
    """Moves the percentiles for bias and skewness (equations 14.10-14.15)."""
    normal = NormalDist()
    below = float(((draws < value).sum() + 0.5 * (draws == value).sum()) / draws.size)
    half = 0.5 / draws.size
    bias = normal.inv_cdf(min(max(below, half), 1 - half))
    centred = left_out.mean() - left_out
    spread = float((centred**2).sum())
    acceleration = float((centred**3).sum()) / (6 * spread**1.5) if spread > _FLAT**2 else 0.0

    def tail(share: float) -> float:
        z = bias + normal.inv_cdf(share)
        return normal.cdf(bias + z / (1 - acceleration * z))

    return tail((1 - level) / 2), tail((1 + level) / 2)
