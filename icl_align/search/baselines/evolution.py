"""An evolution of prompts: 8 parents, 16 children, survivors measured again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from icl_align.search.baselines.method import Method, Table, first
from icl_align.search.baselines.variation import cross, mutate
from icl_align.search.choices import Choice
from icl_align.search.proposing import Estimate, Row

PARENTS, CHILDREN = 8, 16
_CROSSED = 0.5
_SWEEPS = 20
_TRIES = 100
_TRUSTED = 3


class Evolution(Method):
    """A (8 + 16) evolution over all dimensions, with selection that luck does not survive for long.

    A generation is 16 new prompts (24 at first), measured on a block of the generation's own; then the
    8 best of all are measured on one further block each. Prompts measured on different blocks are
    compared by an additive model: a prompt's effect plus a block's.
    """

    def propose(self, history: Sequence[Row], rng: np.random.Generator) -> tuple[Choice, int]:
        """Gives a child while the generation is not full, then a survivor on a further block."""
        table = Table(history)
        effects = prompt_effects(table)
        best = sorted(effects, key=lambda choice: -effects[choice])[:PARENTS]
        born = len(table.order)
        generation = max(0, -(-(born - PARENTS - CHILDREN) // CHILDREN))
        full = born > 0 and born == PARENTS + CHILDREN * (generation + 1)
        if full:
            again = _repeats_at_the_end(history)
            if len(again) < min(PARENTS, len(best)):
                for choice in best:
                    left = table.unasked(choice, range(len(self.cut)))
                    if choice not in again and left:
                        return choice, left[0]
            generation += 1
        child = self._child(best, table, rng) if generation else self._newcomer(table, rng)
        if child is None:
            return self.rest(table, rng, best)
        return child, generation % len(self.cut)

    def recommend(self, history: Sequence[Row]) -> list[Estimate]:
        """Gives the prompts by their effects, those measured on 3 blocks or more before the others."""
        table = Table(history)
        effects = prompt_effects(table)
        return first(
            sorted(effects, key=lambda c: (-min(len(table.told(c)), _TRUSTED), -effects[c])),
            history,
        )

    def _newcomer(self, table: Table, rng: np.random.Generator) -> Choice | None:
        """Draws a prompt that is new; None where none is found."""
        drawn = (self.choices.random(rng) for _ in range(_TRIES))
        return next((choice for choice in drawn if choice not in table.order), None)

    def _child(
        self, parents: Sequence[Choice], table: Table, rng: np.random.Generator
    ) -> Choice | None:
        """Makes a prompt that is new, of one or two parents."""
        known = set(table.order)
        for _ in range(_TRIES if parents else 0):
            mother, father = (parents[int(rng.integers(len(parents)))] for _ in range(2))
            crossed = mother != father and rng.random() < _CROSSED
            child = cross(self.choices, mother, father, rng) if crossed else mother
            if child in known:
                child = mutate(self.choices, child, rng)
            if child not in known:
                return child
        return self._newcomer(table, rng)


def prompt_effects(table: Table) -> Mapping[Choice, float]:
    """Gives each prompt's mean with the blocks' effects taken out.

    Least squares of value = prompt + block, weighted by verdicts, by backfitting. Blocks' effects
    sum to nothing in the sense that the first estimate of a prompt is its plain mean.
    """
    cells = [
        (p, block, value, n)
        for p, choice in enumerate(table.order)
        for block, (value, n) in table.told(choice).items()
    ]
    if not cells:
        return {}
    prompts, blocks, values, weights = (np.array(column) for column in zip(*cells, strict=True))
    per_prompt = np.bincount(prompts, weights)
    per_block = np.maximum(np.bincount(blocks, weights), 1)
    of_block = np.zeros(len(per_block))
    for _ in range(_SWEEPS):
        rest = weights * (values - of_block[blocks])
        of_prompt = np.bincount(prompts, rest) / np.maximum(per_prompt, 1)
        rest = weights * (values - of_prompt[prompts])
        of_block = np.bincount(blocks, rest) / per_block
    return {table.order[p]: float(of_prompt[p]) for p in sorted(set(prompts.tolist()))}


def _repeats_at_the_end(history: Sequence[Row]) -> set[Choice]:
    """Gives the prompts that were measured again since the last new one."""
    known: set[Choice] = set()
    again: set[Choice] = set()
    for row in history:
        again = again | {row.choice} if row.choice in known else set()
        known.add(row.choice)
    return again
