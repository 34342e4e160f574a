"""MIPROv2's search (2406.11695) over fixed random sets of exemplars, as an ask-and-tell sampler.

The schedule, the sampler and its settings are those of DSPy 3.4.1's `MIPROv2` (step 3). The system
texts stand for the instructions it would have had written, and the sets are drawn, not bootstrapped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState

from icl_align.search.baselines.method import Method, Table, first
from icl_align.search.choices import Choice
from icl_align.search.proposing import Estimate, Row
from icl_align.space import Space

MINIBATCH = 35
FULL_STEPS = 5
_SETTINGS = (18, 12, 6)
_REDRAWS = 5


def sizes(examples: int, evaluations: int) -> tuple[int, int]:
    """Fixes what MIPROv2 leaves to its user, for a budget.

    Args:
        examples: How many development examples there are.
        evaluations: The budget, in (prompt, example) pairs.

    Returns:
        How many examples a full evaluation takes: a 15th of the budget, so that there can be about
        30 trials of 35 examples with one full evaluation for 5 of them, but at least 35. And how many
        sets: 18, 12 or 6 as in DSPy's settings "heavy", "medium" and "light", by its rule of at
        least 1.5 trials per set.
    """
    full = min(examples, max(MINIBATCH, evaluations // 15))
    trials = (evaluations - full) / (min(MINIBATCH, full) + full / FULL_STEPS)
    return full, next((n for n in _SETTINGS if 1.5 * n <= trials), _SETTINGS[-1])


@dataclass(frozen=True, slots=True)
class _Step:
    """One of MIPROv2's trials: a prompt, and the blocks it is measured on."""

    choice: Choice
    blocks: tuple[int, ...]
    full: bool


class MiproSets(Method):
    """Optuna's TPE over two categoricals: which system text, and which of N sets of exemplars.

    Every trial is measured on a minibatch of about 35 examples; after each 5 the prompt with the
    best mean so far is measured fully, and the best full mean wins. Format and decoding are never
    varied.

    Attributes:
        sets: The sets: one without exemplars where K may be 0, the others of K_max in random order.
        minibatch: Number of blocks that are a minibatch.
        full: Number of blocks that are a full evaluation.
    """

    def __init__(
        self, space: Space, *, ids: Sequence[str], seed: int = 0, evaluations: int
    ) -> None:
        """Draws the sets.

        Args:
            space: What may vary.
            ids: Ids of the development examples.
            seed: Seed of the blocks, the sets and the minibatches.
            evaluations: The budget, in (prompt, example) pairs.

        Raises:
            UserError: no ids, or a budget below 1.
        """
        super().__init__(space, ids=ids, seed=seed, evaluations=evaluations)
        per_block = self.cut.total / len(self.cut)
        full, number = sizes(self.cut.total, evaluations)
        self.minibatch = min(len(self.cut), max(1, round(MINIBATCH / per_block)))
        self.full = min(len(self.cut), max(self.minibatch, round(full / per_block)))
        rng = np.random.default_rng([seed, 0x5E75])
        drawn: dict[tuple[int, ...], None] = {} if space.k_min else {(): None}
        for _ in range(10 * number):
            if len(drawn) == number:
                break
            order = rng.permutation(len(space.pool))[: space.k_max]
            drawn[tuple(int(index) for index in order)] = None
        self.sets = tuple(drawn)
        self._places = {
            Choice(exemplars, system): {"system": system, "set": number}
            for system in range(len(space.systems))
            for number, exemplars in enumerate(self.sets)
        }

    def propose(self, history: Sequence[Row], rng: np.random.Generator) -> tuple[Choice, int]:
        """Gives the next block of the trial under way, or begins the next trial."""
        table = Table(history)
        steps = self._steps(history)
        for step in steps:
            if left := table.unasked(step.choice, step.blocks):
                return step.choice, left[0]
        new = next((c for c in self._next(steps, table, rng) if self._left(c, steps)), None)
        if new is None:
            return self.rest(table, rng, self._winners(steps, table))
        return new, self._step(new, steps).blocks[0]

    def recommend(self, history: Sequence[Row]) -> list[Estimate]:
        """Gives the prompts that were measured fully first, by their full means."""
        return first(self._winners(self._steps(history), Table(history)), history)

    def _steps(self, history: Sequence[Row]) -> list[_Step]:
        """Reads the trials so far; a prompt outside the sets, such as a warm start, is none."""
        steps: list[_Step] = []
        seen: set[tuple[Choice, int]] = set()
        for row in history:
            block = row.block or 0
            if row.choice in self._places and block < self.full and (row.choice, block) not in seen:
                step = self._step(row.choice, steps)
                steps.append(step)
                seen |= {(step.choice, block) for block in step.blocks} | {(row.choice, block)}
        return steps

    def _step(self, choice: Choice, before: Sequence[_Step]) -> _Step:
        """Gives the trial of a prompt after others: full at first and after each 5, else a minibatch."""
        full = len(before) % (FULL_STEPS + 1) == 0
        left = self._left(choice, before)
        order = np.random.default_rng([self.seed, 0x3B, len(before)]).permutation(self.full)
        mixed = [int(block) for block in order if block in left]
        return _Step(choice, tuple(mixed if full else mixed[: self.minibatch]), full)

    def _left(self, choice: Choice, steps: Sequence[_Step]) -> set[int]:
        """Gives the blocks on which no trial has measured a prompt."""
        done = {block for step in steps if step.choice == choice for block in step.blocks}
        return set(range(self.full)) - done

    def _next(self, steps: Sequence[_Step], table: Table, rng: np.random.Generator) -> list[Choice]:
        """Gives the prompts the next trial may be about, the wanted one first."""
        if not steps:
            return [Choice(self.sets[0])]
        due: list[Choice] = []
        if len(steps) % (FULL_STEPS + 1) == 0:
            due = table.ranked(dict.fromkeys(step.choice for step in steps), range(self.full))
        if any(self._left(choice, steps) for choice in due):
            return due
        drawn = self._sampled(steps, table, int(rng.integers(2**31)))
        places = list(self._places)
        return [*drawn, *(places[index] for index in rng.permutation(len(places)))]

    def _sampled(self, steps: Sequence[_Step], table: Table, seed: int) -> list[Choice]:
        """Asks Optuna's TPE, told of all trials, for some prompts."""
        dimensions = {
            "system": CategoricalDistribution(range(len(self.space.systems))),
            "set": CategoricalDistribution(range(len(self.sets))),
        }
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True)
            study = optuna.create_study(direction="maximize", sampler=sampler)
            for step in steps:
                blocks = range(self.full) if step.full else step.blocks
                mean = table.mean(step.choice, blocks)
                study.add_trial(
                    optuna.trial.create_trial(
                        params=self._places[step.choice],
                        distributions=dict(dimensions),
                        value=mean,
                        state=TrialState.RUNNING if mean is None else TrialState.COMPLETE,
                    )
                )
            drawn = [study.ask(dict(dimensions)).params for _ in range(_REDRAWS)]
        finally:
            optuna.logging.set_verbosity(verbosity)
        return [Choice(self.sets[point["set"]], point["system"]) for point in drawn]

    def _winners(self, steps: Sequence[_Step], table: Table) -> list[Choice]:
        """Gives the prompts measured fully, by their full means."""
        tried = dict.fromkeys(step.choice for step in steps)
        full = [c for c in tried if set(range(self.full)) <= table.told(c).keys()]
        return table.ranked(full, range(self.full))
