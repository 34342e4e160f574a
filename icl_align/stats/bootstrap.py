"""Means, paired differences, and their bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_CELLS_PER_DRAW = 2_000_000
"""Most resampled values held at once (16 MB); bounds memory for long score lists."""
_ROUNDING = 1e-12
"""Values this near to one another, relative to the largest, are equal."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its bootstrap confidence interval.

    Attributes:
        mean: The plain mean of the values.
        low: Lower end; -inf when n < 2, since one value says nothing about spread.
        high: Upper end; +inf when n < 2.
        level: Nominal coverage in (0, 1), for example 0.95.
        n: How many values (or pairs) it rests on.
    """

    mean: float
    low: float
    high: float
    level: float
    n: int

    def to_json(self) -> dict[str, Any]:
        """Gives the five numbers; an infinite end becomes null."""
        return {
            "mean": self.mean,
            "low": self.low if math.isfinite(self.low) else None,
            "high": self.high if math.isfinite(self.high) else None,
            "level": self.level,
            "n": self.n,
        }


def bootstrap_mean(
    values: Sequence[float], *, level: float = 0.95, resamples: int = 10_000, seed: int | None = 0
) -> Interval:
    """Bounds the mean of values by the bias-corrected accelerated (BCa) bootstrap.

    Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapter 14.3. Values that are all
    equal give an interval of width 0.

    Args:
        values: Independent finite values.
        level: Nominal coverage in (0, 1).
        resamples: Number of bootstrap samples, >= 1.
        seed: Seed of the resampling; None draws a fresh one.

    Raises:
        ValueError: no values, a value that is not finite, or a level or count outside its range.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or data.size == 0:
        raise ValueError(f"a bootstrap needs at least one value, got shape {data.shape}")
    if not np.isfinite(data).all():
        raise ValueError("a bootstrap needs finite values; drop missing verdicts first")
    check_draws(level, resamples)
    n, mean = int(data.size), math.fsum(data) / data.size
    if n == 1:
        return Interval(mean, -math.inf, math.inf, level, n)
    if np.ptp(data) <= _ROUNDING * max(1.0, float(np.abs(data).max())):  # equal up to rounding
        return Interval(mean, mean, mean, level, n)
    means = _resampled_means(data, resamples, seed)
    low, high = np.quantile(means, _bca_quantiles(data, means, level))
    return Interval(mean, float(low), float(high), level, n)


def paired_bootstrap(
    a: Sequence[float],
    b: Sequence[float],
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int | None = 0,
) -> Interval:
    """Bounds the mean of `a[i] - b[i]`, resampling pairs, by the BCa bootstrap.

    Args:
        a: Scores of one prompt; `a[i]` and `b[i]` belong to the same example.
        b: Scores of the other.
        level: Nominal coverage in (0, 1).
        resamples: Number of bootstrap samples, >= 1.
        seed: Seed of the resampling; None draws a fresh one.

    Raises:
        ValueError: unequal lengths, or as `bootstrap_mean`.
    """
    if len(a) != len(b):
        raise ValueError(f"paired scores must have equal lengths, got {len(a)} and {len(b)}")
    differences = [x - y for x, y in zip(a, b, strict=True)]
    return bootstrap_mean(differences, level=level, resamples=resamples, seed=seed)


def crossed_bootstrap(
    matrix: ArrayLike, *, level: float = 0.95, resamples: int = 10_000, seed: int | None = 0
) -> Interval:
    """Bounds the mean of values that share both their row and their column, as seeds and examples do.

    Rows and columns are resampled independently of one another (the pigeonhole bootstrap: Owen, Annals
    of Applied Statistics 1, 2007). Few rows make percentiles too narrow, so they are taken further out,
    as Hesterberg (The American Statistician 69, 2015) does for one sample: by Student's t, here with
    Welch and Satterthwaite's degrees of freedom, and by the share of the variance that resampling so
    few leaves out. What an interaction of rows and columns adds is counted more than once: it errs on
    the wide side.

    Args:
        matrix: float, (rows, columns); NaN where there is no value.
        level: Nominal coverage in (0, 1).
        resamples: Number of bootstrap samples, >= 1.
        seed: Seed of the resampling; None draws a fresh one.

    Returns:
        The interval of the mean of all values that there are. Its ends are infinite with fewer than two
        rows, or two columns, that have values: one says nothing about spread.

    Raises:
        ValueError: no values, an infinite one, or a level or count outside its range.
    """
    data = np.asarray(matrix, dtype=np.float64)
    if data.ndim != 2:  # noqa: PLR2004 (rows and columns)
        raise ValueError(f"a crossed bootstrap needs rows and columns, got shape {data.shape}")
    if np.isinf(data).any():
        raise ValueError("a crossed bootstrap needs finite values")
    there = ~np.isnan(data)
    data = np.where(there, data, 0.0)[there.any(axis=1)][:, there.any(axis=0)]
    there = there[there.any(axis=1)][:, there.any(axis=0)]
    if not there.any():
        raise ValueError("a crossed bootstrap needs at least one value, got none")
    check_draws(level, resamples)
    values = data[there]
    mean, n = math.fsum(values) / values.size, int(values.size)
    if min(data.shape) == 1:
        return Interval(mean, -math.inf, math.inf, level, n)
    if np.ptp(values) <= _ROUNDING * max(1.0, float(np.abs(values).max())):
        return Interval(mean, mean, mean, level, n)
    rng = np.random.default_rng(seed)
    rows, columns = (
        rng.multinomial(size, np.full(size, 1 / size), size=resamples).astype(np.float64)
        for size in data.shape
    )
    totals = ((rows @ data) * columns).sum(axis=1)
    counts = ((rows @ there) * columns).sum(axis=1)
    tail = _crossed_tail(data, there, level)
    means = totals[counts > 0] / counts[counts > 0]
    low, high = np.quantile(means, (tail, 1 - tail))
    return Interval(mean, min(mean, float(low)), max(mean, float(high)), level, n)


def _crossed_tail(data: NDArray[np.float64], there: NDArray[np.bool_], level: float) -> float:
    """Gives the percentile, in (0, 1/2), that bounds a crossed mean from below.

    The means of rows and of columns each have a variance; a bootstrap of m of them leaves out an m-th
    of it. The sum's degrees of freedom are Satterthwaite's (Biometrics Bulletin 2, 1946).
    """
    from scipy import stats

    whole = left = squares = 0.0
    for axis in (1, 0):
        means = data.sum(axis=axis) / there.sum(axis=axis)
        variance = float(means.var(ddof=1)) / means.size
        whole += variance
        left += variance * (means.size - 1) / means.size
        squares += variance**2 / (means.size - 1)
    if squares <= 0.0:  # rows alike and columns alike
        return (1 - level) / 2
    quantile = float(stats.t.ppf((1 + level) / 2, whole**2 / squares))
    return NormalDist().cdf(-quantile * math.sqrt(whole / left))


def check_draws(level: float, resamples: int) -> None:
    """Refuses settings of a bootstrap that make no sense.

    Raises:
        ValueError: a level outside (0, 1), or no resamples.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level}")
    if resamples < 1:
        raise ValueError(f"resamples must be >= 1, got {resamples}")


def percentile_interval(
    draws: NDArray[np.float64], centre: float, level: float, n: int
) -> Interval:
    """Bounds an estimate from its resampled values, by percentiles taken further out for few n.

    Hesterberg (The American Statistician 69, 2015): by Student's t with n - 1 degrees of freedom, and by
    the share 1/n of the variance that a bootstrap of n leaves out.

    Args:
        draws: float64, (resamples,); the estimate of each resample.
        centre: The estimate itself.
        level: Nominal coverage in (0, 1).
        n: How many independent units were resampled; with fewer than two the ends are infinite.
    """
    from scipy import stats

    if n < 2 or not draws.size:  # noqa: PLR2004 (one says nothing about spread)
        return Interval(centre, -math.inf, math.inf, level, n)
    quantile = float(stats.t.ppf((1 + level) / 2, n - 1))
    tail = NormalDist().cdf(-quantile * math.sqrt(n / (n - 1)))
    low, high = np.quantile(draws, (tail, 1 - tail))
    return Interval(centre, min(centre, float(low)), max(centre, float(high)), level, n)


def _resampled_means(
    data: NDArray[np.float64], resamples: int, seed: int | None
) -> NDArray[np.float64]:
    """Draws bootstrap means, float64 (resamples,), in batches of bounded memory."""
    rng = np.random.default_rng(seed)
    batch = max(1, _CELLS_PER_DRAW // data.size)
    sizes = [min(batch, resamples - start) for start in range(0, resamples, batch)]
    return np.concatenate(
        [data[rng.integers(data.size, size=(rows, data.size))].mean(axis=1) for rows in sizes]
    )


def _bca_quantiles(
    data: NDArray[np.float64], means: NDArray[np.float64], level: float
) -> tuple[float, float]:
    """Moves the percentile levels for the bias and skewness of the mean (equations 14.10-14.15)."""
    normal = NormalDist()
    centre = float(data.mean())
    below = float(((means < centre).sum() + 0.5 * (means == centre).sum()) / means.size)
    half = 0.5 / means.size
    bias = normal.inv_cdf(min(max(below, half), 1 - half))
    centred = data - centre
    # The jackknife acceleration of a mean has this closed form: its values are linear in the data.
    acceleration = float((centred**3).sum() / (6 * (centred**2).sum() ** 1.5))

    def adjusted(tail: float) -> float:
        z = bias + normal.inv_cdf(tail)
        return normal.cdf(bias + z / (1 - acceleration * z))

    return adjusted((1 - level) / 2), adjusted((1 + level) / 2)
