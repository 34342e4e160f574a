"""What the baselines share: blocks cut from a budget, and a history read by prompt and block."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from icl_align.errors import UserError
from icl_align.search.blocks import Blocks
from icl_align.search.choices import Choice
from icl_align.search.proposing import Estimate, ProposingSampler, Row, by_mean
from icl_align.space import Space

BLOCK_SIZE = 8
_TRIES = 200


class Table:
    """A history by prompt and block.

    Attributes:
        order: The prompts, by when they were first asked for.
    """

    def __init__(self, history: Sequence[Row]) -> None:
        self.order = list(dict.fromkeys(row.choice for row in history))
        self._asked = {(row.choice, row.block or 0) for row in history}
        self._told: dict[Choice, dict[int, tuple[float, int]]] = {}
        for row in history:
            if row.value is not None and row.n:
                self._told.setdefault(row.choice, {})[row.block or 0] = (row.value, row.n)

    def asked(self, choice: Choice, block: int) -> bool:
        """Says whether a prompt was measured on a block, or is just now."""
        return (choice, block) in self._asked

    def unasked(self, choice: Choice, blocks: Iterable[int]) -> list[int]:
        """Gives those of the blocks on which a prompt is still to be measured."""
        return [block for block in blocks if (choice, block) not in self._asked]

    def told(self, choice: Choice) -> dict[int, tuple[float, int]]:
        """Gives the mean and the number of verdicts of a prompt, by block."""
        return self._told.get(choice, {})

    def mean(self, choice: Choice, blocks: Iterable[int] | None = None) -> float | None:
        """Gives the mean of a prompt's verdicts on some blocks, or on all; None without any."""
        told = self.told(choice)
        found = [told[block] for block in (told if blocks is None else blocks) if block in told]
        total = sum(n for _, n in found)
        return math.fsum(value * n for value, n in found) / total if total else None

    def ranked(
        self, choices: Iterable[Choice], blocks: Iterable[int] | None = None
    ) -> list[Choice]:
        """Gives those prompts that have verdicts, the best mean first, the earlier among equals."""
        wanted = None if blocks is None else list(blocks)
        means = {choice: self.mean(choice, wanted) for choice in choices}
        known = {choice: mean for choice, mean in means.items() if mean is not None}
        return sorted(known, key=lambda choice: -known[choice])


class Method(ProposingSampler):
    """A baseline: a sampler that is given the examples and the budget, and cuts its own blocks.

    A baseline goes by stages, and a stage is judged by what is told when everything in it was asked
    for: with many workers some of that may still be running.

    Attributes:
        cut: The blocks, as `blocks` but never None.
        budget: How many blocks the budget pays for, at least 1.
    """

    def __init__(
        self,
        space: Space,
        *,
        ids: Sequence[str],
        seed: int = 0,
        evaluations: int,
        size: int = BLOCK_SIZE,
    ) -> None:
        """Cuts the blocks.

        Args:
            space: What may vary.
            ids: Ids of the development examples.
            seed: Seed of the blocks and of everything that is drawn.
            evaluations: The budget, as a number of (prompt, example) pairs; it fixes sizes of stages,
                and nothing ends when it is used up.
            size: Wanted examples per block.

        Raises:
            UserError: no ids, or a budget below 1.
        """
        if evaluations < 1:
            raise UserError(f"a search needs a budget of at least 1 evaluation, got {evaluations}")
        self.cut = Blocks.cut(ids, size, seed)
        super().__init__(space, blocks=self.cut, seed=seed)
        self.evaluations = evaluations
        self.budget = max(1, evaluations * len(self.cut) // self.cut.total)

    def rest(
        self, table: Table, rng: np.random.Generator, ranked: Iterable[Choice] = ()
    ) -> tuple[Choice, int]:
        """Gives what to do with a budget that outlasts a method.

        The given prompts are measured on all blocks, the first one first, then new ones are drawn.
        Only where a space is used up altogether does a pair come again.
        """
        everything = range(len(self.cut))
        for choice in ranked:
            if left := table.unasked(choice, everything):
                return choice, left[0]
        for _ in range(_TRIES):
            choice = self.choices.random(rng)
            if left := table.unasked(choice, everything):
                return choice, left[0]
        return choice, int(rng.integers(len(self.cut)))


def first(winners: Sequence[Choice], history: Sequence[Row]) -> list[Estimate]:
    """Ranks the measured prompts: a method's own winners, in its order, then the others."""
    place = {choice: number for number, choice in enumerate(winners)}
    estimates = by_mean(history)
    return sorted(estimates, key=lambda estimate: place.get(estimate.choice, len(place)))
