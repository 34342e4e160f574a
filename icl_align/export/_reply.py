"""What a server that knows no `Prompt.parse` needs to find an answer in a completion.

`transformers` keeps a `response_template` beside a chat template: a pattern that closes the answer.
The one made here does what `urial_text.answer_end` does, with two simplifications: a code block is
closed by any bare fence, however many backticks opened it, and white space at the end of an answer
that a client's own `max_tokens` cut off stays.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from icl_align.prompt import FENCE, Format, Prompt

_WS = r"[\s\x1c-\x1f]"
_BLANK = r"(?:(?!\n)[\s\x1c-\x1f])*+"
"""What may stand on a blank line."""
_FENCE = r"[ \t]*+`{3,}[^`\n]*+(?=\n|\Z)"
_BARE = rf"[ \t]*+`{{3,}}{_BLANK}(?=\n|\Z)"


def response_template(prompt: Prompt, ends: Sequence[str]) -> dict[str, Any]:
    """Gives the `response_template` of a tokenizer whose model answers in a prompt's format.

    Args:
        prompt: The prompt.
        ends: Texts of the end-of-sequence tokens.
    """
    content = {
        "close_pattern": close_pattern(prompt.format, prompt.stop, ends),
        "content": "text",
        "content_args": {"strip": False},
    }
    return {
        "defaults": {"role": "assistant"},
        "start_anchor_pattern": r"\Z",  # nothing of an answer stands in the prompt
        "fields": {"content": content},
    }


def close_pattern(form: Format, stop: Sequence[str], ends: Sequence[str]) -> str:
    """Gives the pattern (of the package `regex`) of everything behind an answer.

    It swallows the rest of the text, so that nothing behind the answer becomes an answer again, and
    matches nowhere without a sign, so that a stream is held back only where a sign may begin.
    """
    marks = "|".join(re.escape(mark) for mark in (*stop, *ends))
    end = rf"(?:{marks}|\Z)"
    plain = rf"(?:^(?!{_FENCE})[^\n]*+\n)*+"
    bare = rf"^{_BARE}\n{plain}"
    tagged = rf"^(?!{_BARE}){_FENCE}\n{plain}"
    # A tagged fence opens a block or stands in one: from the last one on the bare fences are counted.
    outside = rf"(?<=(?:\A{plain}|{tagged}{bare})(?:{bare}{bare})*+)"
    query = re.escape(form.query_heading)
    start = query if form.query_heading.startswith("#") else _lone_heading(query, end)
    signs = [
        rf"(?<!{_WS})(?:(?!{marks}){_WS})*+(?:{marks})",
        rf"(?<!{_WS})(?:(?!\n{start}){_WS})*+(?:\n|\A)(?={start}){outside}",
    ]
    if form.fenced:
        after = _after_closing(form, end)
        signs.append(
            rf"(?:\n|\A)(?={FENCE}{_BLANK}(?:\n|{end})){outside}{FENCE}{_BLANK}(?={after})"
        )
    return rf"(?m)(?:{'|'.join(signs)})(?s:.*)"


def _lone_heading(query: str, end: str) -> str:
    """A heading that is a plain word: alone on its line, or behind a blank one."""
    return rf"(?:{query}{_BLANK}(?=\n|{end})|(?<=(?:\A|\n){_BLANK}\n){query})"


def _after_closing(form: Format, end: str) -> str:
    """What follows a bare fence that closes the answer and opens no block; see `urial_text._closes`."""
    query, answer = re.escape(form.query_heading), re.escape(form.answer_heading)
    alone = rf"{answer}{_BLANK}(?=\n|{end})"
    soon = query if form.query_heading.startswith("#") else rf"{query}{_BLANK}(?=\n|{end})"
    heading = (
        rf"\n{_BLANK}\n{_WS}*?^(?:{query}|{alone})"
        rf"|\n(?:{soon}[^\n]*+|{alone})\n{FENCE}"
    )
    turn = rf"(?<=\n{_BLANK})\n{query}"
    ticks = r"[ \t]*+`{3,}"
    fence, lone = rf"{ticks}(?:(?!{end})[^`\n])*+(?=\n|{end})", rf"{ticks}{_BLANK}(?=\n|{end})"
    line = rf"(?!{end}|{turn})\n(?!{fence})(?:(?!{end})[^\n])*+"
    inner = rf"(?!{end})\n(?!{lone})(?:(?!{end})[^\n])*+"
    tagged = rf"(?!{end})\n(?!{lone}){fence}(?:{inner})*+"
    bare = rf"(?!{end})\n{lone}"
    some = rf"(?:{line}|{tagged}{bare})*+"
    close = rf"(?:{turn}|(?:{tagged})?+{end})"
    blank = rf"(?=\n{_BLANK}(?:\n|{end}))"
    counted = rf"{some}{turn}|{blank}{some}(?:{tagged})?+{end}"
    even = rf"{blank}{some}{bare}{some}(?:{bare}{some}{bare}{some})*+{close}"
    return rf"(?:(?!{end}){_WS})*+{end}|{heading}|{counted}|{even}"
