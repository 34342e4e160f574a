"""The aligned model's answers: how it is asked, where an answer ends, and how a context would end it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from icl_align.analysis._shift_forward import Reader
from icl_align.analysis._token_classes import Kind, kinds, spans
from icl_align.errors import UserError
from icl_align.prompt import Format, Prompt
from icl_align.types import Example


@dataclass(frozen=True, slots=True)
class Output:
    """The aligned model's greedy answer to one instruction.

    Attributes:
        example: The instruction.
        prompt: Token ids that the aligned model was sent.
        answer: Token ids of the answer.
        end: Token ids with which it ended the answer, empty where it ran into the bound.
        texts: The text of each token of the answer.
        kinds: What each token of the answer is for.
        spill: The beginning of the closing string that the answer's last token already holds.
    """

    example: Example
    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    end: tuple[int, ...]
    texts: tuple[str, ...]
    kinds: tuple[Kind, ...]
    spill: str = ""


def asked_ids(aligned: Reader, example: Example, zero: Prompt, *, chat: bool) -> list[int]:
    """What the aligned model is sent, as token ids."""
    if not chat:
        return aligned.encode(zero.render(example))
    messages = [
        {"role": role, "content": text}
        for turn in example.turns
        for role, text in (("user", turn.query), ("assistant", turn.answer))
    ]
    messages.append({"role": "user", "content": example.query})
    from jinja2 import TemplateError

    try:
        text = aligned.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False
        )
    except TemplateError as error:
        raise UserError(f"the chat template of {aligned.id} does not take this: {error}") from error
    return list(aligned.tokenizer(text, add_special_tokens=False)["input_ids"])


def output_of(
    aligned: Reader,
    example: Example,
    prompt: Sequence[int],
    new: Sequence[int],
    template: Prompt | None,
    stylistic: Collection[str],
) -> Output:
    """Parts generated tokens into the answer and what ends it."""
    closed = bool(new) and new[-1] in aligned.ends
    body = list(new[:-1] if closed else new)
    whole, ends = spans(aligned.tokenizer, body)
    answer, count = whole, len(body)
    end: tuple[int, ...] = tuple(new[-1:]) if closed else ()
    spill = ""
    if template is not None:
        cut = min(
            (whole.index(mark) for mark in template.stop if mark in whole), default=len(whole)
        )
        answer = template.parse(whole[:cut])
        count = bisect_left(ends, len(answer)) + 1 if answer else 0
        close = closing(template.format)
        covered = ends[count - 1] if count else 0
        spill = whole[len(answer) : covered]
        if whole.startswith(close, len(answer)):
            end = tuple(body[count : bisect_left(ends, len(answer) + len(close)) + 1])
        elif whole[len(answer) :].strip():
            end = ()
    pieces = [whole[a:b] for a, b in zip([0, *ends], ends[:count], strict=False)]
    return Output(
        example,
        tuple(prompt),
        tuple(body[:count]),
        end,
        tuple(pieces),
        tuple(kinds(answer, [min(place, len(answer)) for place in ends[:count]], stylistic)),
        spill,
    )


def closing(form: Format) -> str:
    """What ends an answer in a format: its closing string, or the opening of the next query."""
    return form.answer_close or form.gap + form.query_heading


def ending(
    base: Reader, form: Format, output: Output, own: Format, *, chat: bool
) -> tuple[int, ...]:
    """How an answer that was ended is ended in a context: its format's way, cut as the base cuts it."""
    if not output.end:
        return ()
    close = closing(form)
    if not chat and close == closing(own) and output.end[-1] not in base.ends:
        return output.end
    if not close.startswith(output.spill):
        return ()
    without = base.tokenizer("a", add_special_tokens=False)["input_ids"]
    ids = base.tokenizer("a" + close[len(output.spill) :], add_special_tokens=False)["input_ids"]
    return tuple(ids[len(without) :]) if ids[: len(without)] == without else ()
