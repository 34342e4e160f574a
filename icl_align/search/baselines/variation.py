"""How evolution makes new prompts of old ones: single edits in every dimension, and crossover."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from icl_align.search.choices import Choice, Choices

WEIGHTS: Mapping[str, float] = {
    "replace": 0.30,
    "add": 0.12,
    "drop": 0.10,
    "move": 0.08,
    "system": 0.12,
    "format": 0.10,
    "temperature": 0.09,
    "penalty": 0.09,
}
"""How often each kind of edit is made, before those that a prompt does not allow are left out."""


def mutate(choices: Choices, choice: Choice, rng: np.random.Generator) -> Choice:
    """Makes 1 + Poisson(0.5) edits; a space of one prompt gives that prompt."""
    for _ in range(1 + int(rng.poisson(0.5))):
        kinds = [kind for kind in WEIGHTS if _allowed(choices, choice, kind)]
        if not kinds:
            return choice
        weights = np.array([WEIGHTS[kind] for kind in kinds])
        choice = edit(
            choices, choice, kinds[rng.choice(len(kinds), p=weights / weights.sum())], rng
        )
    return choice


def edit(choices: Choices, choice: Choice, kind: str, rng: np.random.Generator) -> Choice:
    """Makes one edit of a kind that the prompt allows; the prompt is always another one."""
    if kind in choices.sizes:
        old = getattr(choice, kind)
        new = int(rng.integers(choices.sizes[kind] - 1))
        return replace(choice, **{kind: new + (new >= old)})
    exemplars = list(choice.exemplars)
    free = [i for i in range(len(choices.space.pool)) if i not in choice.exemplars]
    if kind == "move":
        source, target = (int(i) for i in rng.choice(len(exemplars), 2, replace=False))
        exemplars.insert(target, exemplars.pop(source))
    elif kind == "add":
        exemplars.insert(int(rng.integers(len(exemplars) + 1)), free[rng.integers(len(free))])
    elif kind == "drop":
        del exemplars[int(rng.integers(len(exemplars)))]
    else:
        exemplars[int(rng.integers(len(exemplars)))] = free[rng.integers(len(free))]
    return replace(choice, exemplars=tuple(exemplars))


def _allowed(choices: Choices, choice: Choice, kind: str) -> bool:
    """Says whether an edit of a kind can be made."""
    k, space = len(choice.exemplars), choices.space
    tests: Mapping[str, Callable[[], bool]] = {
        "replace": lambda: 0 < k < len(space.pool),
        "add": lambda: k < space.k_max,
        "drop": lambda: k > space.k_min,
        "move": lambda: k > 1,
    }
    return tests[kind]() if kind in tests else choices.sizes[kind] > 1


def cross(choices: Choices, a: Choice, b: Choice, rng: np.random.Generator) -> Choice:
    """Takes every dimension from either parent, and the exemplars slot by slot, none twice."""
    k = len((a if rng.integers(2) else b).exemplars)
    taken: list[int] = []
    for slot in range(k):
        mine, other = (a, b) if rng.integers(2) else (b, a)
        offered = (*mine.exemplars[slot : slot + 1], *other.exemplars, *mine.exemplars)
        taken.append(next(i for i in offered if i not in taken))
    others = {name: getattr(a if rng.integers(2) else b, name) for name in choices.sizes}
    return Choice(tuple(taken), **others)
