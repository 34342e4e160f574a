"""Scores answers by how near they are to a better version of themselves (RevisEval)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, Literal

from icl_align.errors import UserError
from icl_align.scorers import Scorer
from icl_align.scorers.ask import Output, Task, ask
from icl_align.scorers.judge import instruction_of
from icl_align.scorers.judge_model import JudgeModel, judge_model
from icl_align.scorers.readers import read_text
from icl_align.types import Example, Response, Score, Usage

_TASK = Task(
    "You will be shown an instruction and a response to it. Rewrite the response into one that could serve "
    "as the reference: correct what is wrong, add what is missing, cut what is not needed, and keep what is "
    "good as it stands, in its own words. Where there is nothing to mend, repeat it.",
    {"instruction": "what a person asked", "response": "the response that is to be revised"},
    {
        "faults": Output("what is wrong or missing, in one or two sentences"),
        "revised": Output("the whole revised response"),
    },
)


class ReferenceScorer:
    """Grades a response by its similarity to a reference that a model makes by revising it.

    Zhang et al., RevisEval, 2410.05193: what a good response keeps in revision, a bad one loses; and unlike
    a fixed reference, the revised one does not punish another way of being right.
    """

    def __init__(
        self,
        model: str | Mapping[str, Any] | JudgeModel,
        *,
        measure: Literal["embedding", "tokens"] = "embedding",
        embedder: str | None = None,
    ) -> None:
        """Stores the settings.

        Args:
            model: Who revises; see `icl_align.scorers.judge_model`.
            measure: "embedding" compares whole texts, "tokens" token by token, as BERTScore does.
            embedder: The embedding model; the usual one where None.

        Raises:
            UserError: a setting that cannot be used.
        """
        from icl_align.scorers.embedding import EmbeddingScorer
        from icl_align.scorers.similarity import SimilarityScorer

        if measure not in ("embedding", "tokens"):
            raise UserError(f'measure must be "embedding" or "tokens", got {measure!r}')
        self.model = judge_model(model)
        make = EmbeddingScorer if measure == "embedding" else SimilarityScorer
        self.similarity: Scorer = make(embedder)

    @property
    def name(self) -> str:
        """The term's name."""
        return "reference"

    @property
    def usage(self) -> Usage:
        """What its model has cost."""
        return self.model.meter.usage

    @cached_property
    def label(self) -> str:
        """Who says so."""
        return f"reference:{self.model.lm.model}:{_TASK.digest}:{self.similarity.name}"

    @cached_property
    def fingerprint(self) -> str:
        """The model that revises, every word it is asked with, and the similarity's own."""
        model = self.model
        parts = (model.identity, _TASK.digest, self.similarity.fingerprint)
        settings = (model.temperature, model.seed, model.attempts)
        digest = hashlib.sha256(repr((*parts, *settings)).encode()).hexdigest()[:32]
        return f"reference:1:{digest}"

    def score(self, examples: Sequence[Example], responses: Sequence[Response]) -> list[Score]:
        """Grades `responses[i]` as an answer to `examples[i]`; an empty one is 0.

        Raises:
            UserError: the judge cannot be reached at all.
        """
        pairs = list(zip(examples, responses, strict=True))
        there = [index for index, (_, response) in enumerate(pairs) if response.text.strip()]
        questions = [
            {"instruction": instruction_of(pairs[i][0]), "response": pairs[i][1].text}
            for i in there
        ]
        replies = ask(self.model, _TASK, questions, partial(read_text, key="revised"))
        scores = [Score(0.0, note="the response is empty", judge=self.label)] * len(pairs)
        revised = []
        for index, reply in zip(there, replies, strict=True):
            if reply.reading is None:
                scores[index] = Score(None, note=reply.note, judge=self.label)
            else:
                revised.append((index, reply.reading))
        graded = self.similarity.score(
            [replace(pairs[index][0], answer=text) for index, text in revised],
            [pairs[index][1] for index, _ in revised],
        )
        for (index, _), score in zip(revised, graded, strict=True):
            scores[index] = replace(score, judge=self.label)
        return scores
