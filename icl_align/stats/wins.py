"""Win rates, ties as half, with intervals from resampling whole instructions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icl_align.stats.bootstrap import check_draws

_CELLS = 4_000_000
"""Most numbers held at once in resampled tables of matches (32 MB)."""


@dataclass(frozen=True, slots=True)
class WinRate:
    """A share of wins, ties counted as half, with its bootstrap interval.

    Attributes:
        mean: In [0, 1].
        low: Lower end; 0 with fewer than two groups, which say nothing about spread.
        high: Upper end; 1 likewise.
        level: Nominal coverage.
        n: Comparisons with a verdict.
        ties: How many of them were exactly 0.5.
        missing: Comparisons without a verdict; they are left out.
    """

    mean: float
    low: float
    high: float
    level: float
    n: int
    ties: int
    missing: int

    def to_json(self) -> dict[str, Any]:
        """Gives all of it."""
        return asdict(self)


def win_rate(
    values: Sequence[float | None],
    groups: Sequence[str] | None = None,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int | None = 0,
) -> WinRate:
    """The mean share of wins, with a percentile interval from resampling groups.

    Args:
        values: Preferences for one side, in [0, 1]; None is no verdict.
        groups: What each belongs to; None where each stands for itself.
        level: Nominal coverage in (0, 1).
        resamples: Number of bootstrap samples, >= 1.
        seed: Seed of the resampling; None draws a fresh one.

    Raises:
        ValueError: no verdict, a value outside [0, 1], unequal lengths, or a bad level or count.
    """
    check_draws(level, resamples)
    names = [str(number) for number in range(len(values))] if groups is None else groups
    rows = [(v, name) for v, name in zip(values, names, strict=True) if v is not None]
    if not rows:
        raise ValueError(f"a win rate needs at least one verdict, got none of {len(values)}")
    data = np.asarray([value for value, _ in rows])
    if not ((data >= 0) & (data <= 1)).all():
        raise ValueError("a win rate needs values in [0, 1]")
    _, inverse = np.unique([name for _, name in rows], return_inverse=True)
    wins, counts = np.bincount(inverse, data), np.bincount(inverse)
    mean, low, high = math.fsum(data) / data.size, 0.0, 1.0
    if wins.size > 1:
        means = np.concatenate(
            [(c @ wins) / (c @ counts) for c in draws(wins.size, resamples, seed, wins.size)]
        )
        low, high = (float(end) for end in np.quantile(means, tails(level)))
    ties = int((data == 0.5).sum())  # noqa: PLR2004  a tie is what it is
    return WinRate(mean, low, high, level, data.size, ties, len(values) - data.size)


def draws(groups: int, resamples: int, seed: int | None, cells: int) -> list[NDArray[np.float64]]:
    """How often each group is drawn, float64 (rows, groups) per batch of bounded memory."""
    rng = np.random.default_rng(seed)
    batch = max(1, _CELLS // cells)
    sizes = [min(batch, resamples - start) for start in range(0, resamples, batch)]
    share = np.full(groups, 1 / groups)
    return [rng.multinomial(groups, share, size=rows).astype(np.float64) for rows in sizes]


def tails(level: float) -> tuple[float, float]:
    """The percentiles, in (0, 1), of an interval's ends."""
    return (1 - level) / 2, (1 + level) / 2
