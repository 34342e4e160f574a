"""Logistic regressions on soft labels, many small ones at once, with or without an L1 penalty."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RIDGE = 1e-6
"""Of `RIDGE / 2 * ||w||^2`, always added: keeps a fit finite that the data leave open or separate."""
_STEPS = 100
_SWEEPS = 500
_HALVINGS = 30
_ENOUGH = 1e-4  # Armijo: the share of the promised decrease that a step must bring


def sigmoid(z: Array) -> Array:
    """Gives 1 / (1 + exp(-z)), of the same shape, without overflow."""
    found: Array = 0.5 * (1.0 + np.tanh(0.5 * z))
    return found


def fit_logistic(
    x: Array,
    y: Array,
    weight: Array,
    *,
    l1: float = 0.0,
    start: Array | None = None,
    tolerance: float = 1e-9,
) -> Array:
    """Minimises weighted log losses of soft labels plus `l1 * ||w||_1`, a batch of fits at once.

    Proximal Newton (Lee, Sun & Saunders, SIAM Journal on Optimization 24, 2014) with backtracking: the
    loss is convex, so the minimum is the same from every start. liblinear's C is `1 / l1`.

    Args:
        x: float64, (fits, rows, features), or (1, rows, features) where all fits share them.
        y: float64, (rows,); labels in [0, 1].
        weight: float64, (fits, rows); 0 leaves a row out.
        l1: Of the penalty, >= 0; every feature is penalised, a column of ones as well.
        start: float64, (fits, features) or (features,); zeros by default.
        tolerance: Stops when no weight moves by more, relative to 1 + its size.

    Returns:
        float64, (fits, features).
    """
    fits, features = weight.shape[0], x.shape[2]
    w = np.zeros((fits, features)) if start is None else np.tile(start, (fits, 1))[:fits]
    left = np.arange(fits)
    for _ in range(_STEPS):
        part, mine = (x if x.shape[0] == 1 else x[left]), weight[left]
        before = w[left]
        loss, slope, curve = _expand(part, y, mine, before)
        goal = _newton_point(before, slope, curve, l1)
        after = _backtrack((part, y, mine), before, goal, loss, slope, l1)
        w[left] = after
        moved = np.abs(after - before) > tolerance * (1 + np.abs(before))
        left = left[moved.any(axis=1)]
        if not left.size:
            break
    return w


def curvature(x: Array, weight: Array, w: Array) -> Array:
    """Gives the Hessian of one fit's loss, float64 (features, features), at w (features,)."""
    found: Array = _expand(x[None], np.zeros(len(x)), weight[None], w[None])[2][0]
    return found


def log_loss(x: Array, y: Array, w: Array) -> Array:
    """Gives each row's log loss, float64 (fits, rows)."""
    z = _linear(x, w)
    found: Array = np.logaddexp(0.0, z) - y * z
    return found


def _linear(x: Array, w: Array) -> Array:
    found: Array = np.matmul(x, w[:, :, None])[:, :, 0]
    return found


def _expand(x: Array, y: Array, weight: Array, w: Array) -> tuple[Array, Array, Array]:
    """Gives the smooth loss (fits,), its gradient (fits, k) and Hessian (fits, k, k), ridge included."""
    z = _linear(x, w)
    p = sigmoid(z)
    loss = (weight * (np.logaddexp(0.0, z) - y * z)).sum(axis=1) + 0.5 * RIDGE * (w**2).sum(axis=1)
    turned = np.swapaxes(x, 1, 2)
    slope = np.matmul(turned, (weight * (p - y))[:, :, None])[:, :, 0] + RIDGE * w
    curve = np.matmul(turned, x * (weight * p * (1 - p))[:, :, None]) + RIDGE * np.eye(w.shape[1])
    return loss, slope, curve


def _newton_point(w: Array, slope: Array, curve: Array, l1: float) -> Array:
    """Minimises the quadratic expansion plus the penalty: directly, or by cyclic coordinate descent."""
    if l1 == 0:
        found: Array = w - np.linalg.solve(curve, slope[:, :, None])[:, :, 0]
        return found
    v = w.copy()
    for _ in range(_SWEEPS):
        old = v.copy()
        for j in range(w.shape[1]):
            size = curve[:, j, j]
            pull = size * v[:, j] - slope[:, j] - (curve[:, j] * (v - w)).sum(axis=1)
            v[:, j] = np.sign(pull) * np.maximum(np.abs(pull) - l1, 0.0) / size
        if np.abs(v - old).max() <= 1e-12 * (1 + np.abs(v).max()):
            break
    return v


def _backtrack(
    data: tuple[Array, Array, Array],
    w: Array,
    goal: Array,
    loss: Array,
    slope: Array,
    l1: float,
) -> Array:
    """Goes from w towards the goal as far as the penalised loss really falls."""
    x, y, weight = data
    length = np.ones(len(w))
    here = loss + l1 * np.abs(w).sum(axis=1)
    promised = (slope * (goal - w)).sum(axis=1) + l1 * (
        np.abs(goal).sum(axis=1) - np.abs(w).sum(axis=1)
    )
    slack = 1e-12 * (1 + np.abs(here))
    for _ in range(_HALVINGS):
        there = w + length[:, None] * (goal - w)
        value = (weight * log_loss(x, y, there)).sum(axis=1)
        value += 0.5 * RIDGE * (there**2).sum(axis=1) + l1 * np.abs(there).sum(axis=1)
        bad = value > here + _ENOUGH * length * promised + slack
        if not bad.any():
            break
        length = np.where(bad, length / 2, length)
    found: Array = w + length[:, None] * (goal - w)
    return found
