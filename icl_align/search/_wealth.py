"""A bet whose winnings are evidence: the mean of a finite population, drawn without replacement.

Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting", JRSS B 86 (2024),
section 5 on sampling without replacement. Under the hypothesis that all N values sum to at least 0,
the next one is on average at least m = -(sum so far) / (values left). Wealth that starts at 1 and is
multiplied each time by 1 - b (value - m), with a bet b >= 0 fixed beforehand and small enough that
it never falls below 0, is a non-negative supermartingale then: the chance that it ever reaches
1 / alpha is at most alpha (Ville's inequality). So is the mean of several such wealths.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FRACTIONS = np.array([0.15, 0.3, 0.5, 0.7, 0.9])
"""Bets, as fractions of the largest that cannot lose everything."""
TINY = 1e-9
"""What rounding may do to a sum of some thousand scores."""


class Wealth:
    """The wealth of bets that differences fall short of what a sum of at least 0 lets one expect."""

    def __init__(self, n_total: int, limits: Sequence[tuple[float, float]]) -> None:
        """Starts with 1.

        Args:
            n_total: N.
            limits: Shares of the level that are added to a difference, each with the most that can come out.
        """
        self._left = n_total
        self.shares = np.array([[share] for share, _ in limits])
        self._most = np.array([[most] for _, most in limits])
        self._logs = np.zeros((len(limits), FRACTIONS.size))
        self._sums = np.zeros(2)
        self._best = 0.0

    @property
    def p_value(self) -> float:
        """One over the most the wealth has been."""
        return math.exp(-self._best)

    def add(self, values: NDArray[np.float64], levels: NDArray[np.float64]) -> None:
        """Bets on examples one by one.

        Args:
            values: Differences, float64 (n,), 0 where missing.
            levels: The incumbent's score minus its mean, float64 (n,), 0 where missing or unknown.
        """
        if not values.size:
            return
        rows = np.stack([values, levels])  # (2, n)
        before = self._sums[:, None] + np.cumsum(rows, axis=1) - rows
        expected = -before / (self._left - np.arange(values.size))
        centres = expected[0] + self.shares * expected[1]  # (shares, n)
        surplus = values + self.shares * levels - centres
        # Rounding, and a hypothesis that is no longer possible, can take the room below 0.
        room = np.maximum(self._most - centres, TINY)
        ratios = np.minimum(surplus / room, 1.0)[:, None, :]
        steps = np.log1p(-FRACTIONS[None, :, None] * ratios)  # (shares, fractions, n)
        logs = self._logs[:, :, None] + np.cumsum(steps, axis=2)
        peak = logs.max(axis=(0, 1))
        mixed = peak + np.log(np.exp(logs - peak).mean(axis=(0, 1)))
        self._best = max(self._best, float(mixed.max()))
        self._logs = logs[:, :, -1]
        self._sums = self._sums + rows.sum(axis=1)
        self._left -= values.size
