"""What a budget of generations buys: which subsets, orders and instructions are measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from icl_align.errors import UserError
from icl_align.explain.games import Walk, full, steps
from icl_align.types import Example

_ORDERS = 8
_PAIRS = 200
_EXACT = 0.6
"""Share of what is left that subsets may take to have all of them."""
_SAMPLED = 0.5
_FEWEST = 2
"""Instructions below which no interval can be given."""
_ENOUGH = 120
"""Instructions beyond which more of them are worth less than another section."""
_SUBSETS = 32
"""Subsets for which instructions beyond these are given up."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured. The same settings give the same plan, so a second run finds all in the ledger.

    Attributes:
        examples: The instructions, a seeded sample where the budget does not reach for all.
        masks: Subsets of the winner's exemplars, each in the winner's order.
        pairs: Walks for Shapley values with their reverses; empty where all subsets are measured.
        exact: Whether all subsets are measured.
        orders: Other orders of the winner's exemplars.
        phrasings: Whether the instructions are also put in other words.
        paraphrases: How many paraphrases of the system text are measured.
    """

    examples: tuple[Example, ...]
    masks: tuple[int, ...]
    pairs: tuple[tuple[Walk, Walk], ...]
    exact: bool
    orders: tuple[Walk, ...]
    phrasings: bool
    paraphrases: int = 0


def make_plan(
    k: int,
    others: int,
    phrasings: int,
    examples: Sequence[Example],
    budget: int,
    seed: int,
    paraphrases: int = 0,
) -> Plan:
    """Spends a budget: first what is asked for always, then Shapley values, orders, phrasings, paraphrases.

    Args:
        k: Exemplars of the winner.
        others: Other prompts that are always measured (the baseline, the winner without system text).
        phrasings: Prompts' worth of generations that other phrasings cost.
        examples: The instructions there are.
        budget: Generations asked for in all, whether paid or in the ledger.
        seed: Of the sample, the walks and the orders.
        paraphrases: How many there are of the system text; what the budget does not reach for is left
            out, the last ones first.

    Raises:
        UserError: the budget is too small; says what is needed.
    """
    rng = np.random.default_rng([seed, 0xE5])
    always = _always(k)
    count = len(always) + others
    if budget < count * _FEWEST:
        raise UserError(
            f"explaining a prompt of {k} exemplars takes at least {count * _FEWEST} generations "
            f"({count} prompts on {_FEWEST} instructions), --budget is {budget}"
        )
    whole = _whole(k, others, phrasings, paraphrases)
    size = min(budget // count, max(_ENOUGH, budget // whole))
    order = rng.permutation(len(examples))[:size]
    chosen = tuple(examples[i] for i in sorted(order))
    rest = budget // len(chosen) - count
    extra = [mask for mask in range(1 << k) if mask not in always] if k <= _bits(rest) else None
    masks, pairs = list(always), list[tuple[Walk, Walk]]()
    exact = extra is not None and len(extra) <= (_EXACT * rest if extra else 0)
    if exact:
        masks += extra or ()
    else:
        pairs = _walks(k, masks, int(rest * _SAMPLED), rng)
    rest -= len(masks) - len(always)
    orders = _orders(k, min(rest, _ORDERS), rng)
    rest -= len(orders)
    phrased = rest >= phrasings
    reached = min(paraphrases, rest - phrasings * phrased)
    return Plan(chosen, tuple(masks), tuple(pairs), exact, orders, phrased, reached)


def enough(k: int, others: int, phrasings: int, paraphrases: int, examples: int) -> int:
    """Gives the least budget that reaches all sections, on up to 120 of the instructions.

    Args:
        k: Exemplars of the winner.
        others: As for `make_plan`; so are the next two.
        phrasings: See there.
        paraphrases: See there.
        examples: Instructions there are.
    """
    return _whole(k, others, phrasings, paraphrases) * min(_ENOUGH, examples)


def _whole(k: int, others: int, phrasings: int, paraphrases: int) -> int:
    """Counts the prompts of all sections; walks and subsets take their share of what is left."""
    always, words = len(_always(k)), _ORDERS + phrasings + paraphrases
    few = 1 << k <= _SUBSETS
    every = (1 << k) - always if few else _SUBSETS
    rest = max(every + words, math.ceil(every / _EXACT))
    return always + others + (rest if few else max(rest, math.ceil(words / (1 - _EXACT))))


def _always(k: int) -> list[int]:
    """All, none, all but one, and those at the beginning and at the end of the winner's order."""
    whole = full(k)
    found = [whole, 0, *(whole & ~(1 << i) for i in range(k))]
    found += [full(size) for size in range(1, k)]
    found += [whole & ~full(size) for size in range(1, k)]
    return list(dict.fromkeys(found))


def _bits(rest: int) -> int:
    """The largest K whose subsets are worth counting."""
    return min(16, max(rest, 0).bit_length() + 4)


def _walks(
    k: int, masks: list[int], limit: int, rng: np.random.Generator
) -> list[tuple[Walk, Walk]]:
    """Draws walks while their new subsets fit; adds these to `masks`."""
    found: list[tuple[Walk, Walk]] = []
    known, spent = set(masks), 0
    while k > 1 and len(found) < _PAIRS:
        walk = tuple(int(i) for i in rng.permutation(k))
        pair = (walk, walk[::-1])
        new = dict.fromkeys(mask for one in pair for mask in steps(one) if mask not in known)
        if spent + len(new) > limit:
            break
        spent += len(new)
        known |= new.keys()
        masks += new
        found.append(pair)
    return found


def _orders(k: int, limit: int, rng: np.random.Generator) -> tuple[Walk, ...]:
    """Draws distinct orders other than the winner's."""
    usual = tuple(range(k))
    found: list[Walk] = []
    while k > 1 and len(found) < min(limit, math.factorial(min(k, 9)) - 1):
        order = tuple(int(i) for i in rng.permutation(k))
        if order != usual and order not in found:
            found.append(order)
    return tuple(found)
