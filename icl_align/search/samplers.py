"""Samplers by name, and the seam for one's own.

A recipe makes the sampler of a study: any `optuna.samplers.BaseSampler`. The sweep may be killed and
continued, so a sampler must keep what it learns in the study, not in itself, and must draw a trial from
the trial's own stream. The samplers of ours do; Optuna's are made afresh for every trial.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from icl_align.errors import UserError
from icl_align.parts import load_part
from icl_align.search.goal import Goal
from icl_align.space import Space

DEFAULT_SAMPLER = "structured"


class SamplerFactory(Protocol):
    """Makes the sampler of one trial; any callable that can be called with `seed=...`."""

    def __call__(self, seed: int) -> BaseSampler: ...


@dataclass(frozen=True)
class Task:
    """What a sampler is made for.

    Attributes:
        space: What may vary.
        ids: The ids of the development examples.
        seed: Seed of the study.
        generations: How many prompts on examples the sweep may measure, as far as that is known.
        embedder: Model for the exemplars' embeddings; None for the usual one, "none" for none.
        goal: What is wanted besides quality.
    """

    space: Space
    ids: tuple[str, ...]
    seed: int
    generations: int | None = None
    embedder: str | None = None
    goal: Goal = Goal()


@dataclass(frozen=True)
class Recipe:
    """How the trials of a study come to be.

    Attributes:
        name: What a study remembers.
        make: Makes the sampler.
        pruner: Makes what may stop a trial between two blocks, given the number of examples; None to
            measure a trial to its end.
        block: Examples between two looks of the pruner.
        goals: Whether the sampler heeds what is wanted besides quality.
    """

    name: str
    make: Callable[[Task], BaseSampler]
    pruner: Callable[[int], BasePruner] | None = None
    block: int = 8
    goals: bool = False


class Reseeded(BaseSampler):
    """A sampler of Optuna's, made afresh for every trial and seeded by the trial's number."""

    def __init__(self, factory: SamplerFactory, seed: int) -> None:
        self._factory, self._seed = factory, seed
        self._made: tuple[int, BaseSampler] | None = None

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        if self._made is None or self._made[0] != trial.number:
            self._made = trial.number, self._factory(seed=trial_seed(self._seed, trial.number))
        return self._made[1]

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """As the sampler's."""
        self._made = None
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: Mapping[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As the sampler's."""
        return self._of(trial).sample_relative(study, trial, dict(search_space))

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """As the sampler's."""
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: optuna.trial.TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """As the sampler's."""
        self._of(trial).after_trial(study, trial, state, values)


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


def per_trial(name: str, factory: SamplerFactory, **others: Any) -> Recipe:
    """Makes a recipe of a factory that is called with `seed=...` for every trial."""
    return Recipe(name, lambda task: Reseeded(factory, task.seed), **others)


def _structured(task: Task) -> BaseSampler:
    from icl_align.search.meaning import WITHOUT, embed_exemplars
    from icl_align.search.structured import StructuredSampler

    return StructuredSampler(
        task.space,
        ids=task.ids,
        seed=task.seed,
        generations=task.generations,
        embeddings=None
        if task.embedder == WITHOUT or not task.space.pool
        else embed_exemplars(task.space.pool, task.embedder),
        goal=task.goal,
    )


def _wilcoxon(count: int) -> BasePruner:
    del count
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.pruners.WilcoxonPruner(p_threshold=0.1)


def _racing(count: int) -> BasePruner:
    from icl_align.search.racing import RacingPruner

    return RacingPruner(count, every=1)  # the sweep asks at the ends of blocks only


def _baseline(name: str) -> Recipe:
    def make(task: Task) -> BaseSampler:
        from icl_align.search.baselines import METHODS

        if task.generations is None:
            raise UserError(f"the sampler {name!r} plans ahead: give it a budget of generations")
        return METHODS[name](task.space, ids=task.ids, seed=task.seed, evaluations=task.generations)

    return Recipe(name, make)


RECIPES: dict[str, Recipe] = {
    DEFAULT_SAMPLER: Recipe(DEFAULT_SAMPLER, _structured, goals=True),
    "tpe": per_trial("tpe", tpe),
    "tpe-wilcoxon": per_trial("tpe-wilcoxon", tpe, pruner=_wilcoxon),
    "tpe-racing": per_trial("tpe-racing", tpe, pruner=_racing),
    "random": per_trial("random", random),
    "random-racing": per_trial("random-racing", random, pruner=_racing),
    **{name: _baseline(name) for name in ("greedy", "halving", "evolution", "mipro_sets")},
}
"""The samplers that have a name."""


def load_sampler(name: str) -> Recipe:
    """Finds a recipe: by its name in `RECIPES`, or a factory as "module:attr" or "file.py:attr".

    Raises:
        UserError: no such name, module, file or attribute, or it does not give a sampler.
    """
    if name in RECIPES:
        return RECIPES[name]
    if ":" not in name:
        raise UserError(
            f"a sampler is one of {', '.join(RECIPES)}, or 'module:attr', or 'file.py:attr'; "
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

    checked(0)
    return per_trial(name, checked)


def as_recipe(sampler: str | Recipe | SamplerFactory) -> Recipe:
    """Gives the recipe that is meant: by name, itself, or of a factory called with `seed=...`."""
    if isinstance(sampler, str):
        return load_sampler(sampler)
    if isinstance(sampler, Recipe):
        return sampler
    name = str(getattr(sampler, "__qualname__", type(sampler).__qualname__))
    return per_trial(name, sampler)
