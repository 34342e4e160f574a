"""Names what is wrong with a prompt before it is paid for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from icl_align.data import normalise
from icl_align.errors import UserError
from icl_align.prompt import FENCE, Prompt
from icl_align.types import Example

_FOLLOW_UP = re.compile(
    r"\b(previous(ly)?( mentioned)?|above|earlier|aforementioned)\b.{0,40}"
    r"\b(requirements?|questions?|answers?|code|text|list|examples?|conversation|response)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or likely wrong, with a prompt.

    Attributes:
        code: A stable name of the rule.
        severity: "error" for what breaks a prompt, "warning" for what is only suspicious.
        message: What was found and what to do.
        where: The place, such as "exemplar 2" or "prompt.txt:14".
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
    found = [*_exemplars(prompt), *_duplicates(prompt), *_evaluated(prompt, items)]
    if count_tokens and context_length:
        tokens, room = count_tokens(prompt.render(longest_query or "?")), prompt.decoding.max_tokens
        if tokens + room > context_length:
            message = (
                f"the prompt has {tokens} tokens and leaves {room} for the answer, but the model's context is "
                f"{context_length}; drop an exemplar or lower max_tokens"
            )
            found.append(Finding("too-long", "error", message, "prompt"))
    return found


def lint_text(text: str, where: str, *, items: Sequence[Example] = ()) -> list[Finding]:
    """Lints a URIAL text file; a text that cannot be read as a prompt is one error naming the line."""
    try:
        prompt = Prompt.from_text(text, where=where)
    except UserError as error:
        place, _, message = str(error).partition(": ")
        kind = message.split(":")[0].replace(" ", "-")
        code = kind if kind in ("scrambled-turns", "mixed-dialects") else "unreadable"
        code = "unbalanced-fences" if message.startswith("unbalanced") else code
        return [Finding(code, "error", message, place)]
    return lint(prompt, items=items)


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
        if re.match(r"[a-z]{1,12}[:;,.)\]]", answer):
            message = f"the answer starts mid-word ({answer[:20]!r}); restore its beginning"
            yield Finding("mid-word", "error", message, where)
        if _FOLLOW_UP.search(exemplar.query) and not exemplar.turns:
            message = (
                f"the query refers to an earlier turn that is not there ({exemplar.query[:50]!r})"
            )
            yield Finding("follow-up", "warning", message, where)
        headings = (prompt.format.query_heading, prompt.format.answer_heading)
        for line in _outside_blocks(answer):
            if line.rstrip() in headings:
                message = f"a second turn stands in the answer: {line.rstrip()!r} alone on a line"
                yield Finding("scrambled-turns", "error", message, where)


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
    return sum(1 for line in text.split("\n") if _is_fence(line)) % 2 == 1


def _outside_blocks(text: str) -> Iterator[str]:
    inside = False
    for line in text.split("\n"):
        if _is_fence(line):
            inside = not inside
        elif not inside:
            yield line


def _is_fence(line: str) -> bool:
    return line.lstrip().startswith(FENCE) and line.count(FENCE) == 1
