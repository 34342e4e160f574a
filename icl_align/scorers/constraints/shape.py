"""Rules on the form of an answer: marks, lists, sections, beginning and end.

Nothing here takes longer than in proportion to the text's length.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from icl_align.scorers.constraints.values import count, some, take, text

_ONE_STAR = re.compile(r"\*([^*\n]*)\*")
_TWO_STARS = re.compile(r"\*\*([^*\n]*)\*\*")
_FENCE = re.compile(r"\A```(?:json|Json|JSON)?")
_OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_POSTSCRIPTS = {"p.s.": r"p\.\s?s\.", "p.p.s": r"p\.\s?p\.\s?s"}


def number_placeholders(values: Sequence[str], answer: str) -> bool:
    """Values: number. At least so many `[placeholders]`, each on one line."""
    wanted = _number(values)
    return sum(_bracketed(line) for line in answer.split("\n")) >= wanted


def number_bullet_lists(values: Sequence[str], answer: str) -> bool:
    """Values: number. Exactly so many lines that open with `*` (not `**`) or `-`."""
    wanted = _number(values)
    lines = [line.lstrip() for line in answer.split("\n")]
    stars = sum(line[:1] == "*" and line[1:2] not in ("*", "") for line in lines)
    bare = sum(line == "*" for line in lines[:-1])  # an empty item, with more text below it
    return stars + bare + sum(line[:1] == "-" for line in lines) == wanted


def number_highlighted_sections(values: Sequence[str], answer: str) -> bool:
    """Values: number. At least so many `*highlights*` or `**highlights**`, each on one line."""
    wanted = _number(values)
    found = (*_ONE_STAR.findall(answer), *_TWO_STARS.findall(answer))
    return sum(bool(highlight.strip()) for highlight in found) >= wanted


def multiple_sections(values: Sequence[str], answer: str) -> bool:
    """Values: what a section's heading says (case matters), number. At least so many, numbered."""
    heading, number = take(values, "heading", "number")
    pattern = rf"{re.escape(text(heading, 'heading'))}\s?\d"
    return len(re.findall(pattern, answer)) >= count(number, "number")


def title(values: Sequence[str], answer: str) -> bool:
    """No values. Some line holds a title in `<<double angular brackets>>`."""
    take(values)
    return any(_titled(line) for line in answer.split("\n"))


def json_format(values: Sequence[str], answer: str) -> bool:
    """No values. All of it is JSON, in a Markdown fence or not."""
    take(values)
    bare = _FENCE.sub("", answer.strip()).removesuffix("```")
    try:
        json.loads(bare.strip())
    except (ValueError, RecursionError):  # RecursionError: nested deeper than anyone would write
        return False
    return True


def constrained_response(values: Sequence[str], answer: str) -> bool:
    """Values: what may be said, one of which occurs; none for IFEval's yes, no and maybe."""
    options = some(values, "option") if values else _OPTIONS
    return any(option in answer for option in options)


def postscript(values: Sequence[str], answer: str) -> bool:
    """Values: the marker. It occurs; in `P.S.` and `P.P.S` spaces may stand after full stops."""
    marker = text(take(values, "marker")[0], "marker").lower()
    return re.search(_POSTSCRIPTS.get(marker, re.escape(marker)), answer.lower()) is not None


def two_responses(values: Sequence[str], answer: str) -> bool:
    """No values. Two different answers with six asterisks, `******`, between them."""
    take(values)
    parts = [part.strip() for part in answer.split("******")]
    full = [part for part in parts if part]
    return all(parts[1:-1]) and len(full) == 2 and full[0] != full[1]  # noqa: PLR2004 (two of them)


def repeat_prompt(values: Sequence[str], answer: str) -> bool:
    """Values: the prompt. The text starts with it; case does not count."""
    prompt = text(take(values, "prompt")[0], "prompt")
    return answer.strip().lower().startswith(prompt.lower())


def end_checker(values: Sequence[str], answer: str) -> bool:
    """Values: the phrase. The text ends with it, inside quotation marks or not; case does not count."""
    phrase = text(take(values, "phrase")[0], "phrase")
    return answer.strip().strip('"').lower().endswith(phrase.lower())


def quotation(values: Sequence[str], answer: str) -> bool:
    """No values. All of it stands between straight double quotation marks."""
    take(values)
    plain = answer.strip()
    return len(plain) > 1 and plain[0] == plain[-1] == '"'


def no_comma(values: Sequence[str], answer: str) -> bool:
    """No values. There is no `,`."""
    take(values)
    return "," not in answer


def _number(values: Sequence[str]) -> int:
    (number,) = take(values, "number")
    return count(number, "number")


def _bracketed(line: str) -> int:
    """Counts pairs of a `[` and the next `]` in a line."""
    found, place = 0, 0
    while (start := line.find("[", place)) >= 0 and (end := line.find("]", start)) >= 0:
        found, place = found + 1, end + 1
    return found


def _titled(line: str) -> bool:
    start, end = line.find("<<"), line.rfind(">>")
    inner = line[start : end + 2] if 0 <= start < end - 2 else ""
    return bool(inner.lstrip("<").rstrip(">").strip())
