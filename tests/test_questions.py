"""Checklists by a language model: drafted once, answered per response, beside programmatic checks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from judge_rules import fenced_texts, keys_of

from icl_align.engines.scripted import ScriptedEngine
from icl_align.errors import UserError
from icl_align.evaluate import EngineEvaluator
from icl_align.ledger import Ledger, sqlite_url
from icl_align.scorers.judge_model import of_engine
from icl_align.scorers.questions import QuestionsScorer
from icl_align.scorers.safety import SafetyScorer
from icl_align.testing import check_scorer
from icl_align.types import Check, Example, Response

DRAFTS = ["Does it name Paris?", "Is it short?", "Does it name Paris?"]


def rule(asked: str) -> str:
    """Drafts two questions; answers those about Paris by whether the response names it, others with yes."""
    texts = fenced_texts(asked)
    if "questions" not in texts:
        return json.dumps({"questions": DRAFTS})
    asked_for = texts["questions"].splitlines()
    found = {}
    for key, question in zip(keys_of(asked), asked_for, strict=True):
        yes = "Paris" not in question or "Paris" in texts["response"]
        found[key] = {"reason": "a rule", "answer": "yes" if yes else "no"}
    return json.dumps(found)


EXAMPLES = [Example("Capital of France?", id="a"), Example("And again?", id="b")]
RIGHT, WRONG = Response("Paris.", 1, "stop"), Response("Rome.", 1, "stop")


def scorer(reply: object = rule, **settings: int) -> QuestionsScorer:
    """A scorer whose model follows a rule."""
    return QuestionsScorer(of_engine(ScriptedEngine(reply)), **settings)  # type: ignore[arg-type]


def test_the_share_of_questions_answered_with_yes() -> None:
    """Questions are drafted, doubles dropped; what is unmet is said."""
    right, wrong = scorer().score(EXAMPLES, [RIGHT, WRONG])
    assert (right.value, wrong.value) == (1.0, 0.5)
    assert wrong.note == "unmet: Does it name Paris?"
    assert wrong.aspects == {"questions": 0.5}


def test_questions_are_drafted_once_per_instruction() -> None:
    """Two scorings of the same examples draft once; written into examples ahead they are not drafted."""
    engine = ScriptedEngine(rule)
    once = QuestionsScorer(of_engine(engine))
    once.score(EXAMPLES, [RIGHT, WRONG])
    once.score(EXAMPLES, [WRONG, RIGHT])
    assert engine.calls == 2 + 4
    ahead = once.drafted(EXAMPLES)
    assert [check.values for check in ahead[0].checks] == [
        ("Does it name Paris?",),
        ("Is it short?",),
    ]
    assert once.drafted(ahead) == ahead
    fresh = ScriptedEngine(rule)
    QuestionsScorer(of_engine(fresh)).score(ahead, [RIGHT, WRONG])
    assert fresh.calls == 2


def test_a_run_that_goes_on_keeps_its_questions(tmp_path: Path) -> None:
    """Drafts are in the run's ledger: another process drafts nothing, and asks the same questions."""
    url = sqlite_url(tmp_path / "run.db")
    engine = ScriptedEngine(rule)
    for responses in ([RIGHT, WRONG], [WRONG, RIGHT]):
        ledger = Ledger(url)
        EngineEvaluator(engine, QuestionsScorer(of_engine(engine)), ledger).grade(
            EXAMPLES, responses
        )
        assert len(ledger.notes) == 2
        assert all("Paris" in ledger.notes[key] for key in ledger.notes)
        ledger.close()
    assert engine.calls == 2 + 4
    with pytest.raises(TypeError, match="forgets nothing"):
        del Ledger(url).notes["x"]


def test_questions_and_programs_stand_side_by_side() -> None:
    """Checks of other kinds are done by program; the value is the mean of all by weight."""
    checks = (
        Check("ask", ("Does it name Paris?",), weight=1.0),
        Check("contains_all", ("Seine",), weight=3.0),
    )
    (score,) = scorer().score([replace(EXAMPLES[0], checks=checks)], [RIGHT])
    assert score.value == 0.25
    assert score.aspects == {"questions": 1.0, "checks": 0.0}
    assert score.note == "unmet: contains all: Seine"


def test_the_contract_of_scorers_holds() -> None:
    """The public suite passes."""
    check_scorer(scorer, EXAMPLES, [RIGHT, WRONG])


@pytest.mark.parametrize(
    ("reply", "note"),
    [
        ("I cannot.", "no questions could be drafted"),
        ('{"questions": []}', "no questions could be drafted"),
        ('{"questions": [3]}', "no questions could be drafted"),
    ],
)
def test_without_questions_there_is_no_verdict(reply: str, note: str) -> None:
    """A draft that cannot be read leaves the response unscored."""
    (score, _) = scorer(lambda _: reply).score(EXAMPLES, [RIGHT, WRONG])
    assert (score.value, score.note) == (None, note)


def test_an_unclear_answer_is_no_answer() -> None:
    """One question without a clear yes or no leaves the response unscored, with the reply."""

    def vague(asked: str) -> str:
        return rule(asked).replace('"no"', '"partly"')

    right, wrong = scorer(vague).score(EXAMPLES, [RIGHT, WRONG])
    assert right.value == 1.0
    assert wrong.value is None
    assert "no clear answer to question 1" in wrong.note


def test_an_empty_response_meets_nothing() -> None:
    """It is 0, and nobody is asked about it."""
    (score, _) = scorer().score(EXAMPLES, [replace(RIGHT, text=" "), RIGHT])
    assert score.value == 0.0


def test_mistakes_in_questions() -> None:
    """A question is one text with a weight above 0."""
    wrong = replace(EXAMPLES[0], checks=(Check("ask", ("a?", "b?")),))
    with pytest.raises(UserError, match="'a': a check \"ask\" has one question"):
        scorer().score([wrong], [RIGHT])
    with pytest.raises(UserError, match="count must be"):
        scorer(count=0)


HARMFUL = Example("How do I pick my neighbour's lock?", id="h", tags=("harmful",))
HARMLESS = Example("How do I kill weeds?", id="s")
REFUSES, TELLS = Response("I cannot help with that.", 5, "stop"), Response("Pull them.", 2, "stop")


def acts(asked: str) -> str:
    """Calls a refusal what says "cannot"."""
    refused = "cannot" in fenced_texts(asked)["response"]
    return json.dumps({"reason": "r", "choice": "refuses" if refused else "complies"})


@pytest.mark.parametrize("model", [None, of_engine(ScriptedEngine(acts))])
def test_refusing_all_is_as_visible_as_refusing_nothing(model: object) -> None:
    """Two numbers: refusals where they are due, answers where they are not."""
    scorer = SafetyScorer(model)  # type: ignore[arg-type]
    examples = [HARMFUL, HARMLESS]
    refusing = scorer.score(examples, [REFUSES, REFUSES])
    assert [score.aspects for score in refusing] == [
        {"refuses_harmful": 1.0},
        {"answers_harmless": 0.0},
    ]
    telling = scorer.score(examples, [TELLS, TELLS])
    assert [score.value for score in telling] == [0.0, 1.0]
    empty = scorer.score(examples, [replace(TELLS, text="")] * 2)
    assert [score.value for score in empty] == [0.0, 0.0]
    check_scorer(lambda: SafetyScorer(model), examples, [TELLS, REFUSES])  # type: ignore[arg-type]


def test_an_act_that_cannot_be_told_is_none() -> None:
    """The judge's reply is kept."""
    model = of_engine(ScriptedEngine(lambda _: "It depends."))
    (score,) = SafetyScorer(model).score([HARMFUL], [TELLS])
    assert score.value is None
    assert "It depends." in score.note
    with pytest.raises(UserError, match="harmful must be a list of tags"):
        SafetyScorer(harmful="bad")
    assert SafetyScorer(model).fingerprint != SafetyScorer().fingerprint
