"""A sampler on a study, asked and told by hand, with every proposal looked at."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, Trial, TrialState

from icl_align.prompt import FORMATS
from icl_align.search.blocks import Blocks
from icl_align.search.choices import Choice, Choices
from icl_align.search.proposing import BLOCK, TRIAL_ATTR
from icl_align.space import Space
from icl_align.types import Example

Pair = tuple[Choice, int]
"""A prompt and the block it is measured on."""


class SamplerMaker(Protocol):
    """Makes a fresh sampler for a space and the ids of the development examples."""

    def __call__(self, space: Space, ids: Sequence[str], seed: int) -> BaseSampler: ...


def small_space(pool: int, k_min: int, k_max: int, *, choices: int = 1) -> Space:
    """Makes a space of short exemplars, with so many choices (1 or 2) in each other dimension."""
    return Space(
        systems=("Be kind.", "Be brief.")[:choices],
        pool=tuple(Example(f"Question {i}?", f"Answer {i}.", id=f"e{i}") for i in range(pool)),
        k_min=k_min,
        k_max=k_max,
        formats=(FORMATS["block"], FORMATS["colon"])[:choices],
        temperatures=(0.0, 0.7)[:choices],
    )


class Landscape:
    """True qualities of prompts: the mean of their exemplars' effects, and that of the system text."""

    def __init__(self, space: Space, seed: int) -> None:
        rng = np.random.default_rng([seed, 0x1A4D])
        self._exemplars = rng.normal(0.0, 0.15, len(space.pool))
        self._systems = rng.normal(0.0, 0.05, len(space.systems))
        self._seed = seed

    def quality(self, choice: Choice) -> float:
        """Gives the expected score of a prompt, in [0, 1]."""
        effects = [float(self._exemplars[index]) for index in choice.exemplars]
        shift = math.fsum(effects) / len(effects) if effects else 0.0
        return min(1.0, max(0.0, 0.5 + shift + float(self._systems[choice.system])))

    def value(self, number: int, choice: Choice) -> float:
        """Gives what a trial measures: the quality with a little noise."""
        noise = float(np.random.default_rng([self._seed, number]).normal(0.0, 0.02))
        return min(1.0, max(0.0, self.quality(choice) + noise))


class Desk:
    """One worker's view of a study: its sampler asks, it tells.

    Attributes:
        sampler: What is checked; may be replaced by a fresh one between trials.
        study: Its study, which maximises.
        count: How many blocks there are.
    """

    def __init__(
        self,
        make: SamplerMaker,
        space: Space,
        ids: Sequence[str],
        seed: int,
        storage: optuna.storages.BaseStorage | None = None,
    ) -> None:
        self._make = partial(_made, make, space, ids, seed)
        self._choices, self._ids = Choices(space), ids
        self.landscape = Landscape(space, 0)
        self.study = optuna.create_study(
            storage=storage, study_name="check", direction="maximize", load_if_exists=True
        )
        self.renew()

    def renew(self) -> None:
        """Goes on with a fresh sampler, as a process does that was started again."""
        self.sampler = self._make()
        self.study.sampler = _Watch(self.sampler)
        dimensions: Callable[[], dict[str, BaseDistribution]] = getattr(
            self.sampler, "distributions", self._choices.space.distributions
        )
        self.dimensions = dimensions()
        self._blocks: Blocks | None = getattr(self.sampler, "blocks", None)

    @property
    def count(self) -> int:
        """How many blocks a prompt can be measured on."""
        return len(self._blocks) if self._blocks else 1

    def ask(self, when: str) -> Trial:
        """Begins a trial.

        Raises:
            AssertionError: the sampler raised an error, or proposed what is outside.
        """
        try:
            return self.study.ask(self.dimensions)
        except _OutsideError:
            raise
        except Exception as error:
            raise AssertionError(f"a sampler must give a proposal {when}: {error!r}") from error

    def pair(self, trial: Trial | FrozenTrial) -> Pair:
        """Reads a trial's prompt and block."""
        return self._choices.read(trial.params), int(trial.params.get(BLOCK, 0))

    def tell(self, trial: Trial) -> None:
        """Ends a trial with what it measured."""
        self.study.tell(trial, self.landscape.value(trial.number, self.pair(trial)[0]))

    def tell_verdicts(self, trial: Trial, missing: int) -> None:
        """Ends a trial with a record per example, every `missing`-th verdict missing."""
        value = self.landscape.value(trial.number, self.pair(trial)[0])
        ids = self._blocks.ids[self.pair(trial)[1]] if self._blocks else self._ids
        scores: dict[str, dict[str, Any]] = {
            name: {"value": None if position % missing == 0 else value, "aspects": {}}
            for position, name in enumerate(ids)
        }
        trial.set_user_attr(TRIAL_ATTR, {"scores": scores})
        there = any(score["value"] is not None for score in scores.values())
        self.study.tell(trial, value if there else None, None if there else TrialState.FAIL)

    def run(self, trials: int, *, fresh: bool = False) -> list[Pair]:
        """Asks and tells so many trials, on request each with a fresh sampler."""
        pairs = []
        for _ in range(trials):
            if fresh:
                self.renew()
            trial = self.ask("after trials that went well")
            pairs.append(self.pair(trial))
            self.tell(trial)
        return pairs


def within(seconds: float, what: str, check: Callable[[], None]) -> None:
    """Runs a check in a thread of its own, so that one that hangs can be told.

    Raises:
        AssertionError: it broke a promise, or is not done in so many seconds.
    """
    raised: list[BaseException] = []

    def run() -> None:
        try:
            check()
        except BaseException as error:  # noqa: BLE001 - given to the caller's thread
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), f"a sampler must not hang: {what} took more than {seconds:g} s"
    if raised:
        raise raised[0]


def _made(make: SamplerMaker, space: Space, ids: Sequence[str], seed: int) -> BaseSampler:
    sampler = make(space, ids, seed)
    assert isinstance(sampler, BaseSampler), (
        f"a factory must give an optuna.samplers.BaseSampler, it gave {type(sampler).__name__}"
    )
    return sampler


class _OutsideError(AssertionError):
    """A proposal is not inside the distributions; no other error of a sampler is of this type."""


class _Watch(BaseSampler):
    """Passes everything on, and looks at the proposals before Optuna mends them.

    Optuna draws anew what a sampler proposes outside of its dimension, without a word.
    """

    def __init__(self, sampler: BaseSampler) -> None:
        self._sampler = sampler

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        values: Mapping[str, Any] = self._sampler.sample_relative(study, trial, search_space)
        for name, value in values.items():
            if name not in search_space:
                raise _OutsideError(
                    f"a proposal must lie inside the distributions: there is no dimension {name!r}"
                )
            _check_inside(name, value, search_space[name])
        return dict(values)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        value = self._sampler.sample_independent(study, trial, param_name, param_distribution)
        _check_inside(param_name, value, param_distribution)
        return value

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._sampler.before_trial(study, trial)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        self._sampler.after_trial(study, trial, state, values)


def _check_inside(name: str, value: Any, dimension: BaseDistribution) -> None:
    inside = True
    if isinstance(dimension, CategoricalDistribution):
        inside = value in dimension.choices
    elif isinstance(dimension, IntDistribution):
        whole = isinstance(value, int | np.integer)
        inside = whole and bool(dimension.low <= value <= dimension.high)
    if not inside:
        raise _OutsideError(
            f"a proposal must lie inside the distributions: {name!r} is {value!r}, not in {dimension}"
        )
