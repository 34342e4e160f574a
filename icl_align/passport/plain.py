"""Makes text of unknown origin safe to print: nothing in it can steer a terminal or hide."""

from __future__ import annotations

import unicodedata

_KEPT = "\n\t"
_JOINERS = "\u200c\u200d"
"""Scripts and emoji need them; they only join what stands beside them."""
_HIDDEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
"""Controls, formats (also those that turn the direction of text), halves of pairs, line separators."""


def printable(text: str) -> str:
    r"""Writes characters that would steer a terminal as escapes, such as \x1b; lines and tabs stay."""
    return "".join(
        one
        if one in _KEPT or one in _JOINERS or unicodedata.category(one) not in _HIDDEN
        else one.encode("unicode_escape").decode("ascii")
        for one in text
    )


def gutter(text: str) -> str:
    """Puts a bar before each line, so that a text cannot pass for what the program says."""
    return "\n".join(f"  | {line}" for line in printable(text).split("\n"))
