"""Points of a space as samplers think of them: ordered exemplar ids, and an id per other dimension."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from icl_align.space import Space


@dataclass(frozen=True, slots=True, order=True)
class Choice:
    """One prompt of a space, by positions; equal choices are equal prompts.

    Attributes:
        exemplars: Positions in the pool, in order, distinct; their number is K.
        system: Position among the system texts.
        format: Position among the formats.
        temperature: Position on the grid of temperatures.
        penalty: Position on the grid of repetition penalties.
    """

    exemplars: tuple[int, ...]
    system: int = 0
    format: int = 0
    temperature: int = 0
    penalty: int = 0


class Choices:
    """Turns points of a space into choices and back.

    Several points can give one prompt, since slots beyond K are ignored and a repeated exemplar moves
    on to the next free one; a choice has exactly one point.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self.sizes = {
            "system": len(space.systems),
            "format": len(space.formats),
            "temperature": len(space.temperatures),
            "penalty": len(space.repetition_penalties),
        }
        self._formats = [form.name for form in space.formats]
        self._names = frozenset(space.distributions())

    def read(self, point: Mapping[str, Any]) -> Choice:
        """Gives the choice of a point, as `Space.build` understands it."""
        space, taken = self.space, list[int]()
        for slot in range(1, point.get("k", space.k_max) + 1):
            index = int(point.get(f"slot_{slot}", 0))
            while index in taken:
                index = (index + 1) % len(space.pool)
            taken.append(index)
        return Choice(
            tuple(taken),
            int(point.get("system", 0)),
            self._formats.index(point.get("format", self._formats[0])),
            space.temperatures.index(point.get("temperature", space.temperatures[0])),
            space.repetition_penalties.index(
                point.get("repetition_penalty", space.repetition_penalties[0])
            ),
        )

    def write(self, choice: Choice) -> dict[str, Any]:
        """Gives the one point of a choice; slots beyond K hold the first free exemplars."""
        space = self.space
        slots = list(choice.exemplars)
        taken = set(slots)
        free = (index for index in range(len(space.pool)) if index not in taken)
        slots += [next(free) for _ in range(space.k_max - len(slots))]
        everything: dict[str, Any] = {f"slot_{i}": index for i, index in enumerate(slots, start=1)}
        everything |= {
            "system": choice.system,
            "format": self._formats[choice.format],
            "temperature": space.temperatures[choice.temperature],
            "repetition_penalty": space.repetition_penalties[choice.penalty],
            "k": len(choice.exemplars),
        }
        return {name: value for name, value in everything.items() if name in self._names}

    def random(self, rng: np.random.Generator) -> Choice:
        """Draws K, then everything else, uniformly."""
        space = self.space
        k = int(rng.integers(space.k_min, space.k_max + 1))
        exemplars = rng.permutation(len(space.pool))[:k]
        others = {name: int(rng.integers(size)) for name, size in self.sizes.items()}
        return Choice(tuple(int(index) for index in exemplars), **others)
