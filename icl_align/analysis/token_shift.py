"""Token-distribution shift: what alignment changes in a base model, and how much of it a prompt removes.

The aligned model answers greedily; then both models read each answer once, and the base model's rank of
each token says how far alignment has moved it (URIAL, 2312.01552, section 2): rank 1 is unshifted, 2 and 3
marginal, above 3 shifted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from icl_align.analysis._shift_compare import shared_vocabulary
from icl_align.analysis._shift_forward import Reader
from icl_align.analysis._shift_measure import TokenShift, measured
from icl_align.analysis._shift_outputs import Output, asked_ids, closing, ending, output_of
from icl_align.analysis._shift_summary import removal, summary
from icl_align.analysis._token_classes import STYLISTIC, visible
from icl_align.engines._request import check_length
from icl_align.errors import UserError
from icl_align.prompt import FORMATS, Prompt
from icl_align.types import Example

__all__ = ["Reader", "ShiftReport", "TokenShift", "token_shift"]

VERSION = 1
"""Of the files."""
ZERO_SHOT = "zero-shot"
"""The name of the context without a system text and exemplars."""
MOST_LOGITS = 2**25
"""Most logits of one model held at once: 128 MiB in float32."""


@dataclass(frozen=True)
class ShiftReport:
    """All tokens of all answers, behind every context.

    Attributes:
        models: Ids, fingerprints and dtypes of "base" and "aligned".
        template: How the aligned model was asked: "chat", its own template, or "zero-shot".
        outputs: The answers that have tokens.
        silent: How many instructions it answered with nothing.
        max_tokens: Bound of an answer.
        vocabulary: How many tokens both models know; what ranks and KL are over.
        tokens: The tokens by context, "zero-shot" first.
    """

    models: Mapping[str, Mapping[str, str]]
    template: str
    outputs: Sequence[Output]
    silent: int
    max_tokens: int
    vocabulary: int
    tokens: Mapping[str, Sequence[TokenShift]] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Gives the summary by context, position and class, and what each pack removes."""
        zero = self.tokens[ZERO_SHOT]
        contexts: dict[str, Any] = {}
        for name, tokens in self.tokens.items():
            contexts[name] = summary(tokens)
            if name != ZERO_SHOT:
                contexts[name]["removed"] = removal(zero, tokens)
        return {
            "version": VERSION,
            "models": {name: dict(about) for name, about in self.models.items()},
            "template": self.template,
            "examples": len(self.outputs),
            "unfinished": sum(not output.end for output in self.outputs),
            "silent": self.silent,
            "max_tokens": self.max_tokens,
            "vocabulary": self.vocabulary,
            "contexts": contexts,
        }

    def rows(self) -> Iterator[dict[str, Any]]:
        """Gives one JSON-able object per token and context; what cannot be printed is escaped."""
        for name, tokens in self.tokens.items():
            for one in tokens:
                yield {
                    "context": name,
                    "example": one.example,
                    "id": visible(self.outputs[one.example].example.id),
                    "position": one.position,
                    "token": one.token,
                    "text": visible(one.text),
                    "class": one.kind,
                    "rank": one.figures.rank,
                    "logprob": one.figures.logprob,
                    "aligned_logprob": one.figures.aligned_logprob,
                    "aligned_rank": one.figures.aligned_rank,
                    "kl_aligned_base": one.figures.kl,
                    "kl_base_aligned": one.figures.kl_back,
                }


def token_shift(
    base: Reader,
    aligned: Reader,
    examples: Sequence[Example],
    packs: Mapping[str, Prompt] | None = None,
    *,
    zero_shot: Prompt | None = None,
    max_tokens: int = 200,
    stylistic: Collection[str] = STYLISTIC,
    most_logits: int = MOST_LOGITS,
    on_texts: Callable[[int], object] = lambda _: None,
) -> ShiftReport:
    """Measures how far the aligned model's answers are from the base model, context by context.

    Args:
        base: The base model.
        aligned: The model tuned from it. It is asked in its chat template, or where it has none with
            `zero_shot`.
        examples: Instructions, at least one.
        packs: Prompts to put before the base model instead of the zero-shot one, by name.
        zero_shot: The context without a pack; URIAL's block format by default.
        max_tokens: Bound of an answer, >= 1.
        stylistic: Words of the class "stylistic", in lower case.
        most_logits: Most logits of one model held at once; one token's are held whatever it says.
        on_texts: Called with a number of answers that have been read behind every context.

    Raises:
        UserError: no examples, no shared tokenizer, an answer with a token that the base model does not
            know, or only empty answers.
        ContextOverflowError: before any work, naming the first text that does not fit.
    """
    if not examples or max_tokens < 1:
        raise UserError("a shift needs at least one instruction and max_tokens of at least 1")
    zero = zero_shot or Prompt("", (), FORMATS["block"])
    contexts = {ZERO_SHOT: zero, **(packs or {})}
    size = shared_vocabulary(base, aligned, (example.query for example in examples))
    befores = {
        name: [base.encode(prompt.render(example)) for example in examples]
        for name, prompt in contexts.items()
    }
    chat = getattr(aligned.tokenizer, "chat_template", None) is not None
    asked = [asked_ids(aligned, example, zero, chat=chat) for example in examples]
    for name, prompts in (*((n, p) for n, p in befores.items()), ("the aligned model", asked)):
        reader = aligned if prompts is asked else base
        for index, ids in enumerate(prompts):
            what = f"instruction {index} behind {visible(name)}"
            bound = max_tokens + (
                0 if prompts is asked else len(base.encode(closing(contexts[name].format)))
            )
            check_length(what, len(ids), bound, reader.engine.context_length, reader.id)
    new = aligned.greedy(asked, () if chat else zero.stop, max_tokens)
    found = [
        output_of(aligned, example, ids, made, None if chat else zero, stylistic)
        for example, ids, made in zip(examples, asked, new, strict=True)
    ]
    kept = [index for index, output in enumerate(found) if output.answer]
    outputs = [found[index] for index in kept]
    if not outputs:
        raise UserError(f"{aligned.id} answered none of the {len(examples)} instructions")
    _refuse_unknown(base, outputs, size)
    behind = {
        name: [
            (
                befores[name][index],
                ending(base, contexts[name].format, output, zero.format, chat=chat),
            )
            for index, output in zip(kept, outputs, strict=True)
        ]
        for name in contexts
    }
    return ShiftReport(
        {name: _about(reader) for name, reader in (("base", base), ("aligned", aligned))},
        "chat" if chat else ZERO_SHOT,
        outputs,
        len(found) - len(outputs),
        max_tokens,
        size,
        measured(base, aligned, outputs, behind, (size, most_logits), on_texts),
    )


def _refuse_unknown(base: Reader, outputs: Sequence[Output], size: int) -> None:
    for output in outputs:
        for token, text in zip(output.answer, output.texts, strict=True):
            if token >= size:
                raise UserError(
                    f"the answer to {visible(output.example.query[:40])!r} holds the token "
                    f"{visible(text)!r} (id {token}), which {base.id} does not know"
                )


def _about(reader: Reader) -> dict[str, str]:
    return {"id": reader.id, "fingerprint": reader.engine.fingerprint, "dtype": reader.dtype}
