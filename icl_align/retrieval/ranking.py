"""Which entries of a pool a query gets, by how near they are: the nearest, or near and unlike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def nearest(nearness: NDArray[np.float64], open_: NDArray[np.bool_], k: int) -> list[int]:
    """Gives up to k open entries, nearest first; the earlier one of two that are as near.

    Args:
        nearness: float64 (n,), larger is nearer.
        open_: bool (n,), which entries may be chosen.
        k: How many, >= 0.
    """
    order = np.lexsort((np.arange(len(nearness)), -nearness))
    return [int(index) for index in order if open_[index]][:k]


def marginal(
    nearness: NDArray[np.float64],
    vectors: NDArray[np.float32],
    open_: NDArray[np.bool_],
    k: int,
    trade: float,
) -> list[int]:
    """Gives up to k open entries by maximal marginal relevance, in the order in which it takes them.

    Carbonell & Goldstein (SIGIR 1998): each next entry has the greatest
    `trade * nearness - (1 - trade) * (greatest similarity to an entry already taken)`.

    Args:
        nearness: float64 (n,), cosines with the query.
        vectors: float32 (n, dim), unit rows.
        open_: bool (n,), which entries may be chosen.
        k: How many, >= 0.
        trade: In [0, 1]; 1 is `nearest`.
    """
    left = open_.copy()
    taken: list[int] = []
    likeness = np.zeros(len(nearness))  # to the taken entry that is most alike
    while len(taken) < k and left.any():
        gain = np.where(left, trade * nearness - (1 - trade) * likeness, -np.inf)
        best = int(np.argmax(gain))
        alike = (vectors @ vectors[best]).astype(np.float64)
        likeness = np.maximum(likeness, alike) if taken else alike
        taken.append(best)
        left[best] = False
    return taken
