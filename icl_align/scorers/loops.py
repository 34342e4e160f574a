"""Finds texts that go round in circles, the way a base model rambles."""

from __future__ import annotations

import re
from itertools import pairwise

_CODE = re.compile(r"^[ \t]*```.*?(?:^[ \t]*```|\Z)", re.MULTILINE | re.DOTALL)
_SENTENCE_END = re.compile(r"\n+|(?<=[.!?])\s+")
_WORD = re.compile(r"\w+(?:'\w+)?")
_LONGEST_UNIT = 20
_LEAST_REPEATS = 3
_LEAST_WORDS = 8


def loops(text: str) -> bool:
    """Whether a text outside of code blocks repeats itself.

    It does when a line or sentence of three words or more comes twice in a row or three times in
    all, or when up to 20 words are said three times in a row, eight words or more in sum.
    """
    text = _CODE.sub("\n", text).casefold()
    words = [_WORD.findall(unit) for unit in _SENTENCE_END.split(text)]
    units = [" ".join(unit) for unit in words if len(unit) >= 3]  # noqa: PLR2004  as documented
    twice = any(one == other for one, other in pairwise(units))
    thrice = any(units.count(unit) >= _LEAST_REPEATS for unit in set(units))
    return twice or thrice or _stutters(_WORD.findall(text))


def _stutters(words: list[str]) -> bool:
    """Whether some run of words is said three times in a row, eight words or more in sum."""
    for size in range(1, min(_LONGEST_UNIT, len(words) // _LEAST_REPEATS) + 1):
        needed = max(size * _LEAST_REPEATS, _LEAST_WORDS) - size
        run = 0
        for one, other in zip(words, words[size:], strict=False):
            run = run + 1 if one == other else 0
            if run >= needed:
                return True
    return False
