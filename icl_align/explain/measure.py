"""Variants of a prompt measured through the run's evaluator: answers and scores, all from its ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from icl_align.evaluate import EngineEvaluator
from icl_align.explain.games import Floats, Walk, members
from icl_align.prompt import Prompt
from icl_align.types import Example, Response, Score

PHRASINGS: dict[str, Callable[[str], str]] = {
    "in lower case": str.lower,
    "with 'Please answer:' before it": lambda query: f"Please answer: {query}",
    "without its last mark": lambda query: query.rstrip(" .?!") or query,
}
"""Ways to say the same; they change no fact."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A prompt's answers to the plan's instructions, with their scores."""

    responses: tuple[Response, ...]
    scores: tuple[Score, ...]

    @property
    def values(self) -> Floats:
        """The verdicts, NaN where there is none; float64 (instructions,)."""
        return np.array([np.nan if s.value is None else s.value for s in self.scores], dtype=float)


def subset(prompt: Prompt, mask: int) -> Prompt:
    """The prompt with some of its exemplars, in their order."""
    return reordered(prompt, members(mask))


def reordered(prompt: Prompt, order: Walk) -> Prompt:
    """The prompt with these of its exemplars, in this order, all written as its format writes them."""
    if order == tuple(range(len(prompt.exemplars))):
        return prompt
    return replace(prompt, exemplars=tuple(prompt.exemplars[i] for i in order), layouts=())


def answered(
    evaluator: EngineEvaluator,
    prompt: Prompt,
    examples: Sequence[Example],
    phrase: Callable[[str], str] | None = None,
) -> Answered:
    """Answers and grades; other phrasings are graded as the instructions they stand for."""
    asked = examples if phrase is None else [replace(e, query=phrase(e.query)) for e in examples]
    responses: list[Response] = []
    scores: list[Score] = []
    for start in range(0, len(examples), evaluator.chunk):
        part = slice(start, start + evaluator.chunk)
        responses += evaluator.responses(prompt, asked[part])
        scores += evaluator.grade(examples[part], responses[part])
    return Answered(tuple(responses), tuple(scores))
