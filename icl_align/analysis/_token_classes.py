"""What a token of an answer is for: a stated rule, and how its text is shown."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any, Literal

Kind = Literal["stylistic", "content", "punctuation", "end"]
KINDS: tuple[Kind, ...] = ("stylistic", "content", "punctuation", "end")

_FUNCTION = """
a an the this that these those some any each every either neither no all both few many much more
most other another such and or but nor so yet for of in on at by to from with without into onto
about over under after before between through during against within as than like if then else when
while where which who whom whose what why how because since although though unless until whether
not also too very just only even still again ever never always often sometimes usually here there
now i me my mine you your yours he him his she her hers it its we us our ours they them their
theirs one ones myself yourself itself ourselves themselves am is are was were be been being do
does did doing have has had having will would shall should can could may might must cannot can't
don't doesn't isn't aren't won't i'm i'd i'll i've you're you'd you'll we're it's that's there's
let's up down out off
"""
_DISCOURSE = """
first firstly second secondly third thirdly next finally last lastly however therefore thus hence
moreover furthermore additionally overall instead otherwise meanwhile indeed actually basically
certainly definitely absolutely sure surely okay ok yes well note remember importantly generally
typically specifically example examples instance e.g i.e summary conclusion short following follow
follows below above step steps
"""
_MANNERS = """
hello hi hey welcome dear thank thanks asking ask asked question questions great good glad happy
pleased pleasure delighted please sorry apologize apologise apologies unfortunately understand
appreciate hope hopes feel free help helps helping helpful assist assistance need let know want
day lovely wonderful
"""
_CAUTION = """
unable refuse refrain inappropriate unethical illegal harmful dangerous harm hurt hurts someone
safe safety responsible responsibly ethical legal important crucial essential recommend
recommended advise advised consult consider avoid ensure professional assistant ai language model
"""
STYLISTIC = frozenset(f"{_FUNCTION} {_DISCOURSE} {_MANNERS} {_CAUTION}".split())
"""English words that shape an answer more than they inform: function words, discourse markers, manners,
caution. It stands in for URIAL's "stylistic tokens" (2312.01552), which has examples and no list."""

_WORD = re.compile(r"[^\W_]+(?:['\u2019.][^\W_]+)*")
_ITEM = re.compile(r"^[ \t]*(\d{1,3})(?=[.)](?:\s|$))", re.MULTILINE)


def spans(tokenizer: Any, ids: Sequence[int]) -> tuple[str, list[int]]:
    """Gives the text of tokens, and where in it each ends.

    Of a character whose bytes came in several tokens all but the last are empty.
    """

    def text_of(part: Sequence[int]) -> str:
        return str(
            tokenizer.decode(
                list(part), skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )

    whole, ends = text_of(ids), list[int]()
    for count in range(1, len(ids) + 1):
        begun = len(text_of(ids[:count]).rstrip("\ufffd"))
        ends.append(max(begun, ends[-1] if ends else 0))
    if ends:
        ends[-1] = len(whole)
    return whole, ends


def kinds(text: str, ends: Sequence[int], stylistic: Collection[str] = STYLISTIC) -> list[Kind]:
    """Says of each token of an answer whether it is stylistic, content or punctuation.

    The rule, the first that fits: a token without letters and digits, and the number that opens a
    line of a list, is punctuation (white space is, too); a token whose first letter or digit stands in
    a word of `stylistic`, whatever its case, is stylistic; any other is content. So pieces of one word
    are of one kind. What ends an answer is no part of it, its kind is "end".

    Args:
        text: The answer.
        ends: Where in the text each token ends.
        stylistic: Words in lower case.
    """
    items = {match.start(1) for match in _ITEM.finditer(text)}
    words = {
        place: match
        for match in _WORD.finditer(text)
        for place in range(match.start(), match.end())
    }
    found: list[Kind] = []
    start = 0
    for end in ends:
        inside = next((words[place] for place in range(start, end) if place in words), None)
        if inside is None or inside.start() in items:
            found.append("punctuation")
        else:
            word = inside.group().casefold().replace("\u2019", "'")
            found.append("stylistic" if word in stylistic else "content")
        start = end
    return found


def visible(text: str) -> str:
    r"""Writes what cannot be printed, line ends too, as escapes such as \n; a backslash as two."""
    return "".join(
        one if one.isprintable() and one != "\\" else one.encode("unicode_escape").decode("ascii")
        for one in text
    )
