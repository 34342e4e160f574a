"""Rescoring: other judges and other weights on what was generated before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from icl_align.config import bundled_experiment
from icl_align.errors import UserError
from icl_align.prove import winner_pack
from icl_align.rescore import RecordedEngine, rescore
from icl_align.run import Run, open_run, start
from icl_align.types import Decoding, Score

JUDGE = '''
"""A judge of one's own that keeps count of what it is asked."""
from pathlib import Path
from icl_align.types import Decoding, Score

class Short:
    name = "short"
    fingerprint = "short:1"
    def score(self, examples, responses):
        with Path(__file__).with_suffix(".count").open("a") as file:
            file.write("x" * len(responses))
        return [
            Score(None, note="no verdict") if e.id.endswith("7") else Score(1 / (1 + len(r.text)))
            for e, r in zip(examples, responses)
        ]
'''


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A small run of the bundled model."""
    folder = tmp_path_factory.mktemp("rescore")
    made = start(bundled_experiment(0).override(generations=120), folder / "old")
    made.sweep()
    return made


def test_another_judge_ranks_the_same_responses_anew(run: Run) -> None:
    """Nothing is generated, no judgement is paid for twice, and the new run can be used like any other."""
    folder = run.folder.parent
    (folder / "judge.py").write_text(JUDGE)
    (folder / "short.toml").write_text('[objective.short]\nweight = 1\nscorer = "judge.py:Short"\n')
    found = rescore(run, folder / "short.toml", folder / "new")
    before = {trial.number: trial for trial in run.trials() if trial.evaluation}
    new = open_run(folder / "new")
    after = {trial.number: trial for trial in new.trials()}
    assert found["trials"] == len(before) == len(after)
    for old, now in zip(before.values(), after.values(), strict=True):
        assert old.evaluation is not None
        assert now.evaluation is not None
        assert old.evaluation.prompt == now.evaluation.prompt
        assert old.evaluation.ids == now.evaluation.ids
        assert old.params == now.params
        for name, score in zip(now.evaluation.ids, now.evaluation.scores, strict=True):
            assert isinstance(score, Score)
            assert (score.value is None) == name.endswith("7")
    assert found["missing"] > 0
    assert all(row["after"] < 0.5 for row in found["prompts"])
    ranked = new.ranking()
    assert found["best"]["after"] == ranked[0].prompt.digest
    assert winner_pack(new).prompt == ranked[0].prompt

    asked = len((folder / "judge.count").read_text())
    again = rescore(run, folder / "short.toml", folder / "again")
    missing = len((folder / "judge.count").read_text()) - asked
    assert missing == found["missing"]  # what has no verdict is asked again, and only that
    assert again["prompts"] == found["prompts"]


def test_new_weights_need_no_engine_and_no_scorer(run: Run) -> None:
    """Weights alone change the means; the new run's database has all that the old one remembers."""
    folder = run.folder.parent
    experiment = run.experiment.to_json()["objective"]
    lines = []
    for name, table in experiment.items():
        lines += [
            f"[objective.{name}]",
            f"weight = {2 + len(name)}",
            f'scorer = "{table["scorer"]}"',
        ]
    (folder / "weights.toml").write_text("\n".join(lines))
    found = rescore(run, folder / "weights.toml", folder / "weights")
    assert found["spearman"] is None or found["spearman"] > 0.5
    assert found["missing"] == 0
    responses, scores = run.evaluator.ledger.counts() if run.evaluator.ledger else (0, 0)
    new = open_run(folder / "weights")
    assert new.evaluator.ledger is not None
    assert new.evaluator.ledger.counts() == (responses, scores)


def test_a_rescored_run_continues(run: Run) -> None:
    """More budget goes on from the told trials, with the old responses at hand."""
    folder = run.folder.parent
    place = folder / "weights.toml"
    if not place.exists():
        pytest.skip("needs the file of the test before")
    rescore(run, place, folder / "more")
    new = open_run(folder / "more")
    more = Run(new.folder, new.experiment.override(generations=160))
    sweep = more.sweep()
    assert sweep.spent.generations >= 150
    assert more.evaluator.paid <= 60


def test_what_cannot_be_rescored(run: Run, tmp_path: Path) -> None:
    """Each mistake names the file and the remedy."""
    good = tmp_path / "good.toml"
    good.write_text("[objective.checklist]\nweight = 1\n")
    with pytest.raises(UserError, match="cannot read the objective"):
        rescore(run, tmp_path / "none.toml", tmp_path / "x")
    (tmp_path / "bad.toml").write_text("[search]\ntrials = 3\n")
    with pytest.raises(UserError, match="has no \\[objective.NAME\\] tables"):
        rescore(run, tmp_path / "bad.toml", tmp_path / "x")
    rescore(run, good, tmp_path / "twice")
    with pytest.raises(UserError, match="holds a run already; choose another --out"):
        rescore(run, good, tmp_path / "twice")
    content = json.loads((tmp_path / "twice" / "experiment.json").read_text())
    assert list(content["experiment"]["objective"]) == ["checklist"]


def test_a_response_that_never_came_stays_without_a_verdict() -> None:
    """What the engine failed to give does not stand in the way of all the others."""
    (response,) = RecordedEngine("x").generate(["Why?"], stop=(), decoding=Decoding())
    assert response.finish == "error"
    assert "rescoring generates none" in response.error
