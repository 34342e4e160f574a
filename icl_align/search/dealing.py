"""What a sampler does without a model: the first prompts, a new one, and the block to measure on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from icl_align.search.choices import Choice, Choices
from icl_align.search.proposing import Row

Used = Mapping[Choice, Collection[int]]
"""The blocks that each known prompt was measured on."""
_FULL_DECK = 0.6
"""Share of the first prompts that are as long as can be."""
_TRIES = 1000
_OPEN = 2
"""Blocks that are open from the start."""


def blocks_used(rows: Sequence[Row]) -> dict[Choice, set[int]]:
    """Gives the blocks that each prompt was measured on; 0 stands for all examples at once."""
    used: dict[Choice, set[int]] = {}
    for row in rows:
        used.setdefault(row.choice, set()).add(row.block or 0)
    return used


def deal(choices: Choices, number: int, used: Used, blocks: int, seed: int) -> Choice:
    """Deals a first prompt: exemplars from a deck shuffled by the seed, mostly at the largest K.

    Args:
        choices: The prompts there are.
        number: How many were dealt before; those that are known already are passed over.
        used: The blocks that each known prompt was measured on.
        blocks: How many blocks there are.
        seed: Of the deck.
    """
    space = choices.space
    rng = np.random.default_rng([seed, 0xDEC])
    deck: list[int] = []
    while True:
        k = space.k_max
        if rng.random() >= _FULL_DECK:
            k = int(rng.integers(space.k_min, space.k_max + 1))
        if len(deck) < k:
            deck = [int(index) for index in rng.permutation(len(space.pool))]
        ids = tuple(deck.pop() for _ in range(k))
        others = {name: int(rng.integers(size)) for name, size in choices.sizes.items()}
        choice = Choice(ids, **others)
        if number <= 0 and choice not in used:
            return choice
        number -= 1
        if number < -_TRIES:
            return unused(choices, used, blocks, rng)


def unused(choices: Choices, used: Used, blocks: int, rng: np.random.Generator) -> Choice:
    """Draws prompts until one is new; after many in vain, gives any with an open block."""
    for _ in range(_TRIES):
        choice = choices.random(rng)
        if choice not in used:
            return choice
    open_ = [choice for choice in used if len(used[choice]) < blocks]
    return min(open_) if open_ else choices.random(rng)


def block_for(seen: Collection[int], history: Sequence[Row], blocks: int, reuse: int) -> int:
    """Gives the least used of the open blocks that a prompt was not measured on.

    Blocks are opened one by one in their common order; a prompt that has been on all open ones goes
    on to the next.

    Args:
        seen: The blocks that the prompt was measured on.
        history: All trials.
        blocks: How many blocks there are.
        reuse: Trials for which a block is used before a new one is opened.
    """
    counts = np.zeros(blocks, dtype=np.int64)
    for row in history:
        counts[row.block or 0] += 1
    open_ = max(_OPEN, -(-(len(history) + 1) // reuse))
    free = [b for b in range(blocks) if b not in seen]
    if not free:
        free = list(range(blocks))
    early = [block for block in free if block < open_]
    if not early:
        return free[0]
    return min(early, key=lambda block: (counts[block], block))
