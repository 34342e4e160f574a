"""What checking answers while answering gains: the best of N samples, and answers mended by a checklist."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from icl_align.errors import UserError
from icl_align.evaluate import EngineEvaluator
from icl_align.prompt import Prompt
from icl_align.scorers import Scorer
from icl_align.scorers.questions import UNMET
from icl_align.stats import Interval, paired_bootstrap
from icl_align.types import Example, Response, Score, Usage

_WARM = 0.7
_MEND = (
    "{query}\n\nHere is an earlier answer:\n\n{answer}\n\nIt still lacks something:\n{unmet}\n\n"
    "Write the whole answer again, with that put right."
)


@dataclass(frozen=True, slots=True)
class Picked:
    """One example's answers and the one that is kept.

    Attributes:
        example: What was asked.
        responses: All answers, in the order they were made; mended ones after the samples.
        scores: The judge's, likewise.
        place: Index of the kept one: the best score, of equal ones the first; 0 where none has a score.
    """

    example: Example
    responses: tuple[Response, ...]
    scores: tuple[Score, ...]
    place: int


@dataclass(frozen=True, slots=True)
class Gain:
    """How a scorer sees the kept answers beside the first samples, paired by example.

    Attributes:
        judge: Who scored.
        first: Mean of the first samples.
        kept: Mean of the kept answers.
        gain: Their difference with its interval.
        missing: Examples without both scores; in no mean.
        chosen_by_it: Whether it is the judge that chose. A judge that errs then praises its own errors:
            the gain is too good, the more so the noisier the judge.
    """

    judge: str
    first: float
    kept: float
    gain: Interval
    missing: int
    chosen_by_it: bool

    def to_json(self) -> dict[str, Any]:
        """Gives the figures."""
        return {
            "judge": self.judge,
            "first": self.first,
            "kept": self.kept,
            "gain": self.gain.to_json(),
            "missing": self.missing,
            "chosen_by_it": self.chosen_by_it,
        }


@dataclass(frozen=True, slots=True)
class BestOf:
    """The outcome.

    Attributes:
        picked: One per example.
        gains: The judge's own view first, then that of the one that only checks.
        samples: Answers sampled per example.
        rounds: Rounds of mending.
        usage: What generating has cost.
        judged: Responses that the judge scored.
    """

    picked: tuple[Picked, ...]
    gains: tuple[Gain, ...]
    samples: int
    rounds: int
    usage: Usage = field(default=Usage())
    judged: int = 0

    def to_json(self) -> dict[str, Any]:
        """Gives the figures and the kept answers."""
        return {
            "samples": self.samples,
            "rounds": self.rounds,
            "gains": [gain.to_json() for gain in self.gains],
            "generations": self.usage.paid,
            "tokens": self.usage.to_json(),
            "judged": self.judged,
            "answers": [
                {
                    "id": one.example.id,
                    "query": one.example.query,
                    "answer": one.responses[one.place].text,
                    "sample": one.place,
                    "score": one.scores[one.place].value,
                }
                for one in self.picked
            ],
        }


def best_of(
    prompt: Prompt,
    examples: Sequence[Example],
    evaluator: EngineEvaluator,
    *,
    samples: int = 4,
    rounds: int = 0,
    check: Scorer | None = None,
    seed: int = 0,
    on_progress: Callable[[float, str], None] = lambda *_: None,
) -> BestOf:
    """Samples answers, keeps the best by the evaluator's scorer, and mends it where a checklist says how.

    Best-of-N and self-refinement as in TICK and STICK (Cook et al., 2410.03608). A mended answer is asked
    for with the prompt as it is, the query followed by the answer and what it lacks (in the score's note, as
    `QuestionsScorer` writes it); it replaces the answer only with a better score.

    Args:
        prompt: Who answers; greedy decoding becomes a temperature of 0.7.
        examples: What is asked.
        evaluator: Engine and scorer; a ledger saves what was paid for.
        samples: Answers per example, >= 1.
        rounds: How often what is unmet is asked for again.
        check: Another scorer, which chooses nothing and so is not fooled by its own errors.
        seed: Of the sampling; sample n has seed + n.
        on_progress: Told the share that is done, in [0, 1], and what is being done.

    Raises:
        UserError: no examples, or numbers below their least.
    """
    if not examples or samples < 1 or rounds < 0:
        raise UserError(
            f"best-of needs examples, samples >= 1 and rounds >= 0, got {len(examples)}, {samples}, {rounds}"
        )
    before = evaluator.usage
    temperature = prompt.decoding.temperature or _WARM
    requests = [
        (
            replace(
                prompt, decoding=replace(prompt.decoding, temperature=temperature, seed=seed + n)
            ),
            examples,
        )
        for n in range(samples)
    ]
    total = 1 + samples + rounds + int(check is not None)
    on_progress(0.0, f"{samples * len(examples):,} answers")
    columns = evaluator.respond(requests)
    scores = []
    for number, column in enumerate(columns, 1):
        on_progress(number / total, f"judging sample {number} of {samples}")
        scores.append(evaluator.grade(examples, column))
    picked = [
        _picked(example, responses, graded)
        for example, responses, graded in zip(
            examples, zip(*columns, strict=True), zip(*scores, strict=True), strict=True
        )
    ]
    for number in range(rounds):
        on_progress((1 + samples + number) / total, f"mending, round {number + 1} of {rounds}")
        again = replace(
            prompt,
            decoding=replace(
                prompt.decoding, temperature=temperature, seed=seed + samples + number
            ),
        )
        picked = _mended(again, picked, evaluator)
    gains = [_gain(evaluator.scorer.name, picked, None)]
    if check is not None:
        on_progress((total - 1) / total, f"{check.name} checks")
        first = check.score(examples, [one.responses[0] for one in picked])
        kept = check.score(examples, [one.responses[one.place] for one in picked])
        gains.append(_gain(check.name, picked, list(zip(first, kept, strict=True))))
    judged = sum(len(one.scores) for one in picked)
    on_progress(1.0, "done")
    return BestOf(tuple(picked), tuple(gains), samples, rounds, evaluator.usage - before, judged)


def _picked(example: Example, responses: Sequence[Response], scores: Sequence[Score]) -> Picked:
    values = [-1.0 if score.value is None else score.value for score in scores]
    return Picked(example, tuple(responses), tuple(scores), values.index(max(values)))


def _mended(prompt: Prompt, picked: Sequence[Picked], evaluator: EngineEvaluator) -> list[Picked]:
    """Asks once more where the kept answer lacks something that can be told."""
    lacking = {}
    for place, one in enumerate(picked):
        head, found, unmet = one.scores[one.place].note.partition(UNMET)
        if found and not head:
            lines = "\n".join(f"- {line}" for line in unmet.split("\n"))
            query = _MEND.format(
                query=one.example.query, answer=one.responses[one.place].text, unmet=lines
            )
            lacking[place] = replace(one.example, query=query)
    if not lacking:
        return list(picked)
    responses = evaluator.responses(prompt, list(lacking.values()))
    scores = evaluator.grade([picked[place].example for place in lacking], responses)
    mended = list(picked)
    for place, response, score in zip(lacking, responses, scores, strict=True):
        one = picked[place]
        mended[place] = _picked(one.example, (*one.responses, response), (*one.scores, score))
    return mended


def _gain(
    judge: str, picked: Sequence[Picked], checked: Sequence[tuple[Score, Score]] | None
) -> Gain:
    """Compares kept answers with first ones, where both have a score.

    Raises:
        UserError: no example has both.
    """
    pairs = checked or [(one.scores[0], one.scores[one.place]) for one in picked]
    both = [(b.value, a.value) for a, b in pairs if a.value is not None and b.value is not None]
    if not both:
        note = pairs[0][0].note or pairs[0][1].note
        raise UserError(f"{judge!r} gave no answer a score; the first said: {note}")
    kept, first = [pair[0] for pair in both], [pair[1] for pair in both]
    difference = paired_bootstrap(kept, first)
    return Gain(
        judge,
        sum(first) / len(first),
        sum(kept) / len(kept),
        difference,
        len(pairs) - len(both),
        checked is None,
    )
