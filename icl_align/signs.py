"""Figures for people: with a sign where they are differences, and no zero below zero.

One convention on terminal and page: plus is better, minus is worse. What changes the winner is told as the
changed one minus the winner; what is kept as a loss is turned round for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def signed(value: float) -> str:
    """Writes a difference with three decimals; what rounds to zero has no sign."""
    text = f"{value:+.3f}"
    return "0.000" if float(text) == 0 else text


def interval(value: Mapping[str, Any] | None, none: str = "-") -> str:
    """Writes a difference with its interval, as JSON has it; `none` where there is no verdict."""
    if value is None:
        return none
    low, high = ("?" if value[end] is None else signed(value[end]) for end in ("low", "high"))
    return f"{signed(value['mean'])} [{low}, {high}]"


def turned(value: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A loss as a difference: what was changed, minus the winner."""
    if value is None:
        return None
    low, high = (None if value[end] is None else -value[end] for end in ("low", "high"))
    return {**value, "mean": -value["mean"], "low": high, "high": low}
