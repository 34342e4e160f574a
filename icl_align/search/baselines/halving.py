"""Successive halving of random prompts (Jamieson and Talwalkar, 1502.07943)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from icl_align.search.baselines.method import Method, Table, first
from icl_align.search.choices import Choice
from icl_align.search.proposing import Estimate, Row
from icl_align.space import Space

_DRAWS_EACH = 50


class SuccessiveHalving(Method):
    """Measures many random prompts on a block, the better half on two, its better half on four, ...

    All prompts are measured on the same blocks in the same order. It ends with one prompt, or when
    those that are left were measured on all blocks.

    Attributes:
        arms: The random prompts, as many as the budget carries to the end.
    """

    def __init__(
        self, space: Space, *, ids: Sequence[str], seed: int = 0, evaluations: int
    ) -> None:
        """Draws the prompts.

        Args:
            space: What may vary.
            ids: Ids of the development examples.
            seed: Seed of the blocks and of the prompts.
            evaluations: The budget, in (prompt, example) pairs.

        Raises:
            UserError: no ids, or a budget below 1.
        """
        super().__init__(space, ids=ids, seed=seed, evaluations=evaluations)
        wanted = 2
        while cost(wanted + 1, len(self.cut)) <= self.budget:
            wanted += 1
        rng = np.random.default_rng([seed, 0x4A1F])
        drawn: dict[Choice, None] = {}
        for _ in range(_DRAWS_EACH * wanted):
            drawn[self.choices.random(rng)] = None
            if len(drawn) == wanted:
                break
        self.arms = tuple(drawn)

    def propose(self, history: Sequence[Row], rng: np.random.Generator) -> tuple[Choice, int]:
        """Gives the next prompt of the rung; after the last rung measures those left over further."""
        table = Table(history)
        arms, following = self._follow(table)
        return following or self.rest(table, rng, arms)

    def recommend(self, history: Sequence[Row]) -> list[Estimate]:
        """Gives the prompts of the highest rung first, as they ended the last full one."""
        return first(self._follow(Table(history))[0], history)

    def _follow(self, table: Table) -> tuple[list[Choice], tuple[Choice, int] | None]:
        """Retraces the rungs: who is left, the best first, and what is to be asked next."""
        arms, goal = list(self.arms), 1
        while True:
            for block in range(goal):
                for arm in arms:
                    if not table.asked(arm, block):
                        return arms, (arm, block)
            ranked = table.ranked(arms, range(goal))
            if not ranked or len(arms) == 1 or goal == len(self.cut):
                return ranked or arms, None
            arms, goal = ranked[: -(-len(arms) // 2)], min(2 * goal, len(self.cut))


def cost(arms: int, blocks: int) -> int:
    """Counts the measurements of a prompt on a block that halving so many prompts takes."""
    total, goal = arms, 1
    while arms > 1 and goal < blocks:
        arms, longer = -(-arms // 2), min(2 * goal, blocks)
        total += arms * (longer - goal)
        goal = longer
    return total
