"""Finds the JSON-like objects in a judge's reply, in one pass.

A reply is untrusted text. What is forgiven: line breaks and quotes inside texts, wrong escapes, stray
fences, commas too many or (at a line's end) too few, Python's literals, keys without quotes. What is
not: an object that never closes, or whose parts do not fit together, yields nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from icl_align.scorers._reply_reader import BrokenError, Obj, Reader, Value

MOST_CHARACTERS = 200_000
"""Longer replies are not looked at."""
_BRACE = re.compile(r"[{}]")
_THOUGHT = re.compile(r"\s*<(think|thinking|thought|reasoning)>", re.IGNORECASE)
_THOUGHT_ENDS = re.compile(
    r"^[ \t]*</(?:think|thinking|thought|reasoning)>[ \t]*$", re.IGNORECASE | re.MULTILINE
)
_OPENING = re.compile(r"\{(?=\s*[\"'`\w])")


@dataclass(frozen=True, slots=True)
class Torn:
    """An object that could not be read.

    Attributes:
        keys: The keys that had been read before it failed, at any depth.
        start: Where its brace stands in the text.
        cut: Whether the text ended before its last brace; otherwise its parts do not fit together.
    """

    keys: tuple[str, ...]
    start: int
    cut: bool


def spoken(text: str) -> str:
    """Leaves out what a model thought aloud before it replied; everything where the thought was cut off.

    A verdict that a thought tries out is none. Some chat templates open the thought themselves, so that the
    reply has only its end, on a line of its own.
    """
    ended = _THOUGHT_ENDS.search(text)
    if ended is not None and _THOUGHT.match(text) is None:
        text = text[ended.end() :]
    while (thought := _THOUGHT.match(text)) is not None:
        closing = re.compile(f"</{thought.group(1)}>", re.IGNORECASE).search(text, thought.end())
        text = text[closing.end() :] if closing else ""
    return text


def scan(text: str) -> list[Obj | Torn]:
    """Gives the outermost objects of a text, in order, in time linear in its length.

    What was begun as an object, with a key and a colon, and then breaks is skipped as a whole; after
    it only an object that opens a line counts, since others may stand inside a text of the broken one.
    """
    found: list[Obj | Torn] = []
    position, only_at_line_start = 0, False
    while (opening := _OPENING.search(text, position)) is not None:
        start, position = opening.span()
        if only_at_line_start and text[text.rfind("\n", 0, start) + 1 : start].strip("` \t"):
            continue
        reader = Reader(text)
        try:
            item, position = reader.read_object(start, 1)
        except BrokenError as error:
            if reader.keys:
                end = _balanced(text, start)
                found.append(Torn(tuple(reader.keys), start, error.cut and end is None))
                position = len(text) if end is None else max(error.position, end)
                only_at_line_start = True
        else:
            found.append(Obj(item.pairs, start, _loose(text[max(0, start - 50) : start])))
    return found


def scan_list(text: str) -> list[Value] | None:
    """Gives the last list of a text that opens a line or the text, None where there is none."""
    starts = [match.end() - 1 for match in re.finditer(r"(?:^|\n)[ \t`]*(?:json\s*)?\[", text)]
    for start in reversed(starts[-4:]):
        try:
            return Reader(text).read_list(start, 1)[0]
        except BrokenError:
            continue
    return None


def _loose(before: str) -> bool:
    """Whether no key stands right before an object, given what does."""
    same_line = before.rstrip(" \t")
    key = before.rstrip().removesuffix(":").rstrip()
    return not same_line.endswith(":") and not (
        before.rstrip().endswith(":") and key.endswith(('"', "'"))
    )


def _balanced(text: str, start: int) -> int | None:
    """Where as many braces have closed as opened since `start`, None if they never do."""
    depth = 0
    for brace in _BRACE.finditer(text, start):
        depth += 1 if brace.group() == "{" else -1
        if depth == 0:
            return brace.end()
    return None
