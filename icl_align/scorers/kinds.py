"""The kinds of programmatic checks: small pure functions from values and response to [0, 1].

Texts are compared without regard to case, runs of white space and typographic quotes, on word
boundaries; a number must be that very number (`3` is not in `13`, `-3` or `3.5`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from icl_align.scorers.loops import loops
from icl_align.scorers.refusals import refusal
from icl_align.types import Response

_QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u00a0": " "})
_ITEM = re.compile(
    r"^[ \t]*(?:[-*+\u2022\u2013]|\(?\d{1,3}[.):]|\(?[a-zA-Z][.)])[ \t]+\S", re.MULTILINE
)
_NUMBER = re.compile(r"(?<![\w.])[-+\u2212]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?!\w)")


def contains_all(values: Sequence[str], response: Response) -> float:
    """The share of the values that occur."""
    _need(values, "at least one text to find")
    return sum(_occurs(value, response.text) for value in values) / len(values)


def contains_any(values: Sequence[str], response: Response) -> float:
    """1 if one of the values occurs."""
    _need(values, "at least one text to find")
    return float(any(_occurs(value, response.text) for value in values))


def excludes(values: Sequence[str], response: Response) -> float:
    """1 if none of the values occurs."""
    _need(values, "at least one text to avoid")
    return float(not any(_occurs(value, response.text) for value in values))


def starts_with_any(values: Sequence[str], response: Response) -> float:
    """1 if the text starts with one of the values."""
    _need(values, "at least one text to start with")
    text = _plain(response.text)
    return float(any(re.match(_pattern(value), text) for value in values))


def ends_with_any(values: Sequence[str], response: Response) -> float:
    """1 if the text ends with one of the values."""
    _need(values, "at least one text to end with")
    text = _plain(response.text)
    return float(any(re.search(_pattern(value) + r"\Z", text) for value in values))


def regex(values: Sequence[str], response: Response) -> float:
    """The share of the regular expressions that match somewhere; `^` and `$` are ends of lines."""
    _need(values, "at least one regular expression")
    return sum(_matches(value, response.text) for value in values) / len(values)


def refuses(values: Sequence[str], response: Response) -> float:
    """1 if the answer refuses, in usual English or in one of the values' phrases."""
    phrased = any(_occurs(value, response.text) for value in values)
    return float(phrased or refusal(_plain(response.text)))


def complies(values: Sequence[str], response: Response) -> float:
    """1 if the answer does not refuse; the values are further phrases of refusal."""
    return 1.0 - refuses(values, response)


def min_words(values: Sequence[str], response: Response) -> float:
    """1 if there are at least this many words."""
    (least,) = _whole_numbers(values, 1)
    return float(_words(response) >= least)


def max_words(values: Sequence[str], response: Response) -> float:
    """1 if there are at most this many words."""
    (most,) = _whole_numbers(values, 1)
    return float(_words(response) <= most)


def word_band(values: Sequence[str], response: Response) -> float:
    """1 from `lo` to `hi` words; falls linearly to 0 at no words, and at twice `hi`."""
    low, high = _whole_numbers(values, 2)
    if not 0 <= low <= high or high == 0:
        raise ValueError(f"a word band needs 0 <= lo <= hi and hi > 0, got {low} and {high}")
    count = _words(response)
    if count < low:
        return count / low
    return max(0.0, 1.0 - max(0, count - high) / high)


def min_items(values: Sequence[str], response: Response) -> float:
    """The share of this many numbered or bulleted list items, at most 1."""
    (least,) = _whole_numbers(values, 1)
    return min(1.0, len(_ITEM.findall(response.text)) / max(1, least))


def no_list(values: Sequence[str], response: Response) -> float:
    """1 if there are no numbered or bulleted list items."""
    _whole_numbers(values, 0)
    return float(_ITEM.search(response.text) is None)


def no_repetition(values: Sequence[str], response: Response) -> float:
    """1 if the text does not go round in circles; code blocks are not looked at."""
    _whole_numbers(values, 0)
    return float(not loops(response.text))


def stops(values: Sequence[str], response: Response) -> float:
    """1 if the answer came to its own end instead of running into the token bound."""
    _whole_numbers(values, 0)
    return float(response.finish == "stop")


def equals_number(values: Sequence[str], response: Response) -> float:
    """1 if the last number of the text is this one; `1,234.50` and `1234.5` are the same."""
    if len(values) != 1:
        raise ValueError(f"it takes one number, got {list(values)}")
    try:
        wanted = _value(values[0])
    except ValueError as error:
        raise ValueError(f"it takes a number such as '12.5', got {values[0]!r}") from error
    found = _NUMBER.findall(response.text)
    return float(bool(found) and _value(found[-1]) == wanted)


KINDS: Mapping[str, Callable[[Sequence[str], Response], float]] = MappingProxyType(
    {
        kind.__name__: kind
        for kind in (
            contains_all,
            contains_any,
            excludes,
            starts_with_any,
            ends_with_any,
            regex,
            refuses,
            complies,
            min_words,
            max_words,
            word_band,
            min_items,
            no_list,
            no_repetition,
            stops,
            equals_number,
        )
    }
)
"""The built-in kinds by name, each a function `(values, response) -> float in [0, 1]`."""


def _plain(text: str) -> str:
    """Text for comparison: case, quotes and white space made alike, surrounding space dropped."""
    text = unicodedata.normalize("NFC", text).translate(_QUOTES)
    return " ".join(text.casefold().split())


def _occurs(value: str, text: str) -> bool:
    return re.search(_pattern(value), _plain(text)) is not None


def _pattern(value: str) -> str:
    """A regular expression for a value on word boundaries, for text made `_plain`."""
    plain = _plain(value)
    if not plain:
        raise ValueError("a text to compare with must not be empty")
    before = after = ""
    if plain[0].isdigit():
        before = r"(?<![^\W_])(?<!\d[.,])(?<!\A[-\u2212])(?<![\s(][-\u2212])"
    elif plain[0].isalnum():
        before = r"(?<![^\W_])"
    if plain[-1].isdigit():
        after = r"(?![^\W_])(?![.,]\d)"
    elif plain[-1].isalnum():
        after = r"(?![^\W_])"
    return before + re.escape(plain) + after


def _matches(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text, re.MULTILINE) is not None
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error


def _words(response: Response) -> int:
    return len(response.text.split())


def _value(number: str) -> float:
    return float(number.replace(",", "").replace("\u2212", "-"))


def _need(values: Sequence[str], what: str) -> None:
    if not values:
        raise ValueError(f"it takes {what}, got none")


def _whole_numbers(values: Sequence[str], count: int) -> tuple[int, ...]:
    if len(values) != count or not all(value.strip().isdecimal() for value in values):
        wanted = {0: "no values", 1: "one whole number"}.get(count, f"{count} whole numbers")
        raise ValueError(f"it takes {wanted}, got {list(values)}")
    return tuple(int(value) for value in values)
