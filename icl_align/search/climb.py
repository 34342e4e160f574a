"""Local search over prompts on tables of effects: every single edit, best first."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from icl_align.search.choices import Choice
from icl_align.search.surrogate import Design, Pool, Tables

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_FINE = 10.0
"""What a constraint's shortfall costs, in units of quality."""


class Hill(Protocol):
    """A function over prompts that can be climbed."""

    @property
    def pool(self) -> Pool: ...

    def values(self, design: Design) -> Floats: ...

    def value(self, choice: Choice) -> float: ...


@dataclass(frozen=True)
class Blend:
    """Quality less what a prompt's length costs, and much less where a constraint is broken.

    Attributes:
        quality: The drawn quality.
        toll: Cost of an exemplar's length, float64 (pool,).
        system_toll: Cost of a system text's length, float64 (systems,).
        aspect: The drawn aspect that is constrained; None for no constraint.
        at_least: The level it must reach.
    """

    quality: Tables
    toll: Floats
    system_toll: Floats
    aspect: Tables | None = None
    at_least: float = 0.0

    @property
    def pool(self) -> Pool:
        """The features of the space."""
        return self.quality.pool

    def values(self, design: Design) -> Floats:
        """Gives the values of prompts, what is their own left out; float64 (n,)."""
        padded = np.append(self.toll, 0.0)
        out: Floats = self.quality.values(design) - self.system_toll[design.system]
        out = out - padded[design.ids].sum(1)
        if self.aspect is not None:
            out = out - _FINE * np.maximum(0.0, self.at_least - self.aspect.values(design))
        return out

    def value(self, choice: Choice) -> float:
        """Gives the value of one prompt, its own effect included."""
        out = self.quality.value(choice) - float(self.system_toll[choice.system])
        out -= float(self.toll[list(choice.exemplars)].sum())
        if self.aspect is not None:
            out -= _FINE * max(0.0, self.at_least - self.aspect.value(choice))
        return out


@dataclass(frozen=True)
class Moves:
    """Which edits a climb may make.

    Attributes:
        k_min: Fewest exemplars.
        k_max: Most exemplars.
        temperatures: How many temperatures there are.
        penalties: How many repetition penalties there are.
        allowed: Exemplars that may come in, int64 (n,).
    """

    k_min: int
    k_max: int
    temperatures: int
    penalties: int
    allowed: Ints


def neighbours(choice: Choice, pool: Pool, moves: Moves) -> Design:
    """Gives every prompt one edit away: replace, insert, drop, swap, or another system, format, decoding."""
    penalties = moves.penalties
    ids = np.array(choice.exemplars, dtype=np.int64)
    k, width = len(ids), max(pool.k_max, 1)
    new = moves.allowed[~np.isin(moves.allowed, ids)]
    lists: list[Ints] = []
    counts: list[Ints] = []

    def add(rows: Ints, size: int) -> None:
        full = np.full((len(rows), width), -1, dtype=np.int64)
        full[:, :size] = rows
        lists.append(full)
        counts.append(np.full(len(rows), size, dtype=np.int64))

    for place in range(k):
        rows = np.repeat(ids[None], len(new), axis=0)
        rows[:, place] = new
        add(rows, k)
    if k < moves.k_max:
        for place in range(k + 1):
            rows = np.repeat(np.insert(ids, place, 0)[None], len(new), axis=0)
            rows[:, place] = new
            add(rows, k + 1)
    if k > moves.k_min:
        for place in range(k):
            add(np.delete(ids, place)[None], k - 1)
    for a in range(k):
        for b in range(a):
            swapped = ids.copy()
            swapped[[a, b]] = swapped[[b, a]]
            add(swapped[None], k)
    edits = sum(len(rows) for rows in lists)
    others = pool.systems + pool.formats + len(pool.grid)
    add(np.repeat(ids[None], others, axis=0), k)
    decoding = choice.temperature * penalties + choice.penalty
    system = np.full(edits + others, choice.system, dtype=np.int64)
    form = np.full(edits + others, choice.format, dtype=np.int64)
    decode = np.full(edits + others, decoding, dtype=np.int64)
    system[edits : edits + pool.systems] = np.arange(pool.systems)
    form[edits + pool.systems : edits + pool.systems + pool.formats] = np.arange(pool.formats)
    decode[edits + pool.systems + pool.formats :] = np.arange(len(pool.grid))
    return Design(np.concatenate(lists), np.concatenate(counts), system, form, decode)


def choice_at(design: Design, row: int, penalties: int) -> Choice:
    """Reads one row of a design."""
    k = int(design.count[row])
    decoding = int(design.decoding[row])
    return Choice(
        tuple(int(i) for i in design.ids[row, :k]),
        int(design.system[row]),
        int(design.format[row]),
        decoding // penalties,
        decoding % penalties,
    )


def climb(
    hill: Hill,
    starts: Sequence[Choice],
    moves: Moves,
    *,
    steps: int,
    banned: Collection[Choice] = (),
) -> list[tuple[float, Choice]]:
    """Climbs from each start by the best single edit, at most `steps` times.

    Args:
        hill: The function to climb.
        starts: Where to start; they may be banned.
        moves: Which edits there are.
        steps: Most edits from a start.
        banned: Prompts that must not be given.

    Returns:
        The best allowed prompt met from each start, with its value, best first; fewer than starts
        where a start has no allowed neighbour.
    """
    found: dict[Choice, float] = {}
    for start in starts:
        best: tuple[float, Choice] | None = None
        choice, value = start, hill.value(start)
        if start not in banned:
            best = value, start
        for _ in range(steps):
            around = neighbours(choice, hill.pool, moves)
            values = hill.values(around)
            top = None
            for row in np.argsort(-values, kind="stable")[: len(banned) + len(values)]:
                candidate = choice_at(around, int(row), moves.penalties)
                if candidate not in banned and candidate != choice:
                    top = float(values[row]), candidate
                    break
            if top is None:
                break
            if best is None or top[0] > best[0]:
                best = top
            if top[0] <= value:
                break
            value, choice = top
        if best is not None:
            found[best[1]] = best[0]
    return sorted(
        ((value, choice) for choice, value in found.items()), key=lambda pair: (-pair[0], pair[1])
    )
