"""Samplers by name, and the seam for one's own.

A sampler factory is called with `seed=...` and gives an `optuna.samplers.BaseSampler`: a function
of one's own, or most of Optuna's classes themselves. The sweep makes a fresh sampler
for every trial, seeded by the experiment's seed and the trial's number, so that a run that was
killed and continued draws the very same random stream. A sampler must therefore keep what it
learns in the study (as Optuna's TPE, GP and random samplers do), not in itself.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Protocol

from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from icl_align.errors import UserError


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
    place, colon, attribute = name.rpartition(":")
    if not colon or not place or not attribute:
        raise UserError(
            f"a sampler is one of {', '.join(known)}, or 'module:attr', or 'file.py:attr'; "
            f"got {name!r}"
        )
    factory = getattr(_load(place), attribute, None)
    if not callable(factory):
        raise UserError(f"sampler {name!r}: {place} has no callable {attribute!r}")

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


def _load(place: str) -> ModuleType:
    if not place.endswith(".py"):
        try:
            return importlib.import_module(place)
        except ModuleNotFoundError as error:
            raise UserError(f"cannot import sampler module {place!r}: {error}") from error
    path = Path(place)
    if not path.is_file():
        raise UserError(f"sampler file {place} does not exist")
    unique = hashlib.sha256(str(path.resolve()).encode("utf-8", "surrogatepass")).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(f"icl_align_part_{unique}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"sampler file {place} cannot be loaded as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module
