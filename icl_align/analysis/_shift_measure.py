"""Reads answers behind contexts, in parts of bounded memory; gives each token's figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from icl_align.analysis._shift_compare import Figures, compared
from icl_align.analysis._shift_forward import Part, Reader
from icl_align.analysis._shift_outputs import Output
from icl_align.analysis._token_classes import Kind

_POSITIONS = 2048
_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class TokenShift:
    """One token of an answer behind one context; `figures` has what the models make of it.

    Attributes:
        example: Place of the answer among the outputs.
        position: Place in the answer, from 0; what ends it comes last, and as one token: with the worst
            rank, the probability and the summed KL of the tokens that a context needs for it.
        token: Its id; of an end its first one.
        text: Its text.
        kind: What it is for.
        figures: Rank, probabilities and KL.
    """

    example: int
    position: int
    token: int
    text: str
    kind: Kind
    figures: Figures


def measured(
    base: Reader,
    aligned: Reader,
    outputs: Sequence[Output],
    behind: Mapping[str, Sequence[tuple[Sequence[int], tuple[int, ...]]]],
    bounds: tuple[int, int],
    on_texts: Callable[[int], object],
) -> dict[str, list[TokenShift]]:
    """Reads every answer with the aligned model once, and with the base model once per context.

    Args:
        base: The base model.
        aligned: The aligned one.
        outputs: Its answers, none empty.
        behind: By context: token ids before each answer, and those that end it there.
        bounds: How many tokens both models know, and most logits of one model held at once.
        on_texts: Called with a number of answers that have been read behind every context.
    """
    size, most_logits = bounds
    most = min(_POSITIONS, max(1, most_logits // max(base.vocabulary, aligned.vocabulary)))
    found: dict[str, dict[tuple[int, int], TokenShift]] = {name: {} for name in behind}
    for part in _parts(outputs, most):
        mine = aligned.logits(
            [
                _stretch(outputs[i].prompt, outputs[i].answer, outputs[i].end, a, b)
                for i, a, b in part
            ]
        )
        for name, texts in behind.items():
            stretches = [
                _stretch(texts[i][0], outputs[i].answer, texts[i][1], a, b) for i, a, b in part
            ]
            theirs = base.logits(stretches)
            for (index, start, _), stretch, one, other in zip(
                part, stretches, theirs, mine, strict=True
            ):
                output, end = outputs[index], texts[index][1]
                comparable = len(output.answer) + (len(end) if end == output.end else 0) - start
                figures = compared(one, stretch.tokens, other[: max(0, comparable)], size)
                inside = figures[: len(output.answer) - start]
                for place, figure in enumerate(inside, start=start):
                    found[name][index, place] = TokenShift(
                        index,
                        place,
                        output.answer[place],
                        output.texts[place],
                        output.kinds[place],
                        figure,
                    )
                if len(figures) > len(inside):
                    place, text = len(output.answer), str(base.tokenizer.decode(list(end)))
                    figure = whole(figures[len(inside) :])
                    found[name][index, place] = TokenShift(
                        index, place, end[0], text, "end", figure
                    )
            on_texts(sum(start == 0 for _, start, _ in part))
    return {name: [tokens[key] for key in sorted(tokens)] for name, tokens in found.items()}


def _parts(outputs: Sequence[Output], most: int) -> Iterator[list[tuple[int, int, int | None]]]:
    """Answers in parts of bounded size, as index, first and last position; a long one is cut."""
    part: list[tuple[int, int, int | None]] = []
    held = longest = 0
    for index, output in enumerate(outputs):
        total = len(output.answer) + len(output.end)
        for start in range(0, len(output.answer), most):
            last = start + most >= len(output.answer)
            count = (total if last else start + most) - start
            longest = max(longest, len(output.prompt) + total)
            if part and (held + count > most or longest * (len(part) + 1) > _TOKENS):
                yield part
                part, held, longest = [], 0, len(output.prompt) + total
            part.append((index, start, None if last else start + most))
            held += count
    if part:
        yield part


def _stretch(
    before: Sequence[int],
    answer: tuple[int, ...],
    end: tuple[int, ...],
    start: int,
    stop: int | None,
) -> Part:
    tokens = answer + end
    return Part([*before, *tokens[:start]], tokens[start:stop])


def whole(figures: Sequence[Figures]) -> Figures:
    """Figures of several tokens as of one: the worst rank, the probability of all, the sum of their KL."""
    mine = [one for one in figures if one.aligned_logprob is not None]
    rank, logprob = max(one.rank for one in figures), math.fsum(one.logprob for one in figures)
    if len(mine) < len(figures):
        return Figures(rank, logprob)
    return Figures(
        rank,
        logprob,
        math.fsum(one.aligned_logprob or 0.0 for one in mine),
        max(one.aligned_rank or 1 for one in mine),
        math.fsum(one.kl or 0.0 for one in mine),
        math.fsum(one.kl_back or 0.0 for one in mine),
    )
