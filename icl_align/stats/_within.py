"""Least squares with fixed effects of instructions and systems, and one slope; many fits at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from icl_align.stats._logistic import Array

_CELLS = 4_000_000
"""Most numbers of all resamples in flight (32 MB)."""
_NOTHING = 1e-9
"""A share of the variance of lengths below this is rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Answers of k systems to n instructions; all arrays (n, k), 0 where there is no score.

    Attributes:
        score: float64.
        characters: float64, lengths.
        x: float64, what the slope is on.
        there: bool, where there is a score; in each row somewhere.
    """

    score: Array
    characters: Array
    x: Array
    there: NDArray[np.bool_]

    @property
    def n(self) -> int:
        """How many instructions there are."""
        return len(self.score)


@dataclass(frozen=True, slots=True, eq=False)
class Equations:
    """Normal equations of each instruction.

    Attributes:
        squares: float64, (n, k + 1, k + 1).
        products: float64, (n, k + 1).
        known: Whether the slope is identified; where it is not, its equations say that it is 0.
    """

    squares: Array
    products: Array
    known: bool


def equations(cells: Cells) -> Equations:
    """Makes each instruction's normal equations, effects of systems first, the slope last.

    Raises:
        ValueError: systems that no chain of shared instructions links.
    """
    s, x, there = cells.score, cells.x, cells.there
    n, k = s.shape
    count = there.sum(axis=1)[:, None]
    z = np.zeros((n, k, k + 1))
    z[:, :, :k] = (np.eye(k) - (there / count)[:, None, :]) * there[:, :, None]
    z[:, :, k] = (x - x.sum(axis=1, keepdims=True) / count) * there
    squares = np.einsum("nij,nik->njk", z, z)
    products = np.einsum("nij,ni->nj", z, s)
    total = squares.sum(axis=0)
    if np.linalg.matrix_rank(total[:k, :k], hermitian=True) < k - 1:
        raise ValueError("some systems share no instruction, so they cannot be compared")
    effects = np.linalg.pinv(total[:k, :k], hermitian=True) @ total[:k, k]
    alone = total[k, k] - total[:k, k] @ effects
    known = bool(alone > _NOTHING * (total[k, k] + (x**2).sum()))
    if not known:
        squares[:, k, :] = squares[:, :, k] = products[:, k] = 0.0
        squares[:, k, k] = 1.0
    return Equations(squares, products, known)


def estimates(counts: Array, cells: Cells, system: Equations) -> Array:
    """Solves for the controlled means and the slope, float64 (fits, k + 1), by counts (fits, n)."""
    s, there = cells.score, cells.there
    n, k = s.shape
    left = (counts @ system.squares.reshape(n, -1)).reshape(-1, k + 1, k + 1)
    # Effects are only known up to a constant: their sum is set to 0. A trace of a ridge keeps resamples
    # solvable that fall apart.
    left[:, :k, :k] += n / k
    size = np.einsum("fii->fi", left)
    left += 1e-10 * np.eye(k + 1) * (size + size.max(axis=1, keepdims=True) * _NOTHING)[:, None, :]
    found = np.linalg.solve(left, (counts @ system.products)[:, :, None])[:, :, 0]
    share = there / there.sum(axis=1, keepdims=True)
    level = (counts @ (s.sum(axis=1) / there.sum(axis=1)))[:, None] - (
        (counts @ share) * found[:, :k]
    ).sum(axis=1, keepdims=True)
    means = found[:, :k] + level / counts.sum(axis=1, keepdims=True)
    return np.concatenate([means, found[:, k:]], axis=1)


def resampled(cells: Cells, system: Equations, resamples: int, seed: int | None) -> Array:
    """Solves for resampled instructions, float64 (resamples, k + 1).

    Those in which a system has no score are left out: there may be fewer than asked for.
    """
    rng, n = np.random.default_rng(seed), cells.n
    batch = max(1, _CELLS // (n + system.squares[0].size))
    found = [np.empty((0, cells.score.shape[1] + 1))]
    for first in range(0, resamples, batch):
        size = min(batch, resamples - first)
        counts = rng.multinomial(n, np.full(n, 1 / n), size=size).astype(np.float64)
        counts = counts[(counts @ cells.there > 0).all(axis=1)]
        found.append(estimates(counts, cells, system))
    return np.concatenate(found)
