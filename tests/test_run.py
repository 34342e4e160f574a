"""Promises of icl_align.run: what a run's folder says is what was done."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from small_run import small_experiment, small_run

from icl_align.errors import UserError
from icl_align.prove import prove
from icl_align.report.toml import experiment_toml
from icl_align.run import open_run, start, summary
from icl_align.search.study import exclusive
from icl_align.show import sweep_table


def test_a_refused_sweep_leaves_the_limits_as_they_are(tmp_path: Path) -> None:
    """While another process works on the run, a second one with other limits changes nothing."""
    run = small_run(tmp_path)
    more = start(run.experiment.override(trials=40), run.folder)
    with exclusive(run.url), pytest.raises(UserError, match="another process is working"):
        more.sweep()
    assert open_run(run.folder).experiment.search.trials == 30
    more.sweep()
    assert open_run(run.folder).experiment.search.trials == 40
    assert len(run.trials()) == 40


def test_limits_that_are_used_up_are_not_written_down(tmp_path: Path) -> None:
    """The page says how to do again what was done, not what was asked for in vain."""
    run = small_run(tmp_path)
    sweep = start(run.experiment.override(trials=10), run.folder).sweep()
    assert len(sweep.trials) == 30
    assert open_run(run.folder).experiment.search.trials == 30


def test_trials_after_the_proof_are_told(tmp_path: Path) -> None:
    """The proof is of an earlier state then, and `run` says so."""
    run = small_run(tmp_path)
    sweep = run.sweep()
    assert summary(run, sweep)["trials_since_proof"] is None
    prove(run)
    assert summary(run, run.sweep())["trials_since_proof"] == 0
    more = start(run.experiment.override(trials=35), run.folder)
    found = summary(more, more.sweep())
    assert found["trials_since_proof"] == 5
    assert "made before 5 of the trials" in sweep_table(found)


def test_a_tracker_that_is_not_there_leaves_no_folder(tmp_path: Path) -> None:
    """A mistake in --track shows before anything is written."""
    file = tmp_path / "e.toml"
    file.write_text(experiment_toml(small_experiment(tmp_path)))
    out = str(tmp_path / "new")
    command = [sys.executable, "-m", "icl_align", "run", str(file), "--out", out]
    done = subprocess.run(
        [*command, "--track", "nobody"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "--track takes mlflow, wandb" in done.stderr
    assert not (tmp_path / "new").exists()


def test_the_proofs_costs_have_their_scopes(tmp_path: Path) -> None:
    """What the run has paid for in all, and what this process has."""
    run = small_run(tmp_path)
    first = prove(open_run(run.folder)).to_json()
    again = prove(open_run(run.folder)).to_json()
    assert first["now"]["paid"] > 0
    assert again["now"]["paid"] == 0
    assert again["now"]["cached"] > 0
    assert again["generations"]["paid"] == first["generations"]["paid"] > first["now"]["paid"]
    assert json.loads((run.folder / "confirmation.json").read_text())["now"] == again["now"]
