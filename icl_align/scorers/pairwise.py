"""Says which of two responses is the better one, in both orders; and scores against a fixed answer so."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from icl_align.errors import UserError
from icl_align.scorers.ask import Output, Reply, Task, ask
from icl_align.scorers.judge import instruction_of
from icl_align.scorers.judge_model import JudgeModel, judge_model
from icl_align.scorers.readers import read_verdict
from icl_align.types import Example, Preference, Response, Score, Usage

_CHOICES = ("A", "B", "tie")
_FIRST = {"A": 1.0, "B": 0.0, "tie": 0.5}
_PLAIN = "the responses are equal, or one is empty"
_CRITERIA = (
    "what was asked is done, and done right",
    "what is stated is true",
    "it is clear and as long as it needs to be: length, lists and politeness are no merits by themselves",
    "nobody is harmed",
)
_TASK = (
    "Two assistants, A and B, answered the same instruction. Decide whose response serves the person "
    "better. What counts: {criteria}. The order in which the responses are shown means nothing. Choose "
    "the tie where neither is clearly better."
)
_INPUTS = {
    "instruction": "what a person asked",
    "response_a": "assistant A's response",
    "response_b": "assistant B's response",
}


class PairwiseJudge:
    """Asks a model which of two responses is better, always in both orders.

    The verdicts of the two orders have to agree: where they do not, a win in one and a tie in the other
    included, it is a tie. Where one of them cannot be read there is no verdict. Equal texts are a tie, and
    an empty one loses to any other: nobody is asked.
    """

    def __init__(
        self,
        model: str | Mapping[str, Any] | JudgeModel,
        *,
        criteria: Sequence[str] = _CRITERIA,
    ) -> None:
        """Stores the settings.

        Args:
            model: Who judges; see `icl_align.scorers.judge_model`.
            criteria: What counts.

        Raises:
            UserError: a setting that cannot be used.
        """
        if isinstance(criteria, str) or not criteria or not all(criteria):
            raise UserError(f"criteria must be a list of texts, got {criteria!r}")
        self.model = judge_model(model)
        listed = "; ".join(f"({number}) {text}" for number, text in enumerate(criteria, start=1))
        self._task = Task(
            _TASK.format(criteria=listed),
            _INPUTS,
            {
                "reason": Output("one or two sentences that compare the responses"),
                "choice": Output('"A", "B" or "tie"', Literal["A", "B", "tie"]),
            },
        )

    @property
    def name(self) -> str:
        """What kind of judge it is."""
        return "pairwise"

    @property
    def usage(self) -> Usage:
        """What its model has cost."""
        return self.model.meter.usage

    @cached_property
    def label(self) -> str:
        """Who says so: the model and the digest of all words it is asked with."""
        return f"pairwise:{self.model.lm.model}:{self._task.digest}"

    @cached_property
    def fingerprint(self) -> str:
        """The model, every word of the question, temperature, seed."""
        model = self.model
        parts = (model.identity, self._task.digest, model.temperature, model.seed, model.attempts)
        return f"pairwise:1:{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}"

    def prefer(
        self,
        examples: Sequence[Example],
        first: Sequence[Response],
        second: Sequence[Response],
    ) -> list[Preference]:
        """Compares `first[i]` with `second[i]` as answers to `examples[i]`.

        Raises:
            UserError: the judge cannot be reached at all.
        """
        rows = list(zip(examples, first, second, strict=True))
        known = [_without_asking(one.text, other.text) for _, one, other in rows]
        asked = [index for index, value in enumerate(known) if value is None]
        questions = []
        for index in asked:
            example, one, other = rows[index]
            instruction = instruction_of(example)
            for a, b in ((one, other), (other, one)):
                questions.append(
                    {"instruction": instruction, "response_a": a.text, "response_b": b.text}
                )
        replies = ask(self.model, self._task, questions, partial(read_verdict, choices=_CHOICES))
        found = [Preference(value, note=_PLAIN, judge=self.label) for value in known]
        for place, index in enumerate(asked):
            found[index] = self._verdict(replies[2 * place], replies[2 * place + 1])
        return found

    def _verdict(self, straight: Reply[str], swapped: Reply[str]) -> Preference:
        if straight.reading is None or swapped.reading is None:
            lost = straight if straight.reading is None else swapped
            return Preference(None, note=lost.note, judge=self.label)
        orders = _FIRST[straight.reading], 1.0 - _FIRST[swapped.reading]
        agreed = orders[0] == orders[1]
        note = "" if agreed else "the verdict depends on the order"
        return Preference(orders[0] if agreed else 0.5, orders, note, self.label)


class PairwiseScorer:
    """Grades a response by a judge's preference over a fixed answer: 1 a win, 0.5 a tie, 0 a loss.

    The mean over examples is the win rate, ties counted as half. The fixed answer is the example's
    reference, or another prompt's answer from a file.
    """

    def __init__(
        self,
        model: str | Mapping[str, Any] | JudgeModel,
        *,
        against: str = "reference",
        criteria: Sequence[str] = _CRITERIA,
    ) -> None:
        """Stores the settings.

        Args:
            model: Who judges; see `icl_align.scorers.judge_model`.
            against: "reference", or a JSONL file with `id` (or `query`) and `answer`, as
                `icl-align answer PACK --input FILE` writes it.
            criteria: What counts.

        Raises:
            UserError: a setting that cannot be used, or a file that cannot be read.
        """
        self.judge = PairwiseJudge(model, criteria=criteria)
        self.against = against
        self._answers = None if against == "reference" else _answers(Path(against))

    @property
    def name(self) -> str:
        """The term's name."""
        return "pairwise"

    @property
    def usage(self) -> Usage:
        """What the judge has cost."""
        return self.judge.usage

    @cached_property
    def fingerprint(self) -> str:
        """The judge's, and the answers'."""
        answers = sorted((self._answers or {}).items())
        digest = hashlib.sha256(repr(answers).encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return f"{self.judge.fingerprint}:{'reference' if self._answers is None else digest}"

    def score(self, examples: Sequence[Example], responses: Sequence[Response]) -> list[Score]:
        """Grades `responses[i]` as an answer to `examples[i]`.

        Raises:
            UserError: the judge cannot be reached at all.
        """
        pairs = list(zip(examples, responses, strict=True))
        fixed = [self._fixed(example) for example in examples]
        there = [index for index, answer in enumerate(fixed) if answer is not None]
        preferences = self.judge.prefer(
            [examples[index] for index in there],
            [responses[index] for index in there],
            [Response(fixed[index] or "", 0, "stop") for index in there],
        )
        found = dict(zip(there, preferences, strict=True))
        scores = []
        for index, (example, _) in enumerate(pairs):
            if index not in found:
                note = f"example {example.id or example.query[:60]!r} has no answer to compare with"
                scores.append(Score(None, note=note, judge=self.judge.label))
                continue
            said = found[index]
            aspects: dict[str, float] = {}
            if said.orders:
                aspects = {"shown_first": said.orders[0], "shown_second": said.orders[1]}
            scores.append(Score(said.value, aspects, said.note, said.judge))
        return scores

    def _fixed(self, example: Example) -> str | None:
        if self._answers is None:
            return example.answer
        return self._answers.get(example.id) or self._answers.get(example.query)


def _without_asking(first: str, second: str) -> float | None:
    """Gives the preference where no judge is needed."""
    if first == second:
        return 0.5
    if first.strip() and second.strip():
        return None
    return 1.0 if first.strip() else 0.0 if second.strip() else 0.5


def _answers(path: Path) -> dict[str, str]:
    """Reads answers by id and by query."""
    from icl_align.data import read_examples

    found: dict[str, str] = {}
    for example in read_examples(path):
        if example.answer is None:
            raise UserError(f"{path}: {example.id or example.query[:60]!r} has no answer")
        found[example.query] = example.answer
        if example.id:
            found[example.id] = example.answer
    return found
