"""Keys and values of prompts' beginnings, kept between calls: a radix tree within a byte bound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

import torch

from icl_align.engines._step import Shared

Encode = Callable[[Sequence[Shared], Sequence[int], int], Shared]
"""Runs tokens behind ancestors, from a position on; gives their keys and values."""


@dataclass(eq=False, slots=True)
class _Node:
    """A piece of token text whose keys and values are known, behind those of its ancestors."""

    ids: list[int]
    state: Shared
    parent: _Node | None
    children: dict[int, _Node] = field(default_factory=dict)
    used: int = 0

    @property
    def bytes(self) -> int:
        return sum(x.nbytes for x in (*self.state.keys, *self.state.values))


class Prefixes:
    """Remembers prefixes; system texts and leading exemplars recur between the trials of a sweep.

    Sharing follows tokens, so it does not matter where the texts' borders lie. When the bytes exceed
    the bound, what was not used for longest goes first, ends before beginnings.
    """

    def __init__(self, bound: int) -> None:
        """Stores the bound in bytes, which `trim` sees to; 0 remembers nothing beyond it."""
        self.bound = bound
        self.root = _Node([], Shared((), (), 0), None)
        self.clock = 0

    @property
    def bytes(self) -> int:
        """Bytes held."""
        return sum(node.bytes for node in self._nodes())

    def reach(self, ids: Sequence[int], encode: Encode) -> tuple[list[Shared], int]:
        """Gives the keys and values of a prefix in pieces, and how many tokens had to be computed."""
        self.clock += 1
        node, at, path = self.root, 0, list[Shared]()
        while at < len(ids) and (child := node.children.get(ids[at])) is not None:
            common = _common(child.ids, ids, at)
            if common < len(child.ids):
                child = _split(child, common)
            child.used = self.clock
            node, at = child, at + common
            path.append(child.state)
        missing = len(ids) - at
        if missing:
            state = encode(path, ids[at:], at)
            node.children[ids[at]] = _Node(list(ids[at:]), state, node, {}, self.clock)
            path.append(state)
        return path, missing

    def trim(self) -> None:
        """Forgets until the bound holds."""
        held = self.bytes
        while held > self.bound:
            ends = [node for node in self._nodes() if not node.children]
            oldest = min(ends, key=lambda node: node.used)
            held -= oldest.bytes
            assert oldest.parent is not None
            del oldest.parent.children[oldest.ids[0]]

    def clear(self) -> None:
        """Forgets everything."""
        self.root.children.clear()

    def _nodes(self) -> list[_Node]:
        found, waiting = [], list(self.root.children.values())
        while waiting:
            node = waiting.pop()
            found.append(node)
            waiting += node.children.values()
        return found


def joined(pieces: Sequence[Shared]) -> Shared:
    """Pieces that follow one another as one."""
    if len(pieces) == 1:
        return pieces[0]
    keys = [torch.cat(parts, 2) for parts in zip(*(piece.keys for piece in pieces), strict=True)]
    values = [
        torch.cat(parts, 2) for parts in zip(*(piece.values for piece in pieces), strict=True)
    ]
    return Shared(keys, values, pieces[0].start)


def _common(known: Sequence[int], ids: Sequence[int], at: int) -> int:
    pairs = zip(known, ids[at : at + len(known)], strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _split(node: _Node, at: int) -> _Node:
    """Cuts a node in two; gives the upper one. Copies, so that the parts' memory is their own."""
    state, parent = node.state, node.parent
    assert parent is not None

    def part(piece: slice, start: int) -> Shared:
        keys, values = ([x[:, :, piece].clone() for x in xs] for xs in (state.keys, state.values))
        return Shared(keys, values, start)

    upper = _Node(node.ids[:at], part(slice(at), state.start), parent, {}, node.used)
    lower = _Node(
        node.ids[at:], part(slice(at, None), state.start + at), upper, node.children, node.used
    )
    for child in lower.children.values():
        child.parent = lower
    upper.children[lower.ids[0]] = lower
    parent.children[upper.ids[0]] = upper
    return upper
