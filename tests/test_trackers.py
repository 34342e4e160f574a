"""Promises of icl_align.trackers.

Run as a script (`test_trackers.py FOLDER TRACKER`), this file is the tracked sweep that its tests kill.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from small_run import small_experiment, small_run

from icl_align.errors import UserError
from icl_align.prove import prove
from icl_align.report.toml import experiment_toml
from icl_align.run import Run, open_run, start, summary
from icl_align.trackers import Subject, tracking
from icl_align.trackers.memory import TRACKERS_FILE, remembered
from icl_align.trackers.params import params_of
from icl_align.trackers.to_mlflow import MLflowTracker
from icl_align.trackers.tracking import PATIENCE_S

TRIALS = 30
OWN = '''
"""A tracker in one file: a line of JSON for each call."""
import json, pathlib
from icl_align.trackers import Position

class Lines:
    def start(self, run):
        self.path = run.folder / "lines.jsonl"
        self.write("start", run.name)
        return run.known[0] if run.known else Position("mine")
    def trials(self, rows):
        for row in rows:
            self.write("trial", [row.number, row.step, row.state, dict(row.values)])
    def end(self, outcome):
        self.write("end", [dict(outcome.values), list(outcome.top), outcome.winner])
    def proved(self, proof):
        self.write("proved", [dict(proof.values), [file.name for file in proof.files]])
    def close(self, *, failed):
        self.write("close", failed)
    def write(self, what, value):
        with self.path.open("a") as file:
            file.write(json.dumps([what, value], allow_nan=False) + "\\n")

class Raising(Lines):
    def start(self, run):
        raise OSError("no route to https://me:hunter2@host/x?token=abc\\x1b[31m")

class Stuck(Lines):
    def trials(self, rows):
        import time
        time.sleep(60)

class Flaky(Lines):
    calls = 0
    def trials(self, rows):
        Flaky.calls += 1
        if Flaky.calls == 1:
            raise ConnectionError("gone")
        super().trials(rows)

class Half:
    def start(self, run):
        return Position("x")
'''


def own(folder: Path, name: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "own.py").write_text(OWN)
    return f"{folder / 'own.py'}:{name}"


def tracked(
    run: Run, name: str, *, patience_s: float = 60, pause_s: float = 0, proof: bool = False
) -> list[str]:
    """Sweeps with a tracker, and gives what the user is warned of."""
    warnings = list[str]()
    with tracking([name], run, warnings.append, patience_s) as followed:
        sweep = run.sweep(followed.beside(lambda _: time.sleep(pause_s)))
        followed.end(summary(run, sweep), sweep)
        if proof:
            followed.proved(prove(run))
    return warnings


def lines(run: Run, what: str) -> list[Any]:
    rows = [json.loads(line) for line in (run.folder / "lines.jsonl").read_text().splitlines()]
    return [value for kind, value in rows if kind == what]


def content(run: Run) -> list[dict[str, Any]]:
    """What the study holds, without times."""
    return [
        {**replace(t, seconds=0, usage=replace(t.usage, seconds=0)).to_json(), "state": t.state}
        | {"params": dict(t.params)}
        for t in run.trials()
    ]


def fresh(folder: Path, **changes: Any) -> Run:
    return start(small_experiment(folder, **changes), folder / "run")


def test_a_tracker_of_ones_own_in_one_file(tmp_path: Path) -> None:
    """It is told every trial once and in order, the result, the proof, and the end."""
    run = fresh(tmp_path)
    name = own(tmp_path, "Lines")
    assert tracked(run, name, proof=True) == []
    rows = lines(run, "trial")
    assert [row[0] for row in rows] == list(range(TRIALS))
    records = run.trials()
    assert [row[1] for row in rows] == [
        sum(r.measured for r in records[: i + 1]) for i in range(30)
    ]
    assert rows[-1][3]["spent/share"] == 1
    assert max(len(row[3]) for row in rows) <= 25
    assert rows[4][3]["trial/mean"] == pytest.approx(records[4].mean)
    assert rows[0][3]["trial/length"] == records[0].length
    ((values, top, winner),) = lines(run, "end")
    best = run.ranking()[0]
    assert values["final/estimate"] == best.estimate
    assert top[0]["trial"] == best.number
    assert len(top) == 10
    assert winner == best.prompt.to_text()
    ((proof, files),) = lines(run, "proved")
    stored = json.loads((run.folder / "confirmation.json").read_text())
    assert proof["proof/low"] == stored["difference"]["low"]
    assert files == ["pack.json", "pack.txt", "confirmation.json"]
    assert lines(run, "close") == [False]


def test_a_finished_run_is_logged_afterwards_and_once(tmp_path: Path) -> None:
    """With the same numbers as live, but for what the sampler believed; a second time nothing is repeated."""
    live, later = fresh(tmp_path / "live"), small_run(tmp_path / "later")
    tracked(live, own(tmp_path, "Lines"))
    for _ in range(2):
        tracked(later, own(tmp_path, "Lines"))
    numbers = [_timeless(run) for run in (live, later)]
    assert numbers[0] == numbers[1]
    assert len(numbers[1]) == TRIALS
    assert len(lines(later, "end")) == 2
    assert any("best/estimate" in row[3] for row in lines(live, "trial"))


def _timeless(run: Run) -> list[Any]:
    left_out = ("second", "best/estimate", "best/sd", "best/trial")
    return [
        [*row[:3], {k: v for k, v in row[3].items() if not any(word in k for word in left_out)}]
        for row in lines(run, "trial")
    ]


@pytest.mark.parametrize("name", ["Raising", "Stuck", "Flaky"])
def test_a_broken_tracker_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """The study is the one of a run without it; the user is told once, and at the end what is missing."""
    plain, run = small_run(tmp_path / "plain"), fresh(tmp_path / "run")
    started = time.monotonic()
    warnings = tracked(run, own(tmp_path, name), patience_s=1)
    assert time.monotonic() - started < 20
    assert content(run) == content(plain)
    said = "\n".join(warnings)
    if name == "Raising":
        assert len(warnings) == 2
        assert "hunter2" not in said
        assert "abc" not in said
        assert "\x1b" not in said
        assert "lacks 30 trials and the result" in warnings[1]
    if name == "Stuck":
        assert "one has not come back" in said
    if name == "Flaky":
        assert [row[0] for row in lines(run, "trial")] == list(range(TRIALS))
        assert "was told all in the end (1 calls failed)" in said


def test_waiting_for_a_tracker_can_be_ended(tmp_path: Path) -> None:
    """The result is there before the wait; Ctrl-C during it ends the wait, and says what is missing."""
    run = fresh(tmp_path / "run")
    file = tmp_path / "run" / "e.toml"
    file.write_text(experiment_toml(run.experiment))
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "icl_align", "run", file, "--out", run.folder,
         "--track", own(tmp_path, "Stuck")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline().startswith("run:")
    while "Ctrl-C ends the wait" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "lacks 30 trials and the result" in said
    assert time.monotonic() - started < PATIENCE_S


def test_what_failed_is_logged_the_next_time(tmp_path: Path) -> None:
    """A tracker that was down has everything after the same command once more."""
    run = fresh(tmp_path)
    tracked(run, own(tmp_path, "Raising"))
    assert not (run.folder / TRACKERS_FILE).exists()
    tracked(run, own(tmp_path, "Lines"))
    assert [row[0] for row in lines(run, "trial")] == list(range(TRIALS))


def test_without_names_nothing_happens(tmp_path: Path) -> None:
    """No client is imported, no file written, and the callback is the one given."""
    run = fresh(tmp_path)

    def on_trial(_: object) -> None:
        pass

    with tracking([], run, pytest.fail) as followed:
        assert followed.beside(on_trial) is on_trial
    assert not list(run.folder.glob("trackers*"))
    code = "import sys, icl_align.trackers; assert not {'mlflow', 'wandb'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mlfow", "--track takes mlflow, wandb, 'module:attr' or 'file.py:attr', got 'mlfow'"),
        ("nowhere.py:Lines", "the tracker file nowhere.py does not exist"),
        ("Half", "has no method 'trials'"),
    ],
)
def test_wrong_names_are_refused(tmp_path: Path, name: str, message: str) -> None:
    """Before anything is measured."""
    run = fresh(tmp_path)
    given = own(tmp_path, name) if name == "Half" else name
    with pytest.raises(UserError, match=message), tracking([given], run, pytest.fail):
        pass


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_missing_client_names_its_extra(tmp_path: Path, name: str) -> None:
    """One line, and exit code 2."""
    fresh(tmp_path)
    code = (
        f"import sys; sys.modules[{name!r}] = None\n"
        "class No:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {name!r}: raise ModuleNotFoundError(name=name)\n"
        f"del sys.modules[{name!r}]; sys.meta_path.insert(0, No())\n"
        "from icl_align.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "confirm", str(tmp_path / "run"), "--track", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert f"pip install 'icl-align[{name}]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "message"), [("{", "is damaged"), ('{"version": 9, "runs": []}', "has version 9")]
)
def test_an_unreadable_memory_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """The message says what to do."""
    (tmp_path / TRACKERS_FILE).write_text(text)
    with pytest.raises(UserError, match=message), remembered(tmp_path):
        pass


def test_two_processes_cannot_track_one_run(tmp_path: Path) -> None:
    """They would log trials twice."""
    with (
        remembered(tmp_path),
        pytest.raises(UserError, match="another process is tracking the run"),
        remembered(tmp_path),
    ):
        pass


def test_no_secret_is_a_setting(tmp_path: Path) -> None:
    """Logins, keys and the database's address stay here; the rest is there by dotted name."""
    scorer = {
        "weight": 1,
        "scorer": f"{tmp_path / 'parts.py'}:Reading",
        "options": {
            "base_url": "https://me:hunter2@judge.example/v1?sig=hunter2",
            "api_key": "hunter2",
            "headers": {"Authorization": "Bearer hunter2"},
            "accessToken": "hunter2",
            "api_keys": ["hunter2"],
            "secrets": {"a": "hunter2"},
            "odd": "https://me:at@hunter2@judge.example/v1#token=hunter2",
            "list": [{"token": "hunter2", "url": "http://u:hunter2@x/"}],
            "max_tokens": 7,
        },
    }
    experiment = small_experiment(tmp_path, objective={"reading": scorer})
    database = {"database": "postgresql://u:hunter2@host/db"}
    experiment = experiment.model_copy(update=database)
    found = params_of(experiment)
    assert "hunter2" not in json.dumps(found)
    assert found["objective.reading.options.base_url"] == "https://judge.example/v1"
    assert found["objective.reading.options.max_tokens"] == 7
    assert found["seed"] == 0
    assert "versions.torch" in found
    assert not any(name.startswith("database") for name in found)


# The real clients.

needs_mlflow = pytest.mark.skipif(
    find_spec("mlflow") is None, reason="needs the extra mlflow: pip install -e '.[mlflow]'"
)
needs_wandb = pytest.mark.skipif(
    find_spec("wandb") is None, reason="needs the extra wandb: pip install -e '.[wandb]'"
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the clients write, by their own environment."""
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}",
        "MLFLOW_EXPERIMENT_NAME": "my trials",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(tmp_path),
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_SILENT": "true",
    }.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def killed_and_continued(folder: Path, name: str) -> int:
    """Tracks a run in processes of which two are killed; gives how many trials the first two left."""
    command = [sys.executable, __file__, str(folder), name]
    database, there = folder / "run" / "run.db", 0
    for goal in (7, 16):
        process = subprocess.Popen(command)
        while process.poll() is None and there < goal:
            time.sleep(0.02)
            cursor = folder / "run" / TRACKERS_FILE
            there = json.loads(cursor.read_text())["runs"][0]["next"] if cursor.exists() else 0
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert database.exists()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    return there


@needs_mlflow
def test_mlflow_has_every_trial_once_after_kills(place: Path) -> None:
    """Settings, trials by generations, result, table and proof are in one MLflow run, kill -9 or not."""
    assert 16 <= killed_and_continued(place / "small", "mlflow") < TRIALS
    run = open_run(place / "small" / "run")
    found = mlflow_run(place, run)
    records = run.trials()
    assert found["trial/number"] == [
        (sum(r.measured for r in records[: i + 1]), float(i)) for i in range(TRIALS)
    ]
    means = [value for _, value in found["trial/mean"]]
    assert means == [pytest.approx(r.evaluation.mean) for r in records if r.evaluation]
    assert found["params"]["search.sampler"] == "random"
    assert found["status"] == "FINISHED"
    assert found["runs"] == 1
    assert found["name"] == "small run"
    rows = list(csv.DictReader(found["top.csv"].splitlines()))
    assert int(rows[0]["trial"]) == run.ranking()[0].number
    assert found["winner.txt"] == run.ranking()[0].prompt.to_text()
    assert found["proof/difference"][0][1] > 0
    assert json.loads(found["pack.json"])["evidence"]["confirmed"]


def mlflow_run(place: Path, run: Run) -> dict[str, Any]:
    """What MLflow says, asked by its own client in a process of its own."""
    code = """
import json, mlflow, sys
client = mlflow.MlflowClient()
experiment = client.get_experiment_by_name("my trials")
runs = client.search_runs([experiment.experiment_id])
one = client.get_run(sys.argv[1])
found = {key: [(m.step, m.value) for m in client.get_metric_history(sys.argv[1], key)]
         for key in one.data.metrics}
found |= {"params": one.data.params, "tags": one.data.tags, "status": one.info.status,
          "runs": len(runs), "name": one.info.run_name}
for item in client.list_artifacts(sys.argv[1]):
    found[item.path] = open(client.download_artifacts(sys.argv[1], item.path), newline="").read()
print(json.dumps(found))
"""
    (known,) = json.loads((run.folder / TRACKERS_FILE).read_text())["runs"]
    command = [sys.executable, "-c", code, known["id"]]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=place)
    found: dict[str, Any] = json.loads(done.stdout)
    return {
        k: [tuple(v) for v in rows] if isinstance(rows, list) else rows for k, rows in found.items()
    }


@needs_mlflow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of its own, by SQLAlchemy
def test_mlflow_takes_any_name(place: Path) -> None:
    """A baseline may be called what MLflow's parameters may not, and a start that fails makes one run."""
    names = ["a//b", "x/", "a/../b", "/lead"]
    rules = {"baselines": dict.fromkeys(names, "zero-shot"), "main": "x/"}
    assert tracked(fresh(place / "run", confirm=rules), "mlflow") == []
    client, subject = import_module("mlflow"), Subject("n", place, {"p": 1})
    tracker = MLflowTracker(client)
    first = tracker.start(subject)
    assert tracker.start(subject).id == first.id


@needs_mlflow
def test_a_dead_server_is_a_warning(place: Path) -> None:
    """The run is whole, and its end is not held up for long."""
    environment = {**os.environ, "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    command = [sys.executable, __file__, str(place / "small"), "mlflow", "1"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "warning: the tracker mlflow lacks 30 trials and the result" in done.stderr
    assert done.stdout == ""
    assert len(open_run(place / "small" / "run").trials()) == TRIALS


@needs_wandb
def test_wandb_has_every_trial_once_after_kills(place: Path) -> None:
    """The offline folders of three processes hold one run: each trial once, settings, result, proof."""
    assert 16 <= killed_and_continued(place / "small", "wandb") < TRIALS
    run = open_run(place / "small" / "run")
    (known,) = json.loads((run.folder / TRACKERS_FILE).read_text())["runs"]
    files = sorted((place / "wandb").glob("offline-run-*/run-*.wandb"))
    assert [file.name for file in files] == [f"run-{known['id']}.wandb"] * 3
    records = [record for file in files for record in wandb_records(file)]
    history = [_items(r.history.item) for r in records if r.WhichOneof("record_type") == "history"]
    assert [row["_step"] for row in history] == list(range(TRIALS))
    spent = [sum(r.measured for r in run.trials()[: i + 1]) for i in range(TRIALS)]
    assert [row["spent/generations"] for row in history] == spent
    assert history[0]["trial/state"] == "complete"
    (name,) = {r.run.display_name for r in records if r.WhichOneof("record_type") == "run"}
    assert name == "small run"
    assert {r.run.project for r in records if r.WhichOneof("record_type") == "run"} == {"icl_align"}
    config = {
        k: v for r in records for k, v in _items([*r.config.update, *r.run.config.update]).items()
    }
    assert config["search.sampler"] == "random"
    result = {k: v for r in records for k, v in _items(r.summary.update).items()}
    assert result["final/trial"] == run.ranking()[0].number
    assert result["proof/difference"] > 0
    assert result["top"]["nrows"] == 10
    artifacts = {r.request.log_artifact.artifact.name for r in records} | {
        r.artifact.name for r in records
    }
    assert {f"winner-{known['id']}", f"proof-{known['id']}"} <= artifacts


def wandb_records(file: Path) -> Iterator[Any]:
    """Records of a .wandb file: LevelDB's log format around W&B's own messages."""
    messages: Any = import_module("wandb.proto.wandb_internal_pb2")
    data, at, parts = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            record = messages.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def _items(items: Sequence[Any]) -> dict[str, Any]:
    return {
        item.key or ".".join(item.nested_key): json.loads(item.value_json)
        for item in items
        if item.value_json
    }


if __name__ == "__main__":
    patience = float(sys.argv[3]) if len(sys.argv) > 3 else 60
    place_ = Path(sys.argv[1])
    for line in tracked(
        fresh(place_), sys.argv[2], patience_s=patience, pause_s=0.1, proof=len(sys.argv) == 3
    ):
        sys.stderr.write(f"warning: {line}\n")
