"""A Gaussian process over prompts whose kernel knows how a prompt is made, and samples of it as tables.

All its parts are linear in finitely many features of a prompt (who is in it, where, with whom, under which
system text), so its posterior mean, and every function drawn from it, can be written as tables of effects.
A candidate then costs a few look-ups, however many trials there have been.

`features` says what a prompt is to the kernel, `fit` how much each part of its value varies, `tables` is a
function over prompts, and `prior` and `posterior` draw such functions before and after the trials.
"""

from __future__ import annotations

from icl_align.search.surrogate.features import (
    PARTS,
    Design,
    Model,
    Pool,
    features_of,
    pool_of,
    positions,
)
from icl_align.search.surrogate.fit import START, fit_variances
from icl_align.search.surrogate.posterior import Posterior
from icl_align.search.surrogate.tables import Tables

__all__ = [
    "PARTS",
    "START",
    "Design",
    "Model",
    "Pool",
    "Posterior",
    "Tables",
    "features_of",
    "fit_variances",
    "pool_of",
    "positions",
]
