"""Reads single values of a judge's reply: numbers on a scale, names among choices, yes and no."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from icl_align.scorers._reply_reader import Value

NOT_APPLICABLE = "not applicable"
"""How a judge's own "N/A" is told; a decision of the judge, unlike a reply that cannot be read."""
_NONE_SAID = {"n/a", "na", "n.a.", "n/a.", "not applicable", "not available", "none", "null"}
_NUMBER = r"(-?[0-9]{1,30}(?:\.[0-9]{1,30})?)"
_SCORE = re.compile(
    rf"(?:(?:score|rating|grade)\s{{0,3}}(?:[:=]|is)?\s{{0,3}})?{_NUMBER}"
    rf"(?:\s?(?:/|out of)\s?{_NUMBER})?\.?",
    re.IGNORECASE,
)
_ANGLED = re.compile(
    r"<[^<>]*>|\[[^\[\]0-9]*\]|\[\s?[0-9]+\s?-\s?[0-9]+\s?\]|\{[^{}]*\}|[._?\u2026]+"
)
_NAMED = re.compile(
    r"(?:your |the )?(?:score|rating|grade|number|integer|int|float|choice)(?: here)?"
)
_SEPARATOR = re.compile(r"\s*(?:[,/|]|\bor\b|\bto\b|[-\u2013])\s*")
_MARKUP = "*`\"'\u201c\u201d\u2018\u2019 \t\r\n"
_LONGEST = 200


def number(value: Value, low: float, high: float) -> tuple[float | None, str]:
    """Reads a number on the scale from `low` to `high`, or tells why there is none.

    Texts may hold it bare ("4"), with its scale ("4/5", where 5 is `high`) or named ("Score: 4").
    """
    if value is None:
        return None, NOT_APPLICABLE
    if isinstance(value, bool):
        return None, f"{value} is no number"
    if isinstance(value, str):
        return _number_in(value, low, high)
    if not isinstance(value, float):
        return None, "not a number but a list or an object"
    if not math.isfinite(value) or not low <= value <= high:
        return None, f"{value:g} is outside the scale from {low:g} to {high:g}"
    return value, ""


def _number_in(text: str, low: float, high: float) -> tuple[float | None, str]:
    plain = plainly(text)
    if plain in _NONE_SAID:
        return None, NOT_APPLICABLE
    match = _SCORE.fullmatch(plain) if len(plain) <= _LONGEST else None
    if match is None:
        return None, f"{shown(text)} is not one number"
    if match.group(2) is not None and float(match.group(2)) != high:
        return None, f"{shown(text)} is not on the scale up to {high:g}"
    return number(float(match.group(1)), low, high)


def choice(value: Value, choices: Mapping[str, str]) -> tuple[str | None, str]:
    """Finds what a value chooses, or tells why it is none of the choices.

    Args:
        value: As it was read.
        choices: Made by `spelled`.
    """
    if value is None:
        return None, NOT_APPLICABLE
    if not isinstance(value, str):
        return None, f"{shown(value)} is none of the choices"
    plain = plainly(value).removesuffix(".").strip("[]")
    for key in (
        plain,
        re.sub(r"\A(?:candidate )?(?:output|response|assistant|answer) ", "", plain),
    ):
        if key in choices:
            return choices[key], ""
    reason = NOT_APPLICABLE if plain in _NONE_SAID else f"{shown(value)} is none of the choices"
    return None, reason


def spelled(choices: Mapping[str, str] | tuple[str, ...]) -> dict[str, str]:
    """Maps plain spellings to what they choose; a choice "tie" may be spelt in the usual ways.

    Raises:
        ValueError: no choices, or one spelling with two meanings.
    """
    pairs = choices.items() if isinstance(choices, Mapping) else [(c, c) for c in choices]
    known: dict[str, str] = {}
    for spelling, meaning in pairs:
        if known.setdefault(plainly(spelling), meaning) != meaning:
            raise ValueError(
                f"{spelling!r} is given two meanings; choices differ by more than case"
            )
    if not known:
        raise ValueError("a verdict needs choices, got none")
    if "tie" in known:
        usual = ("same", "equal", "draw", "a=b", "b=a", "a = b", "tied")
        known = dict.fromkeys(usual, known["tie"]) | known
    return known


def placeholder(value: Value, low: float | None = None, high: float | None = None) -> bool:
    """Whether a value is what a template holds where a verdict belongs: "<score>", "1-5", "...".

    Args:
        value: As it was read.
        low: The scale's lower end, where there is a scale.
        high: Its upper end.
    """
    if not isinstance(value, str):
        return False
    plain = plainly(value)
    if not plain or _ANGLED.fullmatch(plain) or _NAMED.fullmatch(plain.strip("[]<>{} ")):
        return True
    if low is None or high is None or len(plain) > _LONGEST:
        return False
    parts = [part for part in _SEPARATOR.split(plain) if part]
    ends = [f"{low:g}", f"{high:g}"]
    return len(parts) > 1 and parts[:1] + parts[-1:] == ends and all(map(str.isdecimal, parts))


def yes_or_no(text: str) -> bool | None:
    """Reads an answer that begins with yes or no, or is a question followed by one of them."""
    plain = plainly(text[:1500])
    match = _YES_NO.match(plain) or _AFTER_QUESTION.search(plain)
    return None if match is None else match.group(1) == "yes"


_YES_NO = re.compile(
    r"(?:answer\s{0,3}[:=]\s{0,3})?[\[(*]{0,3}(yes|no)\b[\])*]{0,3}"
    r"(?=\s*\Z|\s{0,3}[.,:;!(*]|\s{1,3}[-\u2013\u2014]|\s{1,3}(?:because|since)\b)"
    r"(?!\s{0,3}[.,:;!(*\u2013\u2014-]?\s{0,3}(?:and|or|/|but)?\s{0,3}(?:yes|no)\b)"
)
_AFTER_QUESTION = re.compile(r"\?[\s:*\u2013\u2014-]{0,5}(yes|no)[.*]{0,3}\Z")


def plainly(text: str) -> str:
    """A text without case, markup and white space around it."""
    return " ".join(text.strip(_MARKUP).casefold().split()) if len(text) < 10 * _LONGEST else text


def shown(value: object) -> str:
    """A value as a message may show it: in one line, cut short."""
    written = repr(value)
    return written if len(written) <= 60 else written[:57] + "..."  # noqa: PLR2004
