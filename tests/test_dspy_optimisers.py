"""DSPy's optimisers on our engine and objective: within budget, told what is missing, back as a pack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import dspy
import pytest

from icl_align.dspy_adapter import UrialAdapter, starting_program
from icl_align.dspy_parts.lm import base_lm
from icl_align.dspy_search import KINDS, Kind, Setting, optimise
from icl_align.dspy_search.verdicts import Grader
from icl_align.engines.scripted import ScriptedEngine
from icl_align.errors import UserError
from icl_align.pack import Pack
from icl_align.prompt import FORMATS, Prompt
from icl_align.scorers._lm_engine import replied
from icl_align.space import Space
from icl_align.types import Decoding, Example, Response, Score, Turn

SPACE = Space(
    ("Say little.", "Say much.", "GOOD text."),
    tuple(Example(f"pool {i}", f"answer {i}{' STAR' if i % 3 == 0 else ''}") for i in range(9)),
    0,
    2,
    (FORMATS["block"],),
    decoding=Decoding(max_tokens=20),
)
DEV = [Example(f"question {i}", f"answer {i}", id=f"d{i}") for i in range(12)]


class Marks:
    """Counts marks in an answer; without a verdict where it is told so, by the example's query."""

    name = "marks"
    fingerprint = "marks:1"

    def __init__(self, silent: Sequence[str] = (), error: str = "") -> None:
        self.silent, self.error = silent, error

    def score(self, examples: Sequence[Example], responses: Sequence[Response]) -> list[Score]:
        if self.error and any(self.error in example.query for example in examples):
            raise ZeroDivisionError("the judge is down")
        return [
            Score(None, note="the judge said nothing")
            if any(mark in example.query for mark in self.silent)
            else Score(min(1.0, response.text.count("+") / 4))
            for example, response in zip(examples, responses, strict=True)
        ]


def said(prompt: str) -> str:
    """A better system text, and exemplars with a star, give more marks."""
    marks = 1 + 2 * ("GOOD" in prompt) + ("STAR" in prompt)
    return " ".join("+" * marks) + "\n```\n\n# Query:\n```\nmore"


def setting(scorer: Any = None, reply_to: Callable[[str], str] = said) -> Setting:
    return Setting(SPACE, ScriptedEngine(reply_to), scorer or Marks(), DEV)


@pytest.mark.parametrize("kind", KINDS)
def test_each_optimiser_gives_a_pack_within_its_budget(kind: Kind) -> None:
    """What it found is a pack that renders, is measured, costs what it says, and comes again."""
    made = setting()
    pack = optimise(kind, made, budget=120, seed=0)
    engine = made.engine
    assert isinstance(engine, ScriptedEngine)
    assert engine.calls == pack.evidence["generations"]["paid"] <= 120
    assert pack.prompt.format == FORMATS["block"]
    assert pack.prompt.decoding == SPACE.decoding
    assert len(pack.prompt.exemplars) <= SPACE.k_max
    assert Pack.from_json(pack.to_json()) == pack
    scores = made.scorer.score(
        DEV, [Response(said(pack.prompt.render("q")).split("\n")[0], 1, "stop")] * 12
    )
    assert pack.evidence["dev"]["mean"] == scores[0].value
    assert optimise(kind, setting(), budget=120, seed=0) == pack


@pytest.mark.parametrize("kind", ["mipro", "gepa", "copro"])
def test_those_that_write_find_the_better_text(kind: Kind) -> None:
    """The system text that scores best is found."""
    assert optimise(kind, setting(), budget=160, seed=0).prompt.system == "GOOD text."


def test_bootstrap_takes_up_demos_of_the_model() -> None:
    """Demos are the model's own answers where they are good enough, else the pool's."""
    good = optimise("bootstrap", setting(reply_to=lambda _: "+ + + +\n```"), budget=60)
    assert {e.answer for e in good.prompt.exemplars} == {"+ + + +"}
    bad = optimise("bootstrap", setting(reply_to=lambda _: "no\n```"), budget=60)
    assert all(e in SPACE.pool for e in (Example(e.query, e.answer) for e in bad.prompt.exemplars))
    assert len(bad.prompt.exemplars) == 2


def test_a_pack_is_where_it_starts() -> None:
    """Its demos and instructions are measured first, and kept by what changes instructions only."""
    start = Pack(Prompt("GOOD text.", (SPACE.pool[0],), FORMATS["headings"]))
    found = optimise("copro", setting(), budget=60, start=start)
    assert found.prompt.system == "GOOD text."
    assert [e.query for e in found.prompt.exemplars] == ["pool 0"]
    assert found.prompt.format == FORMATS["headings"]
    turned = Pack(Prompt("", (Example("q", "a", turns=(Turn("a", "b"),)),), FORMATS["block"]))
    with pytest.raises(UserError, match="start from a pack without turns"):
        optimise("copro", setting(), budget=60, start=turned)
    program = starting_program(start)
    with dspy.context(lm=base_lm(ScriptedEngine(said)), adapter=UrialAdapter.of(start.prompt)):
        assert program(query="Hi").answer.startswith("+ + + +")


@pytest.mark.parametrize("kind", ["mipro", "gepa", "copro"])
def test_a_few_missing_verdicts_are_counted_and_not_zero(kind: Kind) -> None:
    """One silent example of twelve changes no choice and stands in the evidence."""
    pack = optimise(kind, setting(Marks(silent=["question 3"])), budget=200, seed=1)
    assert pack.prompt.system == "GOOD text."
    assert pack.evidence["generations"]["missing"] > 0
    assert pack.evidence["dev"]["missing"] == 1
    assert pack.evidence["dev"]["mean"] >= 0.75


def test_a_missing_verdict_is_the_mean_so_far() -> None:
    """To an optimiser it moves no comparison; a demo without one is not taken up."""
    items = {"a": Example("plain"), "b": Example("silent")}
    grader = Grader(Marks(silent=["silent"]), items)
    known, silent = dspy.Example(id="a"), dspy.Example(id="b")
    answer = dspy.Prediction(answer="+ + +")
    assert grader.metric(silent, answer) == 0.5
    assert grader.metric(known, answer) == 0.75
    assert grader.metric(silent, answer) == 0.75
    told = grader.feedback(silent, answer)
    assert (told.score, told.feedback) == (0.75, "the judge said nothing")
    assert grader.accepts(silent, answer) == grader.metric(silent, answer, []) == 0.0
    assert (grader.graded, grader.missing, grader.unjudged) == (4, 3, 2)


def test_many_missing_verdicts_end_the_run() -> None:
    """A choice on guesses is refused, with the first reason."""
    with pytest.raises(UserError, match=r"have no verdict, more than 10%.*the judge said nothing"):
        optimise("copro", setting(Marks(silent=["question"])), budget=60)


@pytest.mark.parametrize("kind", KINDS)
def test_failures_are_raised(kind: Kind) -> None:
    """A scorer or an engine that fails ends the run with its own error; DSPy would make it 0."""
    with pytest.raises(ZeroDivisionError, match="the judge is down"):
        optimise(kind, setting(Marks(error="question")), budget=60)

    class Broken(ScriptedEngine):
        def generate(self, prompts: Any, *, stop: Any, decoding: Any) -> list[Response]:
            return [Response("", 0, "error", error="out of memory") for _ in prompts]

    made = Setting(SPACE, Broken(said), Marks(), DEV)
    with pytest.raises(RuntimeError, match="out of memory"):
        optimise(kind, made, budget=60)


def test_a_model_that_writes_is_asked_as_dspy_does() -> None:
    """Another model than the base one gets a chat; what it writes is measured on the base model."""

    class Writer:
        seen = 0

        def complete(self, request: Any) -> Any:
            self.seen += 1
            assert request.system
            text = "[[ ## proposed_instruction ## ]]\nGOOD one.\n\n[[ ## proposed_prefix_for_output_field ## ]]\nA:"
            return replied(request, Response(f"{text}\n\n[[ ## completed ## ]]", 1, "stop"))

        def close(self) -> None: ...

    engine = Writer()
    writer = dspy.LM("a/writer", engine=engine, cache=False)
    assert optimise("copro", setting(), budget=60, writer=writer).prompt.system == "GOOD one."
    assert engine.seen > 0


def test_demos_come_from_examples_where_the_pool_cannot_be_judged() -> None:
    """A scorer without a verdict on the pool is given examples that are not measured on."""
    made = setting(Marks(silent=["pool"]), lambda _: "+ + + +\n```")
    pack = optimise("bootstrap", made, budget=60)
    assert all(e.query.startswith("question") for e in pack.prompt.exemplars)
    assert len(pack.prompt.exemplars) == 2


def test_what_cannot_be_run_is_told() -> None:
    """Names, budgets and spaces that do not do are refused in one line."""
    with pytest.raises(UserError, match="no optimiser 'simba'; known are mipro, gepa"):
        optimise("simba", setting(), budget=60)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="a budget of at least 16 generations; got 9 exemplars"):
        optimise("copro", setting(), budget=15)
    with pytest.raises(UserError, match="needs a pool"):
        optimise("copro", Setting(SPACE, ScriptedEngine(said), Marks(), []), budget=60)
