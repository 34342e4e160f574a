"""Blocks of development examples: the unit in which a prompt is measured, stopped, and measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from icl_align.errors import UserError


@dataclass(frozen=True)
class Blocks:
    """The development examples, in one seeded order common to all prompts, cut into blocks.

    Attributes:
        ids: The example ids of each block; every example is in exactly one.
    """

    ids: tuple[tuple[str, ...], ...]

    @classmethod
    def cut(cls, ids: Sequence[str], size: int, seed: int) -> Blocks:
        """Shuffles examples and cuts them into blocks of about one size.

        Args:
            ids: Unique example ids; their order does not matter.
            size: Wanted examples per block, >= 1; blocks differ by at most one example, and are never
                smaller than this while there are enough examples for one.
            seed: Seed of the order.

        Raises:
            UserError: no ids, or a size below 1.
        """
        if not ids:
            raise UserError("blocks are cut from at least one example, got none")
        if size < 1:
            raise UserError(f"a block holds at least one example, got a size of {size}")
        names = sorted(ids)
        order = np.random.default_rng([seed, 0xB10C]).permutation(len(names))
        parts = np.array_split(order, max(1, len(names) // size))
        return cls(tuple(tuple(names[index] for index in part) for part in parts))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many examples each block holds."""
        return tuple(len(block) for block in self.ids)

    @property
    def total(self) -> int:
        """How many examples there are in all."""
        return sum(self.sizes)
