"""Scores answers by yes/no questions that a language model drafts per instruction, and answers (TICK)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, Literal

from pydantic import BaseModel

from icl_align.engines._options import check_numbers
from icl_align.errors import UserError
from icl_align.scorers.ask import Output, Task, ask
from icl_align.scorers.checklist import ChecklistScorer
from icl_align.scorers.judge import instruction_of
from icl_align.scorers.judge_model import JudgeModel, judge_model
from icl_align.scorers.notes import Notes, noted
from icl_align.scorers.readers import read_texts
from icl_align.scorers.replies import read_answers
from icl_align.types import Check, Example, Response, Score, Usage

UNMET = "unmet: "
"""How a score's note begins that names what is lacking, one thing per line."""
KIND = "ask"
"""The kind of a check that a judge answers; its one value is the question."""
_DRAFT = (
    "You will be shown an instruction. Write {count} or fewer yes/no questions with which somebody can "
    "check a response to it. Each asks for one thing that a good response must do, can be answered "
    'from the response alone, and is answered "yes" by a good one. First what the instruction says '
    "outright, then what it takes for granted. Nothing about style unless it is asked for."
)
_ANSWER = (
    "You will be shown an instruction, a response to it and numbered yes/no questions about the response. "
    'Answer each from the response alone: "yes" only if it holds entirely.'
)


class Answered(BaseModel):
    """The answer to one question, as a server may be held to it."""

    reason: str
    answer: Literal["yes", "no"]


class QuestionsScorer:
    """Grades a response by its example's questions: the share answered with yes, by weight.

    Questions are checks of the kind "ask"; checks of other kinds stand beside them and are done by
    program, as by `ChecklistScorer`. An example without questions has some drafted, once: `drafted`
    writes them into the examples ahead, where a person can read and mend them.
    """

    def __init__(
        self,
        model: str | Mapping[str, Any] | JudgeModel,
        *,
        count: int = 6,
    ) -> None:
        """Stores the settings.

        Args:
            model: Who drafts and answers; see `icl_align.scorers.judge_model`.
            count: Most questions that are drafted for an instruction.

        Raises:
            UserError: a setting that cannot be used.
        """
        check_numbers(count=count)
        self.model, self.count = judge_model(model), count
        self.notes: Notes = {}
        self._programs = ChecklistScorer()
        self._task = _task(1)
        self._draft = Task(
            _DRAFT.format(count=count),
            {"instruction": "what a person asked"},
            {"questions": Output("a list of questions", list[str])},
        )

    @property
    def name(self) -> str:
        """The term's name."""
        return "questions"

    @property
    def usage(self) -> Usage:
        """What its model has cost."""
        return self.model.meter.usage

    @cached_property
    def label(self) -> str:
        """Who says so: the model and the digest of all words it is asked with."""
        return f"questions:{self.model.lm.model}:{self._task.digest}:{self._draft.digest}"

    @cached_property
    def fingerprint(self) -> str:
        """The model, every word of the questions to it, temperature, seed, and the programs' kinds."""
        model = self.model
        parts = (
            model.identity,
            self._task.digest,
            self._draft.digest,
            self._programs.fingerprint,
            *(model.temperature, model.seed, model.attempts),
        )
        return f"questions:1:{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}"

    def drafted(self, examples: Sequence[Example]) -> list[Example]:
        """Gives the examples with questions; those that have some, or get none, stay as they are."""
        texts = list(dict.fromkeys(instruction_of(e) for e in examples if not _questions(e)))
        read = partial(read_texts, key="questions", most=self.count)
        replies = noted(
            self.notes, self.model, self._draft, [{"instruction": t} for t in texts], read
        )
        drafts = {text: reply.reading or () for text, reply in zip(texts, replies, strict=True)}
        return [
            example
            if _questions(example)
            else replace(
                example,
                checks=(
                    *example.checks,
                    *(Check(KIND, (q,)) for q in drafts[instruction_of(example)]),
                ),
            )
            for example in examples
        ]

    def score(self, examples: Sequence[Example], responses: Sequence[Response]) -> list[Score]:
        """Grades `responses[i]` by the questions and checks of `examples[i]`.

        Raises:
            UserError: the judge cannot be reached at all, or a check cannot be used.
        """
        whole = self.drafted(examples)
        pairs = list(zip(whole, responses, strict=True))
        asked = [i for i, (e, r) in enumerate(pairs) if _questions(e) and r.text.strip()]
        counts = {len(_questions(pairs[index][0])) for index in asked}
        answers: dict[int, tuple[tuple[float, ...] | None, str]] = {}
        for count in sorted(counts):  # a reply must have an answer to each question
            group = [index for index in asked if len(_questions(pairs[index][0])) == count]
            read = partial(_all_answers, count=count)
            replies = ask(self.model, _task(count), [_asked(*pairs[i]) for i in group], read)
            for index, reply in zip(group, replies, strict=True):
                answers[index] = reply.reading, reply.note
        return [self._grade(*pair, answers.get(i)) for i, pair in enumerate(pairs)]

    def _grade(
        self,
        example: Example,
        response: Response,
        answered: tuple[tuple[float, ...] | None, str] | None,
    ) -> Score:
        questions = _questions(example)
        if not questions:
            return Score(None, note="no questions could be drafted", judge=self.label)
        if not response.text.strip():
            return Score(0.0, note="the response is empty", judge=self.label)
        assert answered is not None
        if answered[0] is None:
            return Score(None, note=answered[1], judge=self.label)
        parts = [(value, q.weight) for q, value in zip(questions, answered[0], strict=True)]
        aspects = {"questions": _mean(parts)}
        rest = tuple(check for check in example.checks if check.kind != KIND)
        lacking: list[str] = []
        if rest:
            (program,) = self._programs.score([replace(example, checks=rest)], [response])
            assert program.value is not None
            aspects |= {"checks": program.value}
            parts.append((program.value, math.fsum(check.weight for check in rest)))
            lacking = [_told(c) for c in rest if program.aspects[c.aspect or c.kind] < 1]
        unmet = [q.values[0] for q, v in zip(questions, answered[0], strict=True) if not v]
        lines = [" ".join(line.split()) for line in (*unmet, *lacking)]
        return Score(_mean(parts), aspects, UNMET + "\n".join(lines) if lines else "", self.label)


def _told(check: Check) -> str:
    """Says what a programmatic check asks for."""
    name = (check.aspect or check.kind).replace("_", " ")
    return f"{name}: {', '.join(check.values)}" if check.values else name


def _task(count: int) -> Task:
    """Asks for a reason and an answer to each of so many questions."""
    shape = 'on question {}: an object with "reason" (one short sentence), then "answer" ("yes" or "no")'
    return Task(
        _ANSWER,
        {
            "instruction": "what a person asked",
            "response": "the response that is to be checked",
            "questions": "the questions, numbered",
        },
        {f"q{n}": Output(shape.format(n), Answered) for n in range(1, count + 1)},
    )


def _questions(example: Example) -> tuple[Check, ...]:
    """Gives the checks that are questions.

    Raises:
        UserError: one of them has not exactly one value, or a weight that is not above 0.
    """
    found = tuple(check for check in example.checks if check.kind == KIND)
    for check in found:
        if len(check.values) != 1 or not check.values[0].strip() or not check.weight > 0:
            raise UserError(
                f'example {example.id or example.query[:60]!r}: a check "ask" has one question and a '
                f"weight above 0, got {check.values} and {check.weight}"
            )
    return found


def _asked(example: Example, response: Response) -> dict[str, str]:
    listed = [f"{n}. {check.values[0]}" for n, check in enumerate(_questions(example), start=1)]
    return {
        "instruction": instruction_of(example),
        "response": response.text,
        "questions": "\n".join(listed),
    }


def _all_answers(text: str, count: int) -> tuple[float, ...]:
    """Reads an answer to each question.

    Raises:
        ValueError: one of them is missing or unclear.
    """
    answers = read_answers(text, count)
    missing = [str(number) for number, answer in enumerate(answers, start=1) if answer is None]
    if missing:
        raise ValueError(f"no clear answer to question {', '.join(missing)}")
    return tuple(float(bool(answer)) for answer in answers)


def _mean(parts: Sequence[tuple[float, float]]) -> float:
    total = math.fsum(weight for _, weight in parts)
    return min(1.0, math.fsum(value * weight for value, weight in parts) / total)
