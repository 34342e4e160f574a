"""Promises of icl_align.search.confirm."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from small_run import small_run

from icl_align.errors import UserError
from icl_align.evaluation import Evaluation
from icl_align.prompt import FORMATS, Prompt
from icl_align.prove import prove
from icl_align.search.confirm import Confirmation, confirm
from icl_align.search.ranking import Ranked
from icl_align.search.sweep import Progress
from icl_align.types import Example, Score


def prompt(name: str) -> Prompt:
    """A prompt known by its system text."""
    return Prompt(name, (), FORMATS["block"])


def examples(split: str, count: int) -> list[Example]:
    """Examples whose ids tell their split."""
    return [Example(f"{split} question {i}?", id=f"{split}-{i}") for i in range(count)]


def ranked(number: int, name: str, values: Sequence[float | None], **others: Any) -> Ranked:
    """A measured prompt, ranked by its mean."""
    scores = tuple(Score(value) for value in values)
    ids = tuple(f"dev-{i}" for i in range(len(values)))
    evaluation = Evaluation(prompt(name), ids, scores)
    settings = {"estimate": evaluation.mean or 0.0, "sd": None, "complete": True} | others
    return Ranked(number, evaluation, **settings)


@dataclass
class Judge:
    """Scores by (system text, split), a little apart per example, and keeps what was asked."""

    values: Mapping[tuple[str, str], float]
    asked: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, prompt: Prompt, examples: Sequence[Example]) -> list[Score]:
        self.asked += [(prompt.system, example.id) for example in examples]
        return [Score(self._value(prompt.system, *example.id.split("-"))) for example in examples]

    def _value(self, name: str, split: str, number: str) -> float:
        return self.values[name, split] + 0.01 * ((int(number) + len(name)) % 3)


RANKING = [
    ranked(1, "lucky", [0.9, 0.9]),
    ranked(2, "steady", [0.8, 0.8]),
    ranked(5, "third", [0.5, 0.5]),
    ranked(0, "weak", [0.2, 0.2]),
]
VALUES = {
    ("lucky", "confirm"): 0.3,
    ("steady", "confirm"): 0.7,
    ("third", "confirm"): 0.6,
    ("lucky", "test"): 0.95,
    ("steady", "test"): 0.7,
    ("hand", "test"): 0.5,
    ("zero", "test"): 0.1,
}


def run(judge: Judge, **changes: Any) -> Confirmation:
    """A confirmation with all splits, changed where a test says so."""
    settings: dict[str, Any] = {
        "ranking": RANKING,
        "dev_examples": examples("dev", 2),
        "confirm_examples": examples("confirm", 6),
        "test_examples": examples("test", 9),
        "baselines": {"hand": prompt("hand"), "zero": prompt("zero")},
        "finalists": 3,
    } | changes
    return confirm(settings.pop("ranking"), judge, **settings)


def test_the_winner_is_chosen_by_dev_and_confirm_together() -> None:
    """A prompt that was only lucky on dev falls back; the test split plays no part in it."""
    result = run(Judge(VALUES))
    assert result.prompt.system == "steady"
    assert [finalist.trial for finalist in result.finalists] == [2, 5, 1]
    assert result.finalists[0].pooled_mean == pytest.approx((2 * 0.8 + 6 * 0.71) / 8)
    assert result.proof == "test"


def test_test_examples_are_touched_once_and_only_by_winner_and_baselines() -> None:
    """No finalist but the winner sees a test example, and nothing sees one twice."""
    judge = Judge(VALUES)
    run(judge)
    on_test = [(name, example) for name, example in judge.asked if example.startswith("test")]
    assert {name for name, _ in on_test} == {"steady", "hand", "zero"}
    assert len(on_test) == len(set(on_test)) == 27
    first_test = judge.asked.index(on_test[0])
    assert all(not example.startswith("confirm") for _, example in judge.asked[first_test:])


def test_differences_are_paired_intervals() -> None:
    """Each baseline has its interval of winner minus baseline, at the level asked for."""
    result = run(Judge(VALUES), level=0.9)
    hand, zero = result.comparisons
    assert (hand.name, zero.name) == ("hand", "zero")
    assert hand.difference.mean == pytest.approx(0.2)
    assert hand.difference.low <= 0.2 <= hand.difference.high
    assert (hand.difference.level, hand.difference.n) == (0.9, 9)
    assert zero.difference.mean == pytest.approx(0.6)


def test_json_has_the_promised_keys() -> None:
    """The JSON has the fixed keys, the first baseline as the main one, and no NaN."""
    data = json.loads(json.dumps(run(Judge(VALUES)).to_json(), allow_nan=False))
    assert data["baseline"] == {"name": "hand", "mean": pytest.approx(0.51), "n": 9, "missing": 0}
    assert data["tuned"]["mean"] == pytest.approx(0.71) and data["tuned"]["trial"] == 2
    assert set(data["difference"]) == {"mean", "low", "high", "level", "n"}
    assert [other["name"] for other in data["others"]] == ["zero"]
    assert len(data["finalists"]) == 3
    assert data["generations"] == {"paid": 0, "cached": 0}


@pytest.mark.parametrize("kept", ["confirm", "test"])
def test_one_fresh_split_is_kept_for_the_proof(kept: str) -> None:
    """With one fresh split there is no second choice: the best on dev is proved on it."""
    judge = Judge({**VALUES, ("hand", "confirm"): 0.5, ("zero", "confirm"): 0.1})
    other = {"confirm": "test_examples", "test": "confirm_examples"}[kept]
    result = run(judge, **{other: []})
    assert result.prompt.system == "lucky"
    assert result.proof == kept
    assert {name for name, _ in judge.asked} == {"lucky", "hand", "zero"}
    assert all(finalist.fresh is None for finalist in result.finalists)


def test_fewer_finalists_than_asked_for_is_fine() -> None:
    """All that there are are measured."""
    result = run(Judge({**VALUES, ("weak", "confirm"): 0.2}), finalists=9)
    assert sorted(finalist.trial for finalist in result.finalists) == [0, 1, 2, 5]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"baselines": {}}, "proved against baselines, got none"),
        ({"finalists": 0}, "finalists must be at least 1, got 0"),
        ({"confirm_examples": [], "test_examples": []}, "neither confirm nor test examples"),
        (
            {"confirm_examples": examples("test", 1)},
            r"'test question 0\?' is also a confirm example",
        ),
    ],
)
def test_refuses_a_proof_that_proves_nothing(changes: dict[str, Any], message: str) -> None:
    """Each missing or leaking part is named before anything is measured."""
    judge = Judge(VALUES)
    with pytest.raises(UserError, match=message):
        run(judge, **changes)
    assert judge.asked == []


def test_refuses_a_sweep_without_results() -> None:
    """Without a measured prompt there is nothing to confirm."""
    with pytest.raises(UserError, match="nothing to confirm: no prompt has a verdict"):
        run(Judge(VALUES), ranking=[])


def test_a_partly_measured_finalist_is_measured_on_the_rest() -> None:
    """What a hard stop left open is measured before the choice, and nothing twice."""
    judge = Judge({**VALUES, ("steady", "dev"): 0.8})
    partial = ranked(2, "steady", [0.8], complete=False)
    result = run(judge, ranking=[partial], finalists=1)
    assert result.finalists[0].dev.ids == ("dev-0", "dev-1")
    assert [asked for asked in judge.asked if asked[1].startswith("dev")] == [("steady", "dev-1")]


@pytest.mark.parametrize(("sd", "winner"), [(0.0001, "lucky"), (1.0, "steady")])
def test_a_belief_weighs_as_much_as_it_is_sure(sd: float, winner: str) -> None:
    """A sure belief outweighs the confirm verdicts, a vague one gives way to them."""
    ranking = [ranked(1, "lucky", [0.9, 0.9], sd=sd), ranked(2, "steady", [0.8, 0.8], sd=sd)]
    assert run(Judge(VALUES), ranking=ranking).prompt.system == winner


def test_a_broken_constraint_stands_last() -> None:
    """A prompt that is believed to break the constraint wins only if all do."""
    ranking = [RANKING[0], ranked(2, "steady", [0.8, 0.8], allowed=False)]
    assert run(Judge(VALUES), ranking=ranking).prompt.system == "lucky"


def test_an_interrupted_random_search_is_no_rival(tmp_path: Path) -> None:
    """It has had fewer generations than the winner; the same call goes on with it."""
    run = small_run(tmp_path)

    def on_trial(now: Progress) -> None:
        if now.trial.number == 3:
            os.kill(os.getpid(), signal.SIGINT)

    heard: list[bool] = []
    with pytest.raises(KeyboardInterrupt):
        prove(run, random_search=True, on_trial=on_trial, on_cancel=lambda: heard.append(True))
    assert heard == [True]
    assert not (run.folder / "pack.json").exists()
    found = prove(run, random_search=True).confirmation
    assert "random search" in [one.name for one in found.comparisons]
