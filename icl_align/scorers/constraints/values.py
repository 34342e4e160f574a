"""Reads the string values of a check; a value that cannot be used is a ValueError that says why."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence

Rule = Callable[[Sequence[str], str], bool]
"""Whether a text follows an instruction, given the check's values; ValueError for bad values."""

RELATIONS: dict[str, Callable[[int, int], bool]] = {
    "at least": operator.ge,
    "less than": operator.lt,
    "at most": operator.le,
    "more than": operator.gt,
    "exactly": operator.eq,
}
"""How a count is compared with a number; IFEval uses the first two."""


def take(values: Sequence[str], *names: str) -> tuple[str, ...]:
    """Gives the values, of which there must be one for each name.

    Raises:
        ValueError: there are more or fewer.
    """
    if len(values) != len(names):
        wanted = f"{len(names)} values ({', '.join(names)})" if names else "no values"
        raise ValueError(f"it takes {wanted}, got {list(values)}")
    return tuple(values)


def some(values: Sequence[str], what: str) -> tuple[str, ...]:
    """Gives the values, of which there must be at least one, none of them empty.

    Raises:
        ValueError: there is none, or an empty one.
    """
    if not values or not all(value.strip() for value in values):
        raise ValueError(f"it takes one {what} or more, none empty, got {list(values)}")
    return tuple(values)


def text(value: str, what: str) -> str:
    """Gives a text without surrounding white space.

    Raises:
        ValueError: nothing is left.
    """
    if not value.strip():
        raise ValueError(f"its {what} must not be empty")
    return value.strip()


def count(value: str, what: str, least: int = 0) -> int:
    """Reads a whole number.

    Raises:
        ValueError: it is none, or below the least.
    """
    plain = value.strip()
    if not (plain.isascii() and plain.isdecimal() and len(plain) <= 9 and int(plain) >= least):  # noqa: PLR2004 (longer numbers are no counts)
        raise ValueError(f"its {what} must be a whole number from {least} on, got {value!r}")
    return int(plain)


def compares(relation: str, found: int, wanted: int) -> bool:
    """Compares a count with what is wanted.

    Raises:
        ValueError: the relation is unknown.
    """
    if relation not in RELATIONS:
        raise ValueError(f"its relation must be one of {', '.join(RELATIONS)}, got {relation!r}")
    return RELATIONS[relation](found, wanted)
