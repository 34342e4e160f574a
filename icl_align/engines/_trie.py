"""Which beginnings the prompts of one call share: a plan of prefixes worth encoding once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from icl_align.engines._row import Row

_LEAST_TOKENS = 8
_LEAST_SAVED = 96
"""Tokens that a prefix within a prefix must spare to be worth a part of its own in each step."""


@dataclass(slots=True)
class Prefix:
    """A beginning that several rows share, behind that of its parent.

    Attributes:
        start: Position of its first token.
        end: Position behind its last token.
        parent: Index of the prefix before it in the plan, or None.
        rows: The rows that share it, never none.
    """

    start: int
    end: int
    parent: int | None
    rows: list[Row]


def plan(rows: Sequence[Row]) -> list[Prefix]:
    """Finds shared beginnings, parents before children.

    A row's last token is never shared: its logits are what comes next. A lone row shares with later
    calls, so all of it but this token is a prefix.
    """
    found: list[Prefix] = []
    waiting: list[tuple[list[Row], int, int | None]] = [
        (sorted(rows, key=lambda row: row.ids), 0, None)
    ]
    while waiting:
        group, start, parent = waiting.pop()
        end = _shared(group, start)
        length, top = end - start, parent is None
        if length and (
            top or (length >= _LEAST_TOKENS and length * (len(group) - 1) >= _LEAST_SAVED)
        ):
            found.append(Prefix(start, end, parent, group))
            start, parent = end, len(found) - 1
        parts = _parted(group, end)
        waiting += [(part, start, parent) for part in reversed(parts) if len(part) > 1]
    return found


def _shared(group: Sequence[Row], start: int) -> int:
    """Where sorted rows' common beginning ends; the first and the last tell."""
    one, other = group[0].ids, group[-1].ids
    end = min(row.most_shared for row in group)
    at = start
    while at < end and one[at] == other[at]:
        at += 1
    return at


def _parted(group: Sequence[Row], at: int) -> list[list[Row]]:
    """Sorted rows by their next token; a row that ends there, or may share no more, stays alone."""
    parts: list[list[Row]] = []
    last: int | None = None
    for row in group:
        token = row.ids[at] if at < row.most_shared else None
        if token is not None and token == last:
            parts[-1].append(row)
        else:
            parts.append([row])
        last = token
    return parts
