"""A function over prompts, written as tables of effects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from icl_align.search.choices import Choice
from icl_align.search.surrogate.features import Design, Floats, Model, Pool, positions


@dataclass
class Tables:
    """A function over prompts: its effects, as a climb adds them up.

    Attributes:
        constant: What all prompts have.
        unary: Effect of an exemplar, float64 (pool,), times the norm of K.
        order: Slope of that effect from the first place to the last, float64 (pool,).
        square: Effect of an exemplar with itself, float64 (pool,), times the norm of K squared.
        pair: Effect of two exemplars together, symmetric float64 (pool, pool), times the norm squared.
        last: Effect of the last exemplar, float64 (pool,).
        system, format, count, decoding: Effects of these, each float64 (choices,).
        cross: Effect of an exemplar under a system text, float64 (systems, pool), as `unary`.
        own: What belongs to a single measured prompt.
    """

    model: Model
    constant: float
    unary: Floats
    order: Floats
    square: Floats
    pair: Floats
    last: Floats
    system: Floats
    format: Floats
    count: Floats
    decoding: Floats
    cross: Floats
    own: dict[Choice, float]

    @property
    def pool(self) -> Pool:
        """The features of the space."""
        return self.model.pool

    def values(self, design: Design) -> Floats:
        """Adds up the effects of prompts, all but `own`; float64 (n,)."""
        model = self.model
        out = self.constant + self.system[design.system] + self.format[design.format]
        out = out + self.count[design.count] + self.decoding[design.decoding]
        for k in range(1, design.ids.shape[1] + 1):
            rows = np.flatnonzero(design.count == k)
            if not len(rows):
                continue
            ids = design.ids[rows, :k]
            norm, z = model.norm[k], positions(k)
            unary = self.unary[ids] + self.cross[design.system[rows, None], ids]
            total = (unary + self.order[ids] * z).sum(1) * norm
            total += self.last[ids[:, -1]]
            quad = self.square[ids].sum(1)
            for a in range(k):
                for b in range(a):
                    quad += self.pair[ids[:, a], ids[:, b]]
            out[rows] += total + quad * norm**2
        return out

    def value(self, choice: Choice) -> float:
        """Gives the value of one prompt, its own effect included."""
        value = float(self.values(Design.of([choice], self.model.pool))[0])
        return value + self.own.get(choice, 0.0)
