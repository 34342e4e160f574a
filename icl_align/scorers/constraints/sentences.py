"""Splits texts into sentences the way Punkt does without training, plus some abbreviations.

Punkt (Kiss and Strunk, Computational Linguistics 32, 2006) decides at each `.`, `?` and `!` from the
word before it and the one after it. IFEval counts sentences by it. Untrained it knows no
abbreviation and no word that opens sentences: initials and list numbers are told by their shape.
"""

from __future__ import annotations

import re
from itertools import pairwise, zip_longest

_CLOSING = r"""[)\]}"';:*@({\[!?]"""
_PAUSE = r"-{2}|\.{2}|\.\s\.\s\."
_STOPS = rf"\s|\Z|{_CLOSING}|{_PAUSE}"
_TOKEN = re.compile(
    rf"-{{2,}}|\.{{2,}}|(?:\.\s){{2,}}\."
    rf"""|[^\s("`{{\[:;&#*@)}}\]\-,](?:(?!{_STOPS}|,(?:{_STOPS}))\S)*"""
    r"|\S"
)
_CHUNK = re.compile(r"\S+")
_INSIDE = re.compile(rf"[.?!](?={_CLOSING})")
_CLOSED = re.compile(r"""["')\]}]+(?:\s+|(?=--)|\Z)""")
_NUMBER = re.compile(r"-?[.,]?\d[\d,.-]*")
_TITLES = re.compile(
    r"mrs?|ms|dr|prof|rev|hon|gen|col|capt|lt|sgt|cmdr|st|mt|messrs|fr|gov|sen|rep|pres|supt"
)
"""Abbreviations that a name follows: never the end of a sentence."""
_OTHERS = re.compile(
    r"e\.g|i\.e|etc|vs|cf|al|approx|no|vol|pp|figs?|eq|eds?|inc|ltd|co|corp|bros|dept|est|[ap]\.m|"
    r"u\.[skn]|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|ave|blvd|rd|ca|viz"
)
"""Abbreviations that end a sentence where a capital letter follows."""


def sentences(text: str) -> list[str]:
    """Splits a text into its sentences, quotes and brackets that close one included."""
    spans = _spans(text)
    found: list[str] = []
    moved = 0
    for (start, end), after in zip_longest(spans, spans[1:]):
        first, moved = start + moved, 0
        last = end
        closed = _CLOSED.match(text[slice(*after)]) if after else None
        if after and closed:
            last, moved = after[0] + len(closed.group().rstrip()), closed.end()
        if first < last:
            found.append(text[first:last])
    return found


def _spans(text: str) -> list[tuple[int, int]]:
    """Cuts a text at every end of a sentence; (start, end) of each piece."""
    found: list[tuple[int, int]] = []
    start = 0
    chunks = list(_CHUNK.finditer(text))
    for chunk, after in zip_longest(chunks, chunks[1:]):
        for cut in _cuts(chunk.group(), after.group() if after else None):
            end = chunk.start() + cut
            found.append((start, end))
            start = after.start() if after and end == chunk.end() else end
    return [*found, (start, len(text.rstrip()))]


def _cuts(chunk: str, after: str | None) -> list[int]:
    """Gives the lengths of the parts of a chunk at which sentences end.

    A chunk is what stands between white space. Only its last possible end is looked at, and one at
    its very beginning, as in ` ?!`, which for Punkt are two.
    """
    ends = [match.end() for match in _INSIDE.finditer(chunk)]
    context = chunk[: ends[-1] + 1] if ends else ""
    if after and chunk[-1] in ".?!":
        ends, context = [*ends, len(chunk)], f"{chunk} {after}"
    if not ends:
        return []
    first = [1] if ends[0] == 1 and len(ends) > 1 else []
    closes = any(_ends(one, other) for one, other in pairwise(_TOKEN.findall(context)))
    return [*first, ends[-1]] if closes else first


def _ends(token: str, after: str) -> bool:
    """Whether a sentence ends with this token, given the next one."""
    if token in (".", "?", "!"):
        return True
    if not token.endswith(".") or token.endswith(".."):
        return False
    word = token[:-1]
    last = word.lower().rpartition("-")[2]
    if _TITLES.fullmatch(last):
        return False
    if _OTHERS.fullmatch(last):
        return after[0].isupper()
    goes_on = after in (";", ":", ",", ".", "!", "?") or after[0].islower()
    if len(word) == 1 and word.isalpha():
        return not goes_on and not after[0].isupper()
    return not (goes_on and _NUMBER.fullmatch(word))
