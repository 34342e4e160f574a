"""The suite for samplers has teeth: each broken sampler is refused for its own reason."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from icl_align.search.blocks import Blocks
from icl_align.search.choices import Choice
from icl_align.search.proposing import Estimate, ProposingSampler, Row, by_mean
from icl_align.search.samplers import trial_seed
from icl_align.space import Space
from icl_align.testing import check_sampler

Proposal = tuple[Choice, int | None]


class Climbing(ProposingSampler):
    """Keeps the contract: changes one exemplar of a good prompt, and asks for nothing twice."""

    tries: ClassVar[int] = 300

    def propose(self, history: Sequence[Row], rng: np.random.Generator) -> Proposal:
        seen = {(row.choice, row.block) for row in history}
        good = sorted(
            (row for row in history if row.value is not None), key=lambda r: -(r.value or 0)
        )
        proposal = self.draw(good[:3], rng)
        for _ in range(self.tries):
            if proposal not in seen:
                return proposal
            proposal = self.draw((), rng)
        return proposal

    def draw(self, good: Sequence[Row], rng: np.random.Generator) -> Proposal:
        block = int(rng.integers(len(self.blocks))) if self.blocks else None
        choice = self.choices.random(rng)
        if not good or rng.random() < 0.2:
            return choice, block
        leader = good[int(rng.integers(len(good)))].choice
        exemplars = list(leader.exemplars)
        free = [index for index in range(len(self.space.pool)) if index not in exemplars]
        if exemplars and free:
            exemplars[int(rng.integers(len(exemplars)))] = free[int(rng.integers(len(free)))]
        return Choice(tuple(exemplars), leader.system, leader.format, leader.temperature), block


class Factory:
    """Makes samplers of a class on blocks of 8 examples."""

    def __init__(self, kind: type[ProposingSampler]) -> None:
        self.kind = kind

    def __call__(self, space: Space, ids: Sequence[str], seed: int) -> BaseSampler:
        return self.kind(space, blocks=Blocks.cut(ids, 8, 0), seed=seed)


def whole(space: Space, ids: Sequence[str], seed: int) -> BaseSampler:
    """Makes a sampler that measures every prompt on all examples."""
    del ids
    return Climbing(space, seed=seed)


class Outside(Climbing):
    """Names an exemplar behind the last one; Optuna would draw another without a word."""

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
        point = super().sample_relative(study, trial, search_space)
        return point | {"slot_1": len(self.space.pool)} if "slot_1" in point else point


class Unknown(Climbing):
    """Proposes a dimension that the space does not have."""

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
        return super().sample_relative(study, trial, search_space) | {"top_k": 3}


class Unseeded(Climbing):
    def rng(self, number: int) -> np.random.Generator:
        return np.random.default_rng(secrets.randbits(32))


class Deaf(Climbing):
    def rng(self, number: int) -> np.random.Generator:
        return np.random.default_rng(number)


class Remembering(Climbing):
    """Draws from one stream as long as it lives."""

    def rng(self, number: int) -> np.random.Generator:
        if not hasattr(self, "stream"):
            self.stream = np.random.default_rng(self.seed)
        return self.stream


class Forgetful(Climbing):
    """Asks again for the best prompt from time to time, where it was measured before."""

    def propose(self, history: Sequence[Row], rng: np.random.Generator) -> Proposal:
        told = [row for row in history if row.value is not None]
        if len(told) > 20 and rng.random() < 0.3:
            best = max(told, key=lambda row: row.value or 0)
            return best.choice, best.block
        return super().propose(history, rng)


class Blind(Climbing):
    """Has no eye for what is running, and always tries the same thing next."""

    def propose(self, history: Sequence[Row], rng: np.random.Generator) -> Proposal:
        told = [row for row in history if not row.pending]
        return super().propose(told, np.random.default_rng([self.seed, len(told)]))


class Lazy(Climbing):
    """Gives up too early on finding something new."""

    tries = 1


class Endless(Climbing):
    """Looks for something new for ever."""

    def propose(self, history: Sequence[Row], rng: np.random.Generator) -> Proposal:
        seen = {(row.choice, row.block) for row in history}
        until = time.monotonic() + 5  # for ever, as far as the suite knows
        while time.monotonic() < until:
            proposal = super().propose(history, rng)
            if proposal not in seen:
                return proposal
        return proposal


class Trusting(Climbing):
    """Takes for granted that a trial that has ended has a value."""

    def history(self, study: optuna.Study) -> list[Row]:
        for trial in study.get_trials(deepcopy=False):
            assert trial.state != optuna.trial.TrialState.FAIL
        return super().history(study)


class Frail(Climbing):
    """Stumbles over a trial that was stopped."""

    def history(self, study: optuna.Study) -> list[Row]:
        for trial in study.get_trials(deepcopy=False):
            if trial.state == optuna.trial.TrialState.PRUNED:
                trial.intermediate_values[max(trial.intermediate_values)]
        return super().history(study)


class Leading(Climbing):
    """Needs a first exemplar."""

    def propose(self, history: Sequence[Row], rng: np.random.Generator) -> Proposal:
        choice, block = super().propose(history, rng)
        assert choice.exemplars[0] >= 0
        return choice, block


class Swapping(Climbing):
    """Needs an exemplar that is not in the prompt."""

    def propose(self, history: Sequence[Row], rng: np.random.Generator) -> Proposal:
        choice, block = super().propose(history, rng)
        next(index for index in range(len(self.space.pool)) if index not in choice.exemplars)
        return choice, block


class Many(Climbing):
    """Needs a second block."""

    def propose(self, history: Sequence[Row], rng: np.random.Generator) -> Proposal:
        assert self.blocks is not None
        assert len(self.blocks) > 1
        return super().propose(history, rng)


class Lonely(Climbing):
    """Cannot stand a second one of its kind at work."""

    at_work: ClassVar[set[int]] = set()

    def propose(self, history: Sequence[Row], rng: np.random.Generator) -> Proposal:
        self.at_work.add(threading.get_ident())
        try:
            time.sleep(0.005)
            if len(self.at_work) > 1:
                raise RuntimeError("someone else is here")
            return super().propose(history, rng)
        finally:
            self.at_work.discard(threading.get_ident())


class Aimless(Climbing):
    def draw(self, good: Sequence[Row], rng: np.random.Generator) -> Proposal:
        return super().draw((), rng)


class Slow(Climbing):
    def propose(self, history: Sequence[Row], rng: np.random.Generator) -> Proposal:
        time.sleep(0.3 if len(history) >= 300 else 0)
        return super().propose(history, rng)


class Inventive(Climbing):
    """Recommends what nobody has measured."""

    def recommend(self, history: Sequence[Row]) -> list[Estimate]:
        found = by_mean(history)
        return [Estimate(self.choices.random(self.rng(0)), 1.0, None, 0), *found] if found else []


class Stammering(Climbing):
    def recommend(self, history: Sequence[Row]) -> list[Estimate]:
        return by_mean(history) * 2


BROKEN: dict[type[ProposingSampler], str] = {
    Outside: "must lie inside the distributions: 'slot_1' is 12",
    Unknown: "there is no dimension 'top_k'",
    Unseeded: "the same seed must give the same study",
    Deaf: "another seed must give another study",
    Remembering: "a fresh sampler must go on with a study",
    Forgetful: "what was measured must not be proposed again: trials",
    Blind: "what is being measured must not be proposed again",
    Lazy: "must not be proposed again while there is something new",
    Endless: "must not hang: asking beyond the end of a tiny space",
    Trusting: "must give a proposal after a trial that failed",
    Frail: "must give a proposal after a trial that was stopped without a value",
    Leading: "must give a proposal where K is 0",
    Swapping: "must give a proposal where each dimension has one choice",
    Many: "must give a proposal where .*, with a single example",
    Lonely: "must give a proposal beside another worker",
    Aimless: "must do better than random",
    Slow: "must take at most 0.2 s",
    Inventive: "only prompts that were measured can be recommended",
    Stammering: "a prompt must be recommended once",
}


@pytest.mark.parametrize("make", [Factory(Climbing), whole], ids=["blocks", "whole"])
def test_a_sampler_that_keeps_the_contract_passes(make: Any) -> None:
    """The suite passes on one with blocks, and on one without."""
    check_sampler(make)


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_a_broken_sampler_is_refused_for_its_own_reason(kind: type[ProposingSampler]) -> None:
    """Each broken promise is named."""
    patience = 2.0 if kind is Endless else 60.0
    with pytest.raises(AssertionError, match=BROKEN[kind]):
        check_sampler(Factory(kind), learns=kind is Aimless, seconds=0.2, patience=patience)


class PerTrial(BaseSampler):
    """An Optuna sampler made anew for each trial and seeded by its number, as the sweep does it."""

    def __init__(self, kind: type[TPESampler | RandomSampler], seed: int) -> None:
        self.kind, self.seed = kind, seed

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self.sampler: BaseSampler = self.kind(seed=trial_seed(self.seed, trial.number))

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self.sampler.infer_relative_search_space(study, trial)

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
        return self.sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Any, trial: Any, param_name: str, param_distribution: Any
    ) -> Any:
        return self.sampler.sample_independent(study, trial, param_name, param_distribution)


def test_optunas_samplers_pass_for_what_they_are() -> None:
    """TPE repeats prompts, and goes on with its own stream; made anew for each trial it resumes."""
    check_sampler(lambda _space, _ids, seed: TPESampler(seed=seed), repeats=True, resumes=False)
    check_sampler(
        lambda _space, _ids, seed: PerTrial(TPESampler, seed),
        repeats=True,
        learns=False,
        seconds=None,
    )
    check_sampler(
        lambda _space, _ids, seed: PerTrial(RandomSampler, seed), repeats=True, learns=False
    )


@pytest.mark.parametrize(
    ("allowed", "reason"),
    [
        ({"repeats": True}, "a fresh sampler must go on with a study"),
        ({"resumes": False}, "must not be proposed again"),
    ],
)
def test_what_optunas_samplers_do_must_be_allowed(allowed: dict[str, Any], reason: str) -> None:
    """A plain TPE is held to the whole contract unless its user lets it off."""
    with pytest.raises(AssertionError, match=reason):
        check_sampler(lambda _space, _ids, seed: TPESampler(seed=seed), **allowed)


def test_a_factory_that_gives_no_sampler_is_refused() -> None:
    """What is made must be a sampler of Optuna's kind."""
    nothing: Any = lambda _space, _ids, _seed: "tpe"  # noqa: E731 - one line says it
    with pytest.raises(
        AssertionError, match="must give an optuna.samplers.BaseSampler, it gave str"
    ):
        check_sampler(nothing)
