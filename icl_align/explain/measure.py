"""Variants of a prompt measured through the run's evaluator: answers and scores, all from its ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from icl_align.engines import ContextOverflowError
from icl_align.errors import UserError
from icl_align.evaluate import EngineEvaluator
from icl_align.explain.games import Floats, Walk, members
from icl_align.prompt import Prompt
from icl_align.types import Example, Response, Score

Key = tuple[str, Any]
"""What is measured: its kind, and which of them."""
OPTIONAL = ("phrasing", "paraphrase")
"""Kinds that are made longer than what the search has tried."""
_ROWS = 256
"""Instructions asked at once: what a GPU decodes together."""


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


@dataclass(frozen=True, slots=True)
class Wanted:
    """A prompt that is to be measured.

    Attributes:
        prompt: It.
        examples: The instructions whose answers are graded.
        asked: The same as they are put to the prompt, maybe in other words.
    """

    prompt: Prompt
    examples: Sequence[Example]
    asked: Sequence[Example]


def answered(evaluator: EngineEvaluator, wanted: Sequence[Wanted]) -> list[Answered]:
    """Answers and grades; other phrasings are graded as the instructions they stand for."""
    found = []
    answers = evaluator.respond([(one.prompt, one.asked) for one in wanted])
    for one, responses in zip(wanted, answers, strict=True):
        scores: list[Score] = []
        for start in range(0, len(responses), evaluator.chunk):
            part = slice(start, start + evaluator.chunk)
            scores += evaluator.grade(one.examples[part], responses[part])
        found.append(Answered(tuple(responses), tuple(scores)))
    return found


def measured(
    evaluator: EngineEvaluator,
    work: Mapping[Key, Wanted],
    on_progress: Callable[[float, str], None] | None = None,
) -> dict[Key, Answered]:
    """Measures prompts, several at once; other words that do not fit into the model's context are left out.

    Raises:
        UserError: a prompt that is no other way to say the same does not fit.
    """
    found: dict[Key, Answered] = {}
    done = 0
    for group in _groups(work):
        if on_progress:
            on_progress(done / len(work), f"{done} of {len(work)} prompts")
        try:
            found |= zip(group, answered(evaluator, [work[key] for key in group]), strict=True)
        except ContextOverflowError:
            for key in group:
                try:
                    (found[key],) = answered(evaluator, [work[key]])
                except ContextOverflowError as error:
                    if key[0] not in OPTIONAL:
                        raise UserError(str(error)) from error
        done += len(group)
    if on_progress:
        on_progress(1.0, f"{len(work)} prompts")
    return found


def _groups(work: Mapping[Key, Wanted]) -> list[list[Key]]:
    """Gathers prompts until they have so many instructions that a batch is full."""
    found: list[list[Key]] = []
    rows = _ROWS
    for key, one in work.items():
        if rows + len(one.asked) > _ROWS:
            found.append([])
            rows = 0
        found[-1].append(key)
        rows += len(one.asked)
    return found
