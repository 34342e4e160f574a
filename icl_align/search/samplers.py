"""Samplers by name, and the seam for one's own.

A sampler factory is called with `seed=...` and gives an `optuna.samplers.BaseSampler`: a function
of one's own, or most of Optuna's classes themselves. The sweep makes a fresh sampler
for every trial, seeded by the experiment's seed and the trial's number, so that a run that was
killed and continued draws the very same random stream. A sampler must therefore keep what it
learns in the study (as Optuna's TPE, GP and random samplers do), not in itself.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from icl_align.errors import UserError
from icl_align.parts import load_part


class SamplerFactory(Protocol):
    """Makes the sampler of one trial; any callable that can be called with `seed=...`."""

    def __call__(self, seed: int) -> BaseSampler: ...


def tpe(seed: int) -> BaseSampler:
    """Makes Optuna's multivariate tree-structured Parzen estimator, with its own defaults."""
    return TPESampler(seed=seed)


def random(seed: int) -> BaseSampler:
    """Makes a sampler that draws every dimension uniformly."""
    return RandomSampler(seed=seed)


def trial_seed(seed: int, number: int) -> int:
    """Derives the seed of one trial's sampler, in [0, 2**31)."""
    digest = hashlib.sha256(f"{seed}:{number}".encode("ascii")).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def load_sampler(name: str) -> SamplerFactory:
    """Finds a sampler factory: "tpe", "random", "package.module:attr" or "path/to/file.py:attr".

    Raises:
        UserError: no such name, module, file or attribute, or it does not give a sampler.
    """
    known: dict[str, SamplerFactory] = {"tpe": tpe, "random": random}
    if name in known:
        return known[name]
    if ":" not in name:
        raise UserError(
            f"a sampler is one of {', '.join(known)}, or 'module:attr', or 'file.py:attr'; "
            f"got {name!r}"
        )
    factory = load_part("sampler", name)

    def checked(seed: int) -> BaseSampler:
        try:
            sampler = factory(seed=seed)
        except TypeError as error:
            raise UserError(f"sampler {name!r} cannot be called with a seed: {error}") from error
        if not isinstance(sampler, BaseSampler):
            raise UserError(
                f"sampler {name!r} must give an optuna.samplers.BaseSampler "
                "when called with a seed, "
                f"it gave {type(sampler).__name__}"
            )
        return sampler

    checked.__qualname__ = name
    checked(0)
    return checked
