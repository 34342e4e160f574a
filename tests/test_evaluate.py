"""Promises of icl_align.evaluate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from icl_align.errors import UserError
from icl_align.evaluate import Accounted, EngineEvaluator, evaluate
from icl_align.evaluation import Evaluation, compare, example_ids
from icl_align.ledger import Ledger, sqlite_url
from icl_align.prompt import FORMATS, Prompt
from icl_align.types import Decoding, Example, Response, Score, Usage

PROMPT = Prompt("Be kind.", (Example("Hi?", "Hello."),), FORMATS["block"])
EXAMPLES = [Example(f"Question {i}?", str(i), id=f"q{i}") for i in range(10)]


@dataclass
class CountingEngine:
    """Answers with the length of its prompt, keeps every prompt, fails or dies where told to."""

    fingerprint: str = "counting-1"
    name: str = "counting"
    fails: set[str] = field(default_factory=set)
    dies_at: int | None = None
    prompts: list[str] = field(default_factory=list)

    def generate(
        self, prompts: Sequence[str], *, stop: Sequence[str], decoding: Decoding
    ) -> list[Response]:
        if self.dies_at is not None and len(self.prompts) >= self.dies_at:
            raise KeyboardInterrupt
        self.prompts += prompts
        return [self._one(prompt) for prompt in prompts]

    def _one(self, prompt: str) -> Response:
        if any(sign in prompt for sign in self.fails):
            return Response("", 0, "error", error="no power")
        return Response(f"{len(prompt)}\n```\n", 3, "stop", prompt_tokens=10, reused_tokens=4)


@dataclass
class LengthScorer:
    """Scores the number it reads, keeps what it was asked, and has no verdict where told so."""

    fingerprint: str = "length-1"
    name: str = "length"
    silent: set[str] = field(default_factory=set)
    seen: list[tuple[str, str]] = field(default_factory=list)

    def score(self, examples: Sequence[Example], responses: Sequence[Response]) -> list[Score]:
        self.seen += [(e.id, r.text) for e, r in zip(examples, responses, strict=True)]
        return [
            Score(None, note="silent") if e.id in self.silent else Score(int(r.text) / 10_000)
            for e, r in zip(examples, responses, strict=True)
        ]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """An empty ledger."""
    return Ledger(sqlite_url(tmp_path / "run.db"))


def test_scores_parsed_answers_in_order() -> None:
    """Each example gets its own score, given for the parsed text."""
    scorer = LengthScorer()
    scores = EngineEvaluator(CountingEngine(), scorer, chunk=3)(PROMPT, EXAMPLES)
    expected = [len(PROMPT.render(example)) / 10_000 for example in EXAMPLES]
    assert [score.value for score in scores] == expected
    assert scorer.seen[0] == ("q0", str(len(PROMPT.render(EXAMPLES[0]))))


def test_pays_for_nothing_twice(ledger: Ledger) -> None:
    """A second evaluator on the same ledger generates and grades nothing, and says so."""
    first = EngineEvaluator(CountingEngine(), LengthScorer(), ledger)
    scores = first(PROMPT, EXAMPLES)
    engine, scorer = CountingEngine(), LengthScorer()
    second = EngineEvaluator(engine, scorer, ledger)
    assert second(PROMPT, EXAMPLES) == scores
    assert engine.prompts == [] and scorer.seen == []
    assert (first.paid, first.cached, second.paid, second.cached) == (10, 0, 0, 10)
    assert replace(first.usage, seconds=0) == Usage(10, 0, 100, 40, 30)
    assert (first.usage.saved, first.usage.computed_tokens) == (0.4, 60)
    assert first.usage.seconds > 0 == second.usage.seconds
    assert second.usage.saved is None


def test_pays_only_for_what_is_new(ledger: Ledger) -> None:
    """New examples, another engine or another scorer pay for their own part."""
    EngineEvaluator(CountingEngine(), LengthScorer(), ledger)(PROMPT, EXAMPLES[:4])
    engine = CountingEngine()
    EngineEvaluator(engine, LengthScorer(), ledger)(PROMPT, EXAMPLES)
    assert engine.prompts == [PROMPT.render(example) for example in EXAMPLES[4:]]
    engine, scorer = CountingEngine(), LengthScorer(fingerprint="length-2")
    EngineEvaluator(engine, scorer, ledger)(PROMPT, EXAMPLES)
    assert engine.prompts == [] and len(scorer.seen) == 10
    engine = CountingEngine(fingerprint="counting-2")
    EngineEvaluator(engine, LengthScorer(), ledger)(PROMPT, EXAMPLES)
    assert len(engine.prompts) == 10


def test_an_interrupt_loses_only_the_chunk_in_flight(ledger: Ledger) -> None:
    """Chunks that came back before the process died are not generated again."""
    with pytest.raises(KeyboardInterrupt):
        EngineEvaluator(CountingEngine(dies_at=6), LengthScorer(), ledger, chunk=3)(
            PROMPT, EXAMPLES
        )
    engine = CountingEngine()
    EngineEvaluator(engine, LengthScorer(), ledger, chunk=3)(PROMPT, EXAMPLES)
    assert engine.prompts == [PROMPT.render(example) for example in EXAMPLES[6:]]


@dataclass
class StreamingEngine(CountingEngine):
    """Hands responses over one by one, the last prompt's first; dies where told to."""

    def stream(
        self, prompts: Sequence[str], *, stop: Sequence[str], decoding: Decoding
    ) -> Iterator[tuple[int, Response]]:
        for index in reversed(range(len(prompts))):
            if len(self.prompts) == self.dies_at:
                raise UserError("the server is gone")
            self.prompts.append(prompts[index])
            yield index, self._one(prompts[index])


def test_what_was_streamed_before_an_engine_gave_up_is_kept(ledger: Ledger) -> None:
    """Every response that arrived is recorded, counted, and never paid for again."""
    broken = EngineEvaluator(StreamingEngine(dies_at=7), LengthScorer(), ledger)
    with pytest.raises(UserError, match="the server is gone"):
        broken(PROMPT, EXAMPLES)
    assert broken.paid == 7
    engine = StreamingEngine()
    scores = EngineEvaluator(engine, LengthScorer(), ledger)(PROMPT, EXAMPLES)
    assert engine.prompts == [PROMPT.render(example) for example in EXAMPLES[2::-1]]
    assert scores == EngineEvaluator(CountingEngine(), LengthScorer())(PROMPT, EXAMPLES)


def test_an_engine_that_forgets_a_prompt_is_told() -> None:
    """A missing response is an error, never a guess."""

    class Forgetful(StreamingEngine):
        def stream(
            self, prompts: Sequence[str], *, stop: Sequence[str], decoding: Decoding
        ) -> Iterator[tuple[int, Response]]:
            return iter([*super().stream(prompts, stop=stop, decoding=decoding)][1:])

    with pytest.raises(ValueError, match="gave 9 responses to 10 prompts"):
        EngineEvaluator(Forgetful(), LengthScorer())(PROMPT, EXAMPLES)


def test_an_evaluation_tells_what_it_cost(ledger: Ledger) -> None:
    """Its usage is its own, not that of the evaluator's whole life."""
    evaluator = EngineEvaluator(CountingEngine(), LengthScorer(), ledger)
    first = evaluate(PROMPT, EXAMPLES[:4], evaluator)
    second = evaluate(PROMPT, EXAMPLES, evaluator)
    assert (first.usage.paid, second.usage.paid, second.usage.cached) == (4, 6, 4)
    assert evaluator.usage == first.usage + second.usage


def test_a_failure_is_missing_and_retried(ledger: Ledger) -> None:
    """A failed generation has no verdict and no grade; the next call pays for it alone."""
    scorer = LengthScorer()
    scores = EngineEvaluator(CountingEngine(fails={"Question 3?"}), scorer, ledger)(
        PROMPT, EXAMPLES
    )
    assert scores[3] == Score(None, note="no response: no power")
    assert sum(score.value is None for score in scores) == 1
    assert "q3" not in {name for name, _ in scorer.seen}
    engine = CountingEngine()
    again = EngineEvaluator(engine, LengthScorer(), ledger)(PROMPT, EXAMPLES)
    assert engine.prompts == [PROMPT.render(EXAMPLES[3])]
    assert again[3].value is not None


def test_a_missing_verdict_is_asked_for_again(ledger: Ledger) -> None:
    """Only the silent example is graded anew; its answer is not generated anew."""
    EngineEvaluator(CountingEngine(), LengthScorer(silent={"q5"}), ledger)(PROMPT, EXAMPLES)
    engine, scorer = CountingEngine(), LengthScorer()
    scores = EngineEvaluator(engine, scorer, ledger)(PROMPT, EXAMPLES)
    assert engine.prompts == []
    assert [name for name, _ in scorer.seen] == ["q5"]
    assert scores[5].value is not None


def test_equal_rows_are_generated_once() -> None:
    """The same query twice in one call is one generation, also without a ledger."""
    evaluator = EngineEvaluator(CountingEngine(), LengthScorer())
    responses = evaluator.answer(PROMPT, ["Same?", "Same?", "Other?"])
    assert responses[0] == responses[1] != responses[2]
    assert (evaluator.paid, evaluator.cached) == (2, 1)


def test_unseeded_sampling_is_never_remembered(ledger: Ledger) -> None:
    """Sampling with seed None is meant to differ, so each call pays; seed 0 is a seed."""
    for seed, paid in ((None, 20), (0, 10)):
        prompt = Prompt("s", (), FORMATS["block"], Decoding(temperature=1.0, seed=seed))
        evaluator = EngineEvaluator(CountingEngine(), LengthScorer(), ledger)
        evaluator(prompt, EXAMPLES)
        evaluator(prompt, EXAMPLES)
        assert evaluator.paid == paid


def test_gives_the_responses_too(ledger: Ledger) -> None:
    """Responses come in order with parsed text, and from the ledger the second time."""
    evaluator = EngineEvaluator(CountingEngine(), LengthScorer(), ledger)
    fresh = evaluator.responses(PROMPT, EXAMPLES)
    again = evaluator.responses(PROMPT, EXAMPLES)
    assert [r.text for r in fresh] == [r.text for r in again]
    assert fresh[0].text == str(len(PROMPT.render("Question 0?")))
    assert not fresh[0].cached and again[0].cached


def test_short_answers_of_collaborators_are_bugs() -> None:
    """An engine or evaluator that loses rows is stopped at once."""

    class Losing(CountingEngine):
        def generate(
            self, prompts: Sequence[str], *, stop: Sequence[str], decoding: Decoding
        ) -> list[Response]:
            return super().generate(prompts, stop=stop, decoding=decoding)[1:]

    with pytest.raises(ValueError, match="gave 9 responses to 10 prompts"):
        EngineEvaluator(Losing(), LengthScorer())(PROMPT, EXAMPLES)
    with pytest.raises(ValueError, match="gave 0 scores to 10 examples"):
        evaluate(PROMPT, EXAMPLES, lambda prompt, examples: [])
    with pytest.raises(ValueError, match="chunk must be >= 1"):
        EngineEvaluator(CountingEngine(), LengthScorer(), chunk=0)


def test_evaluation_counts_only_verdicts() -> None:
    """Mean, error and n rest on verdicts; what is missing is counted, never averaged."""
    evaluation = Evaluation(PROMPT, ("a", "b", "c"), (Score(0.2), Score(None), Score(0.6)))
    assert evaluation.mean == pytest.approx(0.4)
    assert evaluation.standard_error == pytest.approx(0.2)
    assert (evaluation.n, evaluation.missing) == (2, 1)
    nothing = Evaluation(PROMPT, ("a",), (Score(None),))
    assert nothing.mean is None and nothing.standard_error is None


def test_any_function_is_an_evaluator() -> None:
    """A plain function evaluates; the engine's evaluator is also accounted for."""
    evaluation = evaluate(PROMPT, EXAMPLES, lambda prompt, examples: [Score(0.5)] * len(examples))
    assert (evaluation.mean, evaluation.n) == (0.5, 10)
    evaluator = EngineEvaluator(CountingEngine(), LengthScorer())
    assert isinstance(evaluator, Accounted)
    assert evaluator.identity == {"engine": "counting-1", "scorer": "length-1"}


def test_compares_on_common_verdicts() -> None:
    """Prompts are paired by example id, where both have a verdict."""
    a = Evaluation(PROMPT, ("x", "y", "z"), (Score(0.9), Score(0.8), Score(None)))
    b = Evaluation(PROMPT, ("z", "y", "x"), (Score(0.1), Score(0.5), Score(0.6)))
    interval = compare(a, b)
    assert interval.n == 2
    assert interval.mean == pytest.approx(0.3)
    with pytest.raises(UserError, match="there is none"):
        compare(a, Evaluation(PROMPT, ("w",), (Score(0.5),)))


def test_ids_are_unique_and_content_names_the_nameless() -> None:
    """A repeated id is refused; an example without one is named by its content."""
    with pytest.raises(UserError, match="'q1' occurs more than once"):
        example_ids([*EXAMPLES, EXAMPLES[1]])
    first, second = example_ids([Example("a"), Example("b")])
    assert first != second and first == example_ids([Example("a")])[0]
