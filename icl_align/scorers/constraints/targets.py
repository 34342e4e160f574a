"""Rules on lengths and keywords of other benchmarks: Ruler's targets, CoDI-Eval's constraints."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from icl_align.scorers.constraints.values import count, some, take
from icl_align.scorers.constraints.words import count_words

_BANDS: Mapping[str, tuple[float, float, float, float]] = MappingProxyType(
    {
        "10": (0, 20, 0, 20),
        "30": (20, 40, 20, 40),
        "50": (40, 60, 40, 60),
        "80": (70, 90, 60, 100),
        "150": (130, 170, 100, 200),
        "300": (280, 320, 200, 400),
        "500": (450, 550, 400, 600),
        "700": (630, 770, 600, 800),
        ">800": (800, math.inf, 800, math.inf),
    }
)
"""Ruler's targets (2409.18943): words above, and up to, for a precise and for a flexible match."""
_LEVELS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"0": ("10", "30", "50", "80"), "1": ("150", "300", "500"), "2": ("700", ">800")}
)
"""Its levels of difficulty."""
_TERMS = re.compile(r"\w+(?:-\w+)*")
_PLAIN = re.compile(r"\w+(?:[- ]\w+)*")


def precise_match(values: Sequence[str], answer: str) -> bool:
    """Values: one of Ruler's targets, `10` to `700` or `>800`. The length lies in its narrow band."""
    low, high, _, _ = _band(values)
    return low < count_words(answer) <= high


def flexible_match(values: Sequence[str], answer: str) -> bool:
    """Values: one of Ruler's targets. The length lies in its wide band."""
    _, _, low, high = _band(values)
    return low < count_words(answer) <= high


def level(values: Sequence[str], answer: str) -> bool:
    """Values: a level, `0`, `1` or `2`. The length lies in the wide band of one of its targets."""
    (name,) = take(values, "level")
    if name not in _LEVELS:
        raise ValueError(f"its level must be one of {', '.join(_LEVELS)}, got {name!r}")
    return any(flexible_match((target,), answer) for target in _LEVELS[name])


def word_target(values: Sequence[str], answer: str) -> bool:
    """Values: number of words, tolerance in words (`20`) or in per cent of the number (`10%`)."""
    number, tolerance = take(values, "number", "tolerance")
    wanted = count(number, "number", 1)
    allowed = count(tolerance.strip().removesuffix("%"), "tolerance")
    distance = abs(count_words(answer) - wanted)
    if tolerance.strip().endswith("%"):
        return distance * 100 <= allowed * wanted
    return distance <= allowed


def length(values: Sequence[str], answer: str) -> bool:
    """Values: `at most`, `at least`, `equal to` or `around` and a number; `between` and two.

    CoDI-Eval's (2401.00690) five ways to ask for a number of words; `around` allows a tenth.
    """
    low, high = _bounds(values)
    return low <= count_words(answer) <= high


def keywords(values: Sequence[str], answer: str) -> bool:
    """Values: the keywords. Each occurs as a word, in any regular English form of it."""
    return all(_said(word, answer) for word in some(values, "keyword"))


def keywords_avoided(values: Sequence[str], answer: str) -> bool:
    """Values: the keywords. None occurs as a word, in any regular English form of it."""
    return not any(_said(word, answer) for word in some(values, "keyword"))


def _band(values: Sequence[str]) -> tuple[float, float, float, float]:
    (target,) = take(values, "target")
    if target not in _BANDS:
        raise ValueError(
            f"its target must be one of {', '.join(_BANDS)}, got {target!r}; word_target takes any"
        )
    return _BANDS[target]


def _bounds(values: Sequence[str]) -> tuple[float, float]:
    if values and values[0] == "between":
        _, first, second = take(values, "between", "least", "most")
        low, high = count(first, "least"), count(second, "most")
        if low > high:
            raise ValueError(f"the least must not be above the most, got {low} and {high}")
        return low, high
    mode, number = take(values, "relation", "number")
    wanted = count(number, "number")
    bounds = {
        "at most": (1, wanted),
        "at least": (wanted, math.inf),
        "equal to": (wanted, wanted),
        "around": (round(wanted * 0.9), round(wanted * 1.1)),
    }
    if mode not in bounds:
        raise ValueError(f"its relation must be one of {', '.join(bounds)}, between; got {mode!r}")
    return bounds[mode]


def _said(keyword: str, answer: str) -> bool:
    """Whether a keyword occurs; the last word of one of several may be inflected."""
    wanted = " ".join(keyword.lower().split())
    if not _PLAIN.fullmatch(wanted):
        return re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", answer.lower()) is not None
    forms = _forms(wanted)
    if " " not in wanted:
        return not forms.isdisjoint(_TERMS.findall(answer.lower()))
    plain = " ".join(answer.lower().split())
    return any(re.search(rf"(?<!\w){re.escape(form)}(?!\w)", plain) for form in forms)


def _forms(word: str) -> set[str]:
    """Gives the regular plural, past and continuous forms of a word, itself included."""
    forms = {word, *(word + ending for ending in ("s", "es", "ed", "d", "ing"))}
    if word[-1] == "e":
        forms.add(word[:-1] + "ing")
    if word[-1] == "y":
        forms |= {word[:-1] + "ies", word[:-1] + "ied"}
    if word[-1] in "bdgklmnprt":
        forms |= {f"{word}{word[-1]}ed", f"{word}{word[-1]}ing"}
    return forms
