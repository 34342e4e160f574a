"""Exemplars as players: what each adds to a prompt's score, from measured subsets.

A subset of the winner's K exemplars is a bit mask (bit i: exemplar i is there, in the winner's order), and
its value is one score per instruction, NaN where there is no verdict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from icl_align.stats import Interval, bootstrap_mean, crossed_bootstrap

Floats = NDArray[np.float64]
Walk = tuple[int, ...]
"""An order in which exemplars join."""


def full(k: int) -> int:
    """The mask of all K exemplars."""
    return (1 << k) - 1


def members(mask: int) -> tuple[int, ...]:
    """The exemplars of a mask, in the winner's order."""
    return tuple(i for i in range(mask.bit_length()) if mask >> i & 1)


def steps(walk: Walk) -> list[int]:
    """The masks that a walk passes, the empty one first."""
    found = [0]
    for player in walk:
        found.append(found[-1] | 1 << player)
    return found


def left_out(values: Mapping[int, Floats], k: int) -> Floats:
    """What each exemplar adds to all the others; float64 (K, instructions)."""
    whole = full(k)
    return np.array([values[whole] - values[whole & ~(1 << i)] for i in range(k)])


def exact_shapley(values: Mapping[int, Floats], k: int) -> Floats:
    """Shapley values from all 2**K subsets; float64 (K, instructions).

    Shapley, A value for n-person games (1953). For each instruction they add up to the value of all
    exemplars minus that of none.
    """
    found = np.zeros((k, len(values[0])))
    for i in range(k):
        for mask in range(1 << k):
            if not mask >> i & 1:
                size = mask.bit_count()
                weight = math.factorial(size) * math.factorial(k - size - 1) / math.factorial(k)
                found[i] += weight * (values[mask | 1 << i] - values[mask])
    return found


def sampled_shapley(
    values: Mapping[int, Floats], k: int, pairs: Sequence[tuple[Walk, Walk]]
) -> Floats:
    """Marginal contributions in sampled walks; float64 (K, pairs, instructions).

    Castro, Gomez & Tejada (Computers & Operations Research 36, 2009), each walk taken with its reverse,
    which lowers the variance (Mitchell et al., JMLR 23, 2022); a pair counts as one draw.
    """
    found = np.zeros((k, len(pairs), len(values[0])))
    for row, pair in enumerate(pairs):
        for walk in pair:
            passed = steps(walk)
            for place, player in enumerate(walk):
                found[player, row] += (values[passed[place + 1]] - values[passed[place]]) / 2
    return found


def bounded(values: Floats, *, level: float, seed: int) -> Interval | None:
    """Bounds a mean over instructions, or over (draws, instructions); None without any verdict."""
    data = np.asarray(values, dtype=np.float64)
    if not np.isfinite(data).any():
        return None
    if data.ndim == 1:
        return bootstrap_mean(data[np.isfinite(data)].tolist(), level=level, seed=seed)
    return crossed_bootstrap(data, level=level, seed=seed)
