"""Greedy forward selection of exemplars, as icl-alignment does it (2405.19874)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from icl_align.prompt import Prompt
from icl_align.search.baselines.method import BLOCK_SIZE, Method, Table, first
from icl_align.search.choices import Choice
from icl_align.search.proposing import Estimate, Row
from icl_align.space import Space

_FEWEST = 4


class GreedyForward(Method):
    """Adds, one after the other, the exemplar that helps most as the next one.

    All exemplars are tried on one minibatch, which stays the same throughout; it ends at K_max, or when
    none gains. System text, format and decoding are never varied. What the method reports as its
    winner's score is the best of many means over that minibatch, and so too high.

    Attributes:
        start: What it begins with; below K_min exemplars it is not measured itself.
        minibatch: Number of blocks that are the minibatch.
    """

    def __init__(
        self,
        space: Space,
        *,
        ids: Sequence[str],
        seed: int = 0,
        evaluations: int,
        start: Prompt | None = None,
    ) -> None:
        """Fixes the start and the minibatch.

        Args:
            space: What may vary.
            ids: Ids of the development examples.
            seed: Seed of the minibatch and of the order in which exemplars are tried.
            evaluations: The budget, in (prompt, example) pairs; the minibatch is as large as it allows
                when K_max exemplars are added, and never below 4 examples where there are as many.
            start: A hand-written prompt to extend; None begins without exemplars (with the pool's
                first ones up to K_min - 1), and with what the space names first for all else.

        Raises:
            UserError: the start is not in the space, no ids, or a budget below 1.
        """
        share = evaluations // (max(1, space.k_max) * max(1, len(space.pool)))
        size = min(BLOCK_SIZE, max(_FEWEST, share))
        super().__init__(space, ids=ids, seed=seed, evaluations=evaluations, size=size)
        self.minibatch = min(len(self.cut), max(1, share // size))
        self.start = (
            Choice(tuple(range(max(0, space.k_min - 1))))
            if start is None
            else self.choices.read(space.point(start))
        )
        order = np.random.default_rng([seed, 0x93EE]).permutation(len(space.pool))
        self._order = [int(index) for index in order]

    def propose(self, history: Sequence[Row], rng: np.random.Generator) -> tuple[Choice, int]:
        """Gives the next exemplar to try; when nothing is left to try, measures the winner further."""
        table = Table(history)
        winners, following = self._follow(table)
        return following or self.rest(table, rng, winners)

    def recommend(self, history: Sequence[Row]) -> list[Estimate]:
        """Gives the longest prompt that gained first, then those it grew from, then the others."""
        return first(self._follow(Table(history))[0], history)

    def _follow(self, table: Table) -> tuple[list[Choice], tuple[Choice, int] | None]:
        """Retraces the selection: the prompts it took, the last first, and what is to be asked next."""
        base, best = self.start, float("-inf")
        path: list[Choice] = []
        level = [base] if len(base.exemplars) >= self.space.k_min else self._longer(base)
        while level:
            for choice in level:
                if left := table.unasked(choice, range(self.minibatch)):
                    return path, (choice, left[0])
            ranked = table.ranked(level, range(self.minibatch))
            mean = table.mean(ranked[0], range(self.minibatch)) if ranked else None
            if mean is None or mean <= best:
                break
            base, best = ranked[0], mean
            path.insert(0, base)
            level = self._longer(base)
        return path, None

    def _longer(self, base: Choice) -> list[Choice]:
        """Gives a prompt with each further exemplar as its last."""
        if len(base.exemplars) >= self.space.k_max:
            return []
        new = [index for index in self._order if index not in base.exemplars]
        return [replace(base, exemplars=(*base.exemplars, index)) for index in new]
