"""How much each part of a prompt's value varies: where that starts, and how it is fitted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from icl_align.search.choices import Choice
from icl_align.search.surrogate.features import PARTS, Design, Floats, Model

START = {
    "single": 0.06,
    "meaning": 0.06,
    "order": 0.004,
    "last": 0.008,
    "pair": 0.01,
    "pair_meaning": 0.01,
    "alike": 0.01,
    "system": 0.04,
    "cross": 0.015,
    "format": 0.03,
    "count": 0.03,
    "decoding": 0.02,
    "own": 0.015,
    "block": 0.3,
    "block_exemplar": 0.03,
    "constant": 0.3,
    "noise": 2.5,
}
"""Prior medians of the variances, for values of unit variance; "noise" is that of one score."""
_FREE = ("block", "block_exemplar")
_COMMON = 0.3


def fit_variances(
    model: Model,
    choices: Sequence[Choice],
    blocks: Sequence[int],
    values: Floats,
    weights: Floats,
    *,
    steps: int = 20,
    common: float = _COMMON,
) -> tuple[dict[str, float], float]:
    """Fits the variances by maximum a posteriori, for values of unit variance.

    The parts keep their proportions and share one factor; the noise and the blocks have one each. Their
    logarithms have normal priors around those of `START`, of standard deviation `common` for the parts'
    factor and 1 for the others. A few hundred noisy trials say how much they scatter, hardly how much of
    it is due to prompts, and not why: with a variance for every part the search was worse (docs/search.md).

    Returns:
        The variances, and the log posterior density reached.
    """
    design = Design.of(choices, model.pool)
    index: dict[Choice, int] = {}
    own = np.array([index.setdefault(choice, len(index)) for choice in choices], dtype=np.int64)
    kernels = model.kernels(model.rows(design), design, own, np.array(blocks, dtype=np.int64))
    fixed = START["constant"] * kernels["constant"] + 1e-6 * np.eye(len(values))
    signal = np.zeros_like(fixed)
    for name in PARTS:
        signal += START[name] * kernels[name]
    stack = [signal, *(START[name] * kernels[name] for name in _FREE)]
    noise = START["noise"] / weights
    widths = np.array([common, *(1.0 for _ in _FREE), 1.0])

    def loss(theta: Floats) -> tuple[float, Floats]:
        factors = np.exp(theta)
        total = fixed.copy()
        for factor, kernel in zip(factors, stack, strict=False):
            total += factor * kernel
        total[np.diag_indices_from(total)] += factors[-1] * noise
        lower = cho_factor(total, lower=True, check_finite=False)
        alpha = cho_solve(lower, values, check_finite=False)
        log_det = 2 * np.log(np.diag(lower[0])).sum()
        inverse = cho_solve(lower, np.eye(len(values)), check_finite=False)
        inner = np.outer(alpha, alpha) - inverse
        slopes = [float(np.vdot(inner, kernel)) for kernel in stack]
        slopes.append(float(np.diag(inner) @ noise))
        value = 0.5 * (values @ alpha + log_det) + 0.5 * float(((theta / widths) ** 2).sum())
        return float(value), -0.5 * factors * np.array(slopes) + theta / widths**2

    start = np.zeros(len(widths))
    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", options={"maxiter": steps}, bounds=[(-5, 5)] * 4
    )
    factors = np.exp(found.x)
    fitted = {name: START[name] * float(factors[0]) for name in PARTS}
    fitted |= {
        name: START[name] * float(factor) for name, factor in zip(_FREE, factors[1:], strict=False)
    }
    fitted |= {"noise": START["noise"] * float(factors[-1]), "constant": START["constant"]}
    return fitted, -float(found.fun)
