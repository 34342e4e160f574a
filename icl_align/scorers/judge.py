"""Scores answers by a language model's grades on a rubric."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from statistics import fmean
from typing import Any, Literal

from pydantic import BaseModel

from icl_align.engines._options import check_numbers
from icl_align.errors import UserError
from icl_align.scorers.ask import Output, Reply, Task, ask
from icl_align.scorers.fence import fenced
from icl_align.scorers.judge_model import JudgeModel, judge_model
from icl_align.scorers.notes import Notes, noted
from icl_align.scorers.readers import read_names
from icl_align.scorers.replies import NOT_APPLICABLE, Reading, read_scores
from icl_align.scorers.rubric import Aspect, Rubric, load_rubric
from icl_align.types import Example, Response, Score, Usage

_GRADE = "You grade a response to an instruction, strictly and on each aspect by itself."
_CHOOSE = (
    "You will be shown an instruction. Choose the {count} skills that matter most for answering it "
    "well, from this list:\n\n{skills}"
)
_INPUTS = {"instruction": "what a person asked", "response": "the response that is to be graded"}


class Graded(BaseModel):
    """The grade of one aspect, as a server may be held to it; the text is for "N/A"."""

    reason: str
    score: int | str


class JudgeScorer:
    """Grades a response by a rubric: the weighted mean of its aspects' grades, put on [0, 1].

    An aspect that the judge says does not apply ("N/A", where the rubric allows it) is left out of the
    mean. One that it leaves out, or grades outside the scale, makes the whole reply unreadable: it is asked
    again, and in the end the response is unscored, with the raw reply in its note. An empty response is 0,
    and nobody is asked.
    """

    def __init__(
        self,
        model: str | Mapping[str, Any] | JudgeModel,
        *,
        rubric: str | Mapping[str, Any] | Rubric = "just-eval",
        aspects: Sequence[str] | None = None,
        samples: int = 1,
        mode: Literal["reply", "expectation"] = "reply",
    ) -> None:
        """Stores the settings.

        Args:
            model: Who judges; see `icl_align.scorers.judge_model`.
            rubric: A built-in rubric's name, a TOML file, or a table.
            aspects: The rubric's aspects to grade; all where None.
            samples: Grades are the means over so many replies; above 1 the model needs a temperature.
            mode: "reply" reads reasons and grades from a reply; "expectation" takes the mean grade under
                the model's own probabilities of the grades, without a reason: one reading of the text
                per aspect, and no noise. It needs an engine of ours that scores texts.

        Raises:
            UserError: a setting that cannot be used.
        """
        check_numbers(samples=samples)
        self.model = judge_model(model)
        self.rubric = _narrowed(load_rubric(rubric), aspects)
        self.samples, self.mode = samples, mode
        if mode not in ("reply", "expectation"):
            raise UserError(f'a judge\'s mode is "reply" or "expectation", got {mode!r}')
        if mode == "expectation" and not hasattr(self.model.engine, "loglikelihood"):
            raise UserError(
                'mode = "expectation" needs a judge with an engine of ours that scores texts: '
                'model = {engine = "hf", name = "..."}'
            )
        if samples > 1 and (mode == "expectation" or self.model.temperature == 0):
            raise UserError(
                f"{samples} samples would all be the same: give the judge's model a temperature, and "
                'leave mode = "reply"'
            )
        self.notes: Notes = {}

    @property
    def name(self) -> str:
        """The term's name."""
        return "judge"

    @property
    def usage(self) -> Usage:
        """What its model has cost."""
        return self.model.meter.usage

    @cached_property
    def label(self) -> str:
        """Who says so: model, rubric and the digest of all words it is asked with."""
        digest = _task(self.rubric, self.rubric.aspects).digest
        return f"judge:{self.model.lm.model}:{self.rubric.name}:{digest}"

    @cached_property
    def fingerprint(self) -> str:
        """The model, the rubric, every word of the question, samples, seed and mode."""
        parts: tuple[object, ...] = (
            self.model.identity,
            self.rubric.digest,
            _task(self.rubric, self.rubric.aspects).digest,
            *(
                self.samples,
                self.mode,
                self.model.temperature,
                self.model.seed,
                self.model.attempts,
            ),
        )
        if self.mode == "expectation":
            shown = {"instruction": "", "response": ""}
            asked = [_asked_for_number(self.rubric, a, shown) for a in self.rubric.aspects]
            parts = (*parts, *asked)
        digest = hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
        return f"judge:1:{digest}"

    def score(self, examples: Sequence[Example], responses: Sequence[Response]) -> list[Score]:
        """Grades `responses[i]` as an answer to `examples[i]`.

        Raises:
            UserError: the judge cannot be reached at all.
        """
        pairs = list(zip(examples, responses, strict=True))
        wanted = self._aspects(examples)
        scores: list[Score | None] = [
            None
            if aspects
            else Score(None, note=f"no aspect of {self.rubric.name!r} {why}", judge=self.label)
            for aspects, why in wanted
        ]
        groups: dict[tuple[str, ...], list[int]] = {}
        for index, (aspects, _) in enumerate(wanted):
            if not pairs[index][1].text.strip():
                scores[index] = Score(0.0, note="the response is empty", judge=self.label)
            elif aspects:
                groups.setdefault(tuple(aspect.name for aspect in aspects), []).append(index)
        for group in groups.values():
            aspects = wanted[group[0]][0]
            questions = [_question(*pairs[index]) for index in group]
            grade = self._expect if self.mode == "expectation" else self._reply
            for index, score in zip(group, grade(aspects, questions), strict=True):
                scores[index] = score
        return [score for score in scores if score is not None]

    def _aspects(self, examples: Sequence[Example]) -> list[tuple[tuple[Aspect, ...], str]]:
        """Gives each example's aspects, or none and why."""
        tagged = [
            tuple(a for a in self.rubric.aspects if not a.tags or set(a.tags) & set(example.tags))
            for example in examples
        ]
        if not self.rubric.choose:
            return [(aspects, "is for an example with its tags") for aspects in tagged]
        texts = list(dict.fromkeys(instruction_of(example) for example in examples))
        named = {aspect.name: aspect for aspect in self.rubric.aspects}
        skills = "\n".join(f"- {aspect.name}: {aspect.question}" for aspect in named.values())
        count = self.rubric.choose
        task = Task(
            _CHOOSE.format(count=count, skills=skills),
            {"instruction": _INPUTS["instruction"]},
            {"skills": Output(f"a list of the {count} names", list[str])},
        )
        read = partial(read_names, key="skills", names=tuple(named), count=count)
        questions = [{"instruction": text} for text in texts]
        replies = noted(self.notes, self.model, task, questions, read)
        found: list[tuple[tuple[Aspect, ...], str]] = []
        by_text = dict(zip(texts, replies, strict=True))
        for example in examples:
            reply = by_text[instruction_of(example)]
            if reply.reading is None:
                found.append(((), f"was chosen: {reply.note}"))
            else:
                found.append((tuple(named[name] for name in reply.reading), ""))
        return found

    def _reply(
        self, aspects: tuple[Aspect, ...], questions: Sequence[Mapping[str, str]]
    ) -> list[Score]:
        """Grades by reasons and numbers in replies, `samples` of them."""
        task = _task(self.rubric, aspects)
        low, high = self.rubric.low, self.rubric.high
        optional = frozenset(aspect.name for aspect in aspects if aspect.optional)

        def read(text: str) -> Reading:
            reading = read_scores(text, [aspect.name for aspect in aspects], low=low, high=high)
            bad = {
                name: why
                for name, why in reading.problems.items()
                if name not in optional or why != NOT_APPLICABLE
            }
            if bad:
                raise ValueError("; ".join(f"{name}: {why}" for name, why in bad.items()))
            return reading

        rounds = [ask(self.model, task, questions, read, sample=n) for n in range(self.samples)]
        return [self._combined(aspects, replies) for replies in zip(*rounds, strict=True)]

    def _combined(self, aspects: tuple[Aspect, ...], replies: Sequence[Reply[Reading]]) -> Score:
        """Makes one score of a response's replies; the unreadable ones are left out, and counted."""
        readings = [reply.reading for reply in replies if reply.reading is not None]
        lost = [reply for reply in replies if reply.reading is None]
        if not readings:
            return Score(None, note=lost[0].note, judge=self.label)
        grades: dict[str, float] = {}
        for aspect in aspects:
            given = [g for r in readings if (g := r.scores.get(aspect.name)) is not None]
            if given:
                grades[aspect.name] = fmean(given)
        notes = [f"{name}: {why}" for name, why in readings[0].reasons.items() if why]
        absent = [aspect.name for aspect in aspects if aspect.name not in grades]
        if absent:
            notes.append(f"N/A: {', '.join(absent)}")
        if lost:
            notes.append(f"{len(lost)} of {len(replies)} samples unread: {lost[0].problem}")
        return self._score(aspects, grades, "; ".join(notes))

    def _expect(
        self, aspects: tuple[Aspect, ...], questions: Sequence[Mapping[str, str]]
    ) -> list[Score]:
        """Grades by the mean under the model's probabilities of the grades."""
        engine: Any = self.model.engine
        grades = range(self.rubric.low, self.rubric.high + 1)
        end = "\n" if self.rubric.high > 9 else ""  # noqa: PLR2004 ("1" begins "10")
        pairs = []
        for question in questions:
            for aspect in aspects:
                text = _asked_for_number(self.rubric, aspect, question)
                pairs += [(text, f" {grade}{end}") for grade in grades]
        found = iter([math.fsum(given.logprobs) for given in engine.loglikelihood(pairs)])
        scores = []
        for _ in questions:
            means = {
                aspect.name: _mean(grades, [next(found) for _ in grades]) for aspect in aspects
            }
            scores.append(self._score(aspects, means, ""))
        return scores

    def _score(self, aspects: tuple[Aspect, ...], grades: Mapping[str, float], note: str) -> Score:
        units = {name: self.rubric.unit(grade) for name, grade in grades.items()}
        weights = {aspect.name: aspect.weight for aspect in aspects}
        total = math.fsum(weights[name] for name in units)
        if not total:
            return Score(None, note=note or "no aspect applies", judge=self.label)
        value = math.fsum(weights[name] * unit for name, unit in units.items()) / total
        return Score(min(1.0, value), units, note, self.label)


def instruction_of(example: Example) -> str:
    """Writes an example's conversation as one text."""
    if not example.turns:
        return example.query
    turns = [f"Person: {turn.query}\nAssistant: {turn.answer}" for turn in example.turns]
    return "\n".join([*turns, f"Person: {example.query}"])


def _question(example: Example, response: Response) -> dict[str, str]:
    return {"instruction": instruction_of(example), "response": response.text}


def _task(rubric: Rubric, aspects: Sequence[Aspect]) -> Task:
    """Asks for a reason and a grade on each aspect."""
    described = "\n".join(rubric.described(aspect) for aspect in aspects)
    parts = [_GRADE, rubric.guide, rubric.scale, f"The aspects:\n{described}"]
    shape = f'an object with "reason" (one sentence), then "score" ({rubric.low} to {rubric.high})'
    return Task(
        "\n\n".join(part for part in parts if part),
        _INPUTS,
        {aspect.name: Output(shape, Graded) for aspect in aspects},
    )


def _asked_for_number(rubric: Rubric, aspect: Aspect, question: Mapping[str, str]) -> str:
    """Writes the text that a grade follows."""
    return (
        f"# Instruction:\n{_GRADE}\n\n{rubric.scale}\n\n{rubric.described(aspect)}\n\n"
        f"# Material:\n{fenced(question)}\n\n"
        f"# Score for {aspect.name}, from {rubric.low} (worst) to {rubric.high} (best):"
    )


def _mean(grades: Sequence[int], logprobs: Sequence[float]) -> float:
    top = max(logprobs)
    weights = [math.exp(logprob - top) for logprob in logprobs]
    pairs = zip(grades, weights, strict=True)
    return math.fsum(grade * weight for grade, weight in pairs) / math.fsum(weights)


def _narrowed(rubric: Rubric, aspects: Sequence[str] | None) -> Rubric:
    if aspects is None:
        return rubric
    known = {aspect.name: aspect for aspect in rubric.aspects}
    unknown = [name for name in aspects if name not in known]
    if unknown or not aspects:
        raise UserError(
            f"rubric {rubric.name!r} has no aspect {', '.join(map(repr, unknown)) or 'in an empty list'}; "
            f"it has {', '.join(known)}"
        )
    chosen = tuple(known[name] for name in known if name in aspects)
    return replace(rubric, aspects=chosen, choose=min(rubric.choose, len(chosen)))
