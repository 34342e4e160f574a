"""Names what is wrong with a prompt before it is paid for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from icl_align.data import normalise
from icl_align.errors import UserError
from icl_align.prompt import Prompt
from icl_align.types import Example
from icl_align.urial_text import HEADINGS, fence, headings

_FOLLOW_UP = re.compile(
    r"\b(previous(ly)?( mentioned)?|above|earlier|aforementioned)\b.{0,40}"
    r"\b(requirements?|questions?|answers?|code|text|list|examples?|conversation|response)\b",
    re.IGNORECASE,
)
_MID_WORD = re.compile(r"([a-z]{2,12})[:;,.)\]](?:\s|$)")
_LOWER_STARTS = frozenset(
    {"yes", "no", "ok", "okay", "sure", "hi", "hello", "hey", "well", "so", "oh", "note"}
)
"""Words with which an answer in lower case may start."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or likely wrong, with a prompt.

    Attributes:
        code: A stable name of the rule.
        severity: "error" for what breaks a prompt, "warning" for what is only suspicious.
        message: What was found and what to do.
        where: The place, such as "exemplar 2", "exemplar 2 (prompt.txt:14)" or "prompt.txt:14".
    """

    code: str
    severity: Literal["error", "warning"]
    message: str
    where: str


def lint(
    prompt: Prompt,
    *,
    items: Sequence[Example] = (),
    count_tokens: Callable[[str], int] | None = None,
    context_length: int | None = None,
    longest_query: str = "",
) -> list[Finding]:
    """Finds what is wrong with a prompt.

    Args:
        prompt: What to look at.
        items: Evaluation items, which must not stand in the prompt as exemplars.
        count_tokens: Counts tokens of a text; without it the length is not checked.
        context_length: The model's context, in tokens.
        longest_query: The query with which the length is checked.
    """
    found = [
        *_exemplars(prompt),
        *_duplicates(prompt),
        *_evaluated(prompt, items),
        *_system(prompt),
    ]
    if count_tokens and context_length:
        tokens, room = count_tokens(prompt.render(longest_query or "?")), prompt.decoding.max_tokens
        if tokens + room > context_length:
            message = (
                f"the prompt has {tokens} tokens and leaves {room} for the answer, but the model's context is "
                f"{context_length}; drop an exemplar or lower max_tokens"
            )
            found.append(Finding("too-long", "error", message, "prompt"))
    return found


def lint_text(
    text: str,
    where: str,
    *,
    items: Sequence[Example] = (),
    count_tokens: Callable[[str], int] | None = None,
    context_length: int | None = None,
    longest_query: str = "",
) -> list[Finding]:
    """Lints a URIAL text file; a text that cannot be read as a prompt is one error naming the line.

    The other arguments are those of `lint`. Places are told with their line in the file.
    """
    try:
        prompt = Prompt.from_text(text, where=where)
    except UserError as error:
        place, _, message = str(error).partition(": ")
        kind = message.split(":")[0].replace(" ", "-")
        code = kind if kind in ("scrambled-turns", "mixed-dialects") else "unreadable"
        code = "unbalanced-fences" if message.startswith("unbalanced") else code
        return [Finding(code, "error", message, place)]
    found = lint(
        prompt,
        items=items,
        count_tokens=count_tokens,
        context_length=context_length,
        longest_query=longest_query,
    )
    lines = _exemplar_lines(text, prompt)
    placed = [
        replace(f, where=f"{f.where} ({where}:{lines[f.where]})") if f.where in lines else f
        for f in found
    ]
    return [*placed, *_file_end(text, prompt, where)]


def _exemplar_lines(text: str, prompt: Prompt) -> dict[str, int]:
    """Gives each exemplar's place and the line of its query heading in the file it was read from."""
    starts = headings(text, prompt.format.query_heading, fenced=prompt.format.fenced)
    starts = starts[len(starts) - len(prompt.exemplars) :]
    return {f"exemplar {i}": text.count("\n", 0, s) + 1 for i, s in enumerate(starts, start=1)}


def _file_end(text: str, prompt: Prompt, where: str) -> Iterator[Finding]:
    """Warns where a tool that appends a newline and the query, as URIAL's code does, goes wrong."""
    if prompt.exemplars and not text.endswith("\n") and prompt.format.gap.endswith("\n\n"):
        message = (
            "the file does not end in a newline: tools that append a newline and the query to it, as "
            "URIAL's code does, leave no blank line before the query, unlike between the exemplars; "
            "icl_align itself renders the blank line"
        )
        yield Finding(
            "no-final-newline",
            "warning",
            message,
            f"end of file ({where}:{text.count(chr(10)) + 1})",
        )


def _system(prompt: Prompt) -> Iterator[Finding]:
    """Warns of turns inside the system text, and of a text file that would not read back."""
    form = prompt.format
    for heading in (form.query_heading, form.answer_heading):
        count = sum(line.rstrip() == heading for line in prompt.system.split("\n"))
        if count:
            message = (
                f"the system text holds {count} times the heading {heading!r} alone on a line: turns "
                "without an answer before the first exemplar are sent as system text; if they should "
                "be exemplars, give them answers"
            )
            yield Finding("turn-in-system", "warning", message, "system text")
    if not prompt.exemplars:
        return
    try:
        same = Prompt.from_text(prompt.to_text()).render("?") == prompt.render("?")
    except UserError:
        same = False
    if not same:
        message = (
            "written as a URIAL text file this prompt does not read back as the same prompt, because "
            "a text in it looks like a turn of its own or has carriage returns; keep it as JSON"
        )
        yield Finding("not-as-text", "warning", message, "prompt")


def _exemplars(prompt: Prompt) -> Iterator[Finding]:
    for number, exemplar in enumerate(prompt.exemplars, start=1):
        where = f"exemplar {number}"
        answer = exemplar.answer or ""
        for name, text in (("query", exemplar.query), ("answer", answer)):
            if not text.strip():
                yield Finding(f"empty-{name}", "error", f"the {name} is empty; write one", where)
            elif _open_block(text):
                message = (
                    f"unbalanced fences: a code block of the {name} is opened and never closed"
                )
                yield Finding("unbalanced-fences", "error", message, where)
        start = _MID_WORD.match(answer)
        if start and start.group(1) not in _LOWER_STARTS:
            message = (
                f"the answer starts mid-word ({answer[:20]!r}); its beginning seems to be cut off, "
                "restore it"
            )
            yield Finding("mid-word", "error", message, where)
        if _FOLLOW_UP.search(exemplar.query) and not exemplar.turns:
            message = (
                f"the query refers to an earlier turn that is not there ({exemplar.query[:50]!r})"
            )
            yield Finding("follow-up", "warning", message, where)
        own = (prompt.format.query_heading, prompt.format.answer_heading)
        for line in map(str.rstrip, _outside_blocks(answer)):
            if line in own:
                message = (
                    f"the answer has the heading {line!r} alone on a line: a second turn stands in it; "
                    "cut it there"
                )
                yield Finding("scrambled-turns", "error", message, where)
            elif line.startswith("#") and any(line in pair for pair in HEADINGS):
                message = (
                    f"the answer has the heading {line!r} of another dialect alone on a line; write "
                    "all turns alike"
                )
                yield Finding("mixed-dialects", "error", message, where)


def _duplicates(prompt: Prompt) -> Iterator[Finding]:
    seen: dict[str, int] = {}
    for number, exemplar in enumerate(prompt.exemplars, start=1):
        key = normalise(exemplar.query)
        if key in seen:
            message = f"the query is that of exemplar {seen[key]}, too; drop one"
            yield Finding("duplicate", "error", message, f"exemplar {number}")
        seen.setdefault(key, number)


def _evaluated(prompt: Prompt, items: Sequence[Example]) -> Iterator[Finding]:
    queries = {normalise(item.query): item for item in items}
    for number, exemplar in enumerate(prompt.exemplars, start=1):
        item = queries.get(normalise(exemplar.query))
        if item is not None:
            message = (
                f"the query is also an evaluation item ({item.id or item.query[:40]!r}): "
                "scores on it would be inflated; take another exemplar"
            )
            yield Finding("leak", "error", message, f"exemplar {number}")


def _open_block(text: str) -> bool:
    return sum(1 for line in text.split("\n") if fence(line)) % 2 == 1


def _outside_blocks(text: str) -> Iterator[str]:
    inside = False
    for line in text.split("\n"):
        if fence(line):
            inside = not inside
        elif not inside:
            yield line
