"""Texts of unknown origin inside Markdown: they stay text, whatever they hold."""

from __future__ import annotations

import re

from icl_align.report.clean import shown

_TICKS = re.compile(r"`+")
_SHORTEST = 3


def fenced(text: str, longest: int, language: str = "") -> str:
    """Puts a text into a fenced code block that nothing in it can end.

    The fence is longer than every run of backticks in the text (CommonMark 0.31, section 4.5), and
    characters that are invisible or turn the direction of text are written as escapes.

    Args:
        text: Anything.
        longest: Characters that are shown; the rest is counted.
        language: Ours, for colours; "" for none.
    """
    told = shown(text, longest)
    runs = [len(run) for run in _TICKS.findall(told)]
    fence = "`" * max(_SHORTEST, max(runs, default=0) + 1)
    return f"{fence}{language}\n{told}\n{fence}"


def line(text: str, longest: int) -> str:
    """Gives a text as one line: its own line ends are spaces, and it is cut."""
    return shown(" ".join(text[: 4 * longest].split()), longest)
