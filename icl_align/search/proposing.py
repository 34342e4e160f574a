"""What all samplers of ours share: a study read as history, a choice and a block proposed from it.

Such a sampler keeps nothing that it could not read from the study again, and draws from a stream that
belongs to the trial's number. So a run that was killed and continued proposes what an unbroken one
would have, and several workers can each have one on the same storage.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from icl_align.search.blocks import Blocks
from icl_align.search.choices import Choice, Choices
from icl_align.search.goal import Goal
from icl_align.space import Space

BLOCK = "block"
"""The parameter that says on which block of examples a trial measures its prompt."""
TRIAL_ATTR = "trial"
"""The user attribute that holds all that was measured in a trial."""
_TOLD = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@dataclass(frozen=True, slots=True)
class Row:
    """One trial, as a sampler sees it.

    Attributes:
        number: The trial's number.
        choice: Its prompt.
        block: The block it was measured on; None for all examples at once.
        value: The mean of the verdicts there; None while it is running, or without any verdict.
        n: How many verdicts.
        pending: True while it is running.
        aspect: The mean of the constrained aspect, where there is one.
    """

    number: int
    choice: Choice
    block: int | None
    value: float | None
    n: int
    pending: bool = False
    aspect: float | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a sampler believes about a prompt's mean over all development examples.

    Attributes:
        choice: The prompt.
        mean: The expected mean.
        sd: Its standard deviation; None where the sampler has no model of it.
        n: Verdicts of this very prompt.
        allowed: Whether it is believed to keep the constraint.
    """

    choice: Choice
    mean: float
    sd: float | None
    n: int
    allowed: bool = True


class ProposingSampler(BaseSampler):
    """An Optuna sampler over a space, and the blocks of the development examples.

    A trial's parameters are those of `Space.distributions()` and, with blocks, "block". Its value is the
    mean over that block, or over all examples without blocks.

    Attributes:
        space: What may vary.
        blocks: The blocks; None to measure every prompt on all examples at once.
        seed: Seed of everything it draws.
        goal: What is wanted besides quality.
        spent: Share of the budget that is used up, in [0, 1]; the sweep keeps it up to date, and a
            sampler may do otherwise towards the end.
    """

    def __init__(self, space: Space, *, blocks: Blocks | None = None, seed: int = 0) -> None:
        self.space, self.blocks, self.seed = space, blocks, seed
        self.choices = Choices(space)
        self.goal = Goal()
        self.spent = 0.0
        self._fallback = RandomSampler(seed=seed)

    @abstractmethod
    def propose(
        self, history: Sequence[Row], rng: np.random.Generator
    ) -> tuple[Choice, int | None]:
        """Gives the next prompt, and the block to measure it on (None without blocks).

        A prompt may come again on another block, never on the same one.

        Args:
            history: All told and running trials, in order; running ones are pending.
            rng: The trial's own stream.
        """

    def recommend(self, history: Sequence[Row]) -> list[Estimate]:
        """Gives the measured prompts, the one to use first; here by the mean of their verdicts."""
        return by_mean(history)

    def rng(self, number: int) -> np.random.Generator:
        """Gives the stream of one trial."""
        return np.random.default_rng([self.seed, number])

    def distributions(self) -> dict[str, BaseDistribution]:
        """Gives all dimensions of a trial, for `study.ask`."""
        dimensions = self.space.distributions()
        if self.blocks is not None and len(self.blocks) > 1:
            dimensions[BLOCK] = IntDistribution(0, len(self.blocks) - 1)
        return dimensions

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Gives all dimensions: they are drawn together."""
        del study, trial
        return self.distributions()

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: Mapping[str, BaseDistribution],
    ) -> dict[str, Any]:
        """Draws all dimensions of a trial; they are final, nothing is changed after this."""
        if not search_space:
            return {}
        history = [row for row in self.history(study) if row.number < trial.number]
        choice, block = self.propose(history, self.rng(trial.number))
        point = self.choices.write(choice)
        if BLOCK in search_space:
            point[BLOCK] = block or 0
        return point

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Draws a dimension that is not of the space, uniformly."""
        return self._fallback.sample_independent(study, trial, param_name, param_distribution)

    def history(self, study: optuna.Study) -> list[Row]:
        """Reads a study; a failed trial has no value, one that has not all its parameters yet is left out."""
        names = self.distributions()
        rows = []
        for trial in study.get_trials(deepcopy=False):
            if trial.state not in (*_TOLD, TrialState.RUNNING) or any(
                name not in trial.params for name in names
            ):
                continue
            rows.append(self._row(trial))
        return rows

    def _row(self, trial: FrozenTrial) -> Row:
        choice = self.choices.read(trial.params)
        block = None if self.blocks is None else int(trial.params.get(BLOCK, 0))
        if trial.state == TrialState.RUNNING:
            return Row(trial.number, choice, block, None, 0, pending=True)
        stored = trial.user_attrs.get(TRIAL_ATTR)
        if stored is None:  # told by someone's own loop
            value = trial.value
            if value is None or not math.isfinite(value):
                return Row(trial.number, choice, block, None, 0)
            size = 1 if self.blocks is None else self.blocks.sizes[block or 0]
            return Row(trial.number, choice, block, value, size)
        scores = stored["scores"]
        wanted = scores if block is None or self.blocks is None else self.blocks.ids[block]
        found = [scores[name]["value"] for name in wanted if name in scores]
        values = [value for value in found if value is not None]
        aspects = [
            scores[name]["aspects"][self.goal.aspect]
            for name in wanted
            if name in scores and self.goal.aspect in scores[name]["aspects"]
        ]
        return Row(trial.number, choice, block, _mean(values), len(values), aspect=_mean(aspects))


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def by_mean(history: Sequence[Row]) -> list[Estimate]:
    """Ranks measured prompts by the mean of all their verdicts, those on the most blocks first.

    A mean over few examples is not compared with one over many.
    """
    totals: dict[Choice, tuple[float, int, int]] = {}
    for row in history:
        if row.value is not None and row.n:
            total, n, blocks = totals.get(row.choice, (0.0, 0, 0))
            totals[row.choice] = (total + row.value * row.n, n + row.n, blocks + 1)
    found = [
        (-blocks, Estimate(choice, total / n, None, n))
        for choice, (total, n, blocks) in totals.items()
    ]
    found.sort(key=lambda pair: (pair[0], -pair[1].mean, pair[1].choice))
    return [estimate for _, estimate in found]
