"""Every verb of the command line, as a user runs it: real processes on the bundled model."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from icl_align.models import bundled
from icl_align.pack import Pack
from icl_align.search.study import TrialRecord, read_trials

SMALL = """
version = 1
name = "small"
seed = 3
[model]
id = "bundled"
[data]
dev = "bundled"
confirm = "bundled"
test = "bundled"
sizes = { dev = 16, confirm = 6, test = 12 }
[space]
systems = "bundled"
pool = "bundled"
k = [0, 3]
formats = ["block", "colon"]
max_tokens = 64
[objective.checklist]
weight = 1.0
[search]
trials = 8
[confirm]
finalists = 2
baselines = { hand-written = "bundled", zero-shot = "zero-shot" }
"""
COMMAND = [sys.executable, "-c", "from icl_align.cli import main; main()"]
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}


def icl_align(*arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done


def refused(*arguments: str | Path) -> str:
    """Runs a command that must be refused in one line, and gives the line."""
    done = icl_align(*arguments, code=2)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert done.stdout == ""
    return lines[0]


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("experiment") / "small.toml"
    file.write_text(SMALL, encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def run(experiment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished and confirmed run."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    found = json.loads(icl_align("run", experiment, "--out", folder, "--json").stdout)
    assert (found["trials"], found["budget"]["trials"], found["interrupted"]) == (8, 8, False)
    assert found["spent"]["generations"] == found["generations"]["paid"] > 0
    icl_align("confirm", folder)
    return folder


def test_confirm_prints_the_proof(run: Path) -> None:
    """One object with the documented keys; a second time nothing is paid."""
    found = json.loads(icl_align("confirm", run, "--json").stdout)
    assert {"baseline", "tuned", "difference", "pack", "generations", "seconds"} <= set(found)
    assert (found["baseline"]["name"], found["baseline"]["n"], found["tuned"]["n"]) == (
        "hand-written",
        12,
        12,
    )
    difference = found["difference"]
    assert difference["low"] <= difference["mean"] <= difference["high"]
    assert difference["level"] == 0.95
    assert abs(difference["mean"] - (found["tuned"]["mean"] - found["baseline"]["mean"])) < 1e-9
    again = json.loads(icl_align("confirm", run, "--json").stdout)
    assert again["generations"]["paid"] == found["generations"]["paid"]
    assert Pack.load(found["pack"]).evidence["tuned"]["mean"] == found["tuned"]["mean"]


def test_confirm_against_another_prompt(run: Path, tmp_path: Path) -> None:
    """Packs and URIAL texts join the comparison under their file's name."""
    rival, folder = tmp_path / "rival.txt", tmp_path / "run"
    shutil.copytree(run, folder)
    shutil.copy(run / "pack.txt", rival)
    found = json.loads(icl_align("confirm", folder, "--against", rival, "--json").stdout)
    (other,) = (o for o in found["others"] if o["name"] == "rival")
    assert other["n"] == 12


def test_confirm_against_random_search(run: Path, tmp_path: Path) -> None:
    """A random search at as many generations joins the comparison, in the run's own database."""
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    found = json.loads(icl_align("confirm", folder, "--random-search", "--json").stdout)
    (other,) = (o for o in found["others"] if o["name"] == "random search")
    assert other["n"] == 12
    drawn = read_trials(f"sqlite:///{folder / 'run.db'}", "random-search")
    assert 0 < sum(t.measured for t in drawn) <= sum(t.measured for t in study_trials(folder))
    assert study(folder) == study(run)


def test_an_earlier_run_hands_on_its_best(experiment: Path, run: Path, tmp_path: Path) -> None:
    """The first trials of a run are the best prompts of the one that is named."""
    best = json.loads(icl_align("top", run, "-n", "2", "--json").stdout)["top"]
    folder = tmp_path / "next"
    arguments = ("run", experiment, "--out", folder, "--seed", "5", "--trials", "4")
    icl_align(*arguments, "--earlier", run)
    prompts = [t.evaluation.prompt for t in study_trials(folder) if t.evaluation]
    tried = [(p.system, [e.id for e in p.exemplars], p.format.name) for p in prompts]
    for row in best:
        assert (row["system"], row["exemplars"], row["format"]) in tried


def test_top_lists_the_best_first(run: Path) -> None:
    """The ranking is by the sampler's estimate, distinct prompts only; the front is part of it."""
    rows = json.loads(icl_align("top", run, "-n", "3", "--json").stdout)["top"]
    estimates = [row["estimate"] for row in rows]
    assert estimates == sorted(estimates, reverse=True)
    assert len({row["digest"] for row in rows}) == len(rows) == 3
    assert "dev mean" in icl_align("top", run).stdout
    front = json.loads(icl_align("top", run, "--pareto", "--json").stdout)["top"]
    assert [row["length"] for row in front] == sorted(
        (row["length"] for row in front), reverse=True
    )
    assert [row["estimate"] for row in front] == sorted(
        (row["estimate"] for row in front), reverse=True
    )


def test_a_pack_for_a_token_budget(run: Path, tmp_path: Path) -> None:
    """The best prompt of a length is exported; a length that nothing has is refused."""
    front = json.loads(icl_align("top", run, "--pareto", "--json").stdout)["top"]
    short = front[-1]
    arguments = ("export", run, "--to", tmp_path / "p.json", "--max-tokens")
    found = json.loads(icl_align(*arguments, str(short["length"]), "--json").stdout)
    assert found["digest"] == short["digest"]
    assert "no measured prompt has at most 0 tokens" in refused(*arguments, "0")


def test_a_dry_run_costs_nothing(experiment: Path, run: Path, tmp_path: Path) -> None:
    """It says what is to come, and makes no run; for a run that is done, only the proof is left."""
    found = json.loads(
        icl_align("run", experiment, "--out", tmp_path / "no", "--dry-run", "--json").stdout
    )
    assert not (tmp_path / "no").exists()
    assert found["total"]["generations"] == 8 * 16 + 2 * 6 + 3 * 12
    assert found["sweep"]["generated_tokens"] == 8 * 16 * 64
    assert found["sweep"]["seconds"] is None
    arguments = ("run", experiment, "--out", run, "--dry-run")
    again = json.loads(icl_align(*arguments, "--generations", "64", "--json").stdout)
    assert again["sweep"]["generations"] < 64
    assert again["confirm"]["seconds"] > 0
    assert "generations" in icl_align(*arguments).stdout


def test_export_and_show_are_byte_exact(run: Path, tmp_path: Path) -> None:
    """What `show` prints is what is sent, byte for byte, from JSON and from text."""
    icl_align("export", run, "--to", tmp_path / "p.json")
    icl_align("export", run, "--to", tmp_path / "p.txt")
    prompt = Pack.load(tmp_path / "p.json").prompt
    shown = subprocess.run(
        [*COMMAND, "show", str(tmp_path / "p.json"), "--query", "Was ist ä?"],
        capture_output=True,
        check=True,
    )
    assert shown.stdout == prompt.render("Was ist ä?").encode("utf-8")
    assert (tmp_path / "p.txt").read_bytes() == prompt.to_text().encode("utf-8")
    as_json = json.loads(icl_align("show", tmp_path / "p.json", "--json").stdout)
    assert as_json["digest"] == prompt.digest


def test_answer(run: Path, tmp_path: Path) -> None:
    """One query gives the answer; a file gives one JSON line each."""
    found = icl_align(
        "answer", run / "pack.json", "--query", "What is the capital of France?"
    ).stdout
    assert "Paris" in found
    queries = tmp_path / "q.jsonl"
    queries.write_text('{"id": "a", "query": "What is the capital of Italy?"}\n', encoding="utf-8")
    (line,) = icl_align("answer", run / "pack.json", "--input", queries).stdout.splitlines()
    row = json.loads(line)
    assert row["id"] == "a"
    assert "Rome" in row["answer"]
    assert "takes one of --query" in refused("answer", run / "pack.json")


def test_lint(tmp_path: Path) -> None:
    """A good file is silent with exit code 0; an error has exit code 1 and its line."""
    assert icl_align("lint", bundled("baseline.txt"), "--items", bundled("dev.jsonl")).stdout == ""
    bad = tmp_path / "bad.txt"
    bad.write_text("# Query:\n```\na\n```\n", encoding="utf-8")
    assert f"{bad}:1: error: exemplars without answers" in icl_align("lint", bad, code=1).stdout
    found = json.loads(icl_align("lint", bad, "--json", code=1).stdout)
    assert found["findings"][0]["severity"] == "error"


def test_the_same_seed_gives_the_same_pack(experiment: Path, run: Path, tmp_path: Path) -> None:
    """A second run with one seed writes the same pack, byte for byte; another seed another study."""
    icl_align("run", experiment, "--out", tmp_path / "b")
    icl_align("confirm", tmp_path / "b")
    assert (tmp_path / "b" / "pack.json").read_bytes() == (run / "pack.json").read_bytes()
    icl_align("run", experiment, "--out", tmp_path / "c", "--seed", "4")
    assert study(tmp_path / "c") != study(run)


def study_trials(folder: Path) -> tuple[TrialRecord, ...]:
    return read_trials(f"sqlite:///{folder / 'run.db'}")


def study(folder: Path) -> list[Any]:
    return [(t.number, t.state, t.params, t.evaluation) for t in study_trials(folder)]


def responses(folder: Path) -> int:
    with sqlite3.connect(folder / "run.db") as connection:
        return int(connection.execute("select count(*) from icl_align_responses").fetchone()[0])


def test_killed_three_times_it_ends_the_same(experiment: Path, run: Path, tmp_path: Path) -> None:
    """SIGKILL at random moments, then continued: the same study, the same responses paid for."""
    folder, rng = tmp_path / "killed", random.Random(0)
    for _ in range(3):
        process = subprocess.Popen(
            [*COMMAND, "run", str(experiment), "--out", str(folder)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while (
            not (folder / "run.db").exists()
            and process.poll() is None
            and time.monotonic() < deadline
        ):
            time.sleep(0.02)
        time.sleep(rng.uniform(0.0, 1.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
    icl_align("run", experiment, "--out", folder)
    icl_align("confirm", folder)
    assert study(folder) == study(run)
    assert responses(folder) == responses(run)
    assert (folder / "pack.json").read_bytes() == (run / "pack.json").read_bytes()


def test_a_run_goes_on_with_more_trials_only(experiment: Path, run: Path, tmp_path: Path) -> None:
    """More trials continue a run; another seed in the same folder is refused, and the run is intact."""
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    before = (folder / "run.db").read_bytes()
    line = refused("run", experiment, "--out", folder, "--seed", "9")
    assert "seed = 3, now 9" in line
    assert (folder / "run.db").read_bytes() == before
    found = json.loads(
        icl_align("run", experiment, "--out", folder, "--trials", "9", "--json").stdout
    )
    assert found["trials"] == 9
    assert study(folder)[:8] == study(run)


MISTAKES = {
    "broken TOML": ("name = \n", r"small.toml:1:\d+: broken TOML"),
    "unknown key": (
        SMALL.replace("formats =", "formts ="),
        "unknown key 'formts'; did you mean 'formats'",
    ),
    "K above the pool": (
        SMALL.replace("k = [0, 3]", "k = [0, 300]"),
        "K may be up to 300 but the pool holds",
    ),
    "no such model": (SMALL.replace('id = "bundled"', 'id = "./nowhere"'), "there is no folder"),
    "no such file": (
        SMALL.replace('pool = "bundled"', 'pool = "none.jsonl"'),
        "there is no file .*none.jsonl",
    ),
    "empty pool": (
        SMALL.replace('pool = "bundled"', 'pool = "empty.jsonl"'),
        "empty.jsonl holds no examples",
    ),
    "broken pool": (
        SMALL.replace('pool = "bundled"', 'pool = "broken.jsonl"'),
        "broken.jsonl:2: broken JSON",
    ),
    "wrong encoding": (
        SMALL.replace('pool = "bundled"', 'pool = "latin.jsonl"'),
        "latin.jsonl: byte 11 is not UTF-8",
    ),
    "no weights": (SMALL.replace('id = "bundled"', 'id = "bare"'), "bare has no weights"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path: Path, mistake: str) -> None:
    """Each kind of bad file gives one clear line, and nothing is left half-made in a run."""
    text, message = MISTAKES[mistake]
    (tmp_path / "small.toml").write_text(text, encoding="utf-8")
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "broken.jsonl").write_text(
        '{"query": "a", "answer": "b"}\n{"query"\n', encoding="utf-8"
    )
    (tmp_path / "latin.jsonl").write_bytes(b'{"query": "\xe4", "answer": "b"}\n')
    shutil.copytree(
        bundled("base"), tmp_path / "bare", ignore=shutil.ignore_patterns("*.safetensors")
    )
    line = refused("run", tmp_path / "small.toml", "--out", tmp_path / "out")
    assert line.startswith("icl-align: ")
    assert re.search(message, line), line


def test_an_output_folder_that_cannot_be_written(experiment: Path, tmp_path: Path) -> None:
    """An output that is a file, or lies below one, is refused in one line."""
    (tmp_path / "file").write_text("x", encoding="utf-8")
    assert "is a file" in refused("run", experiment, "--out", tmp_path / "file")
    assert "cannot write the run folder" in refused(
        "run", experiment, "--out", tmp_path / "file" / "below"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="the super-user may write everywhere")
def test_a_read_only_output_folder(experiment: Path, tmp_path: Path) -> None:
    """A folder without the right to write is refused in one line."""
    tmp_path.chmod(0o500)
    try:
        assert "Permission denied" in refused("run", experiment, "--out", tmp_path / "run")
    finally:
        tmp_path.chmod(0o700)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    """Verbs that need a run say what they were given, and how to make one."""
    for verb in ("top", "confirm"):
        assert "is not a run" in refused(verb, tmp_path)


def test_a_damaged_pack(run: Path, tmp_path: Path) -> None:
    """A pack whose prompt was edited by hand is refused: its evidence is about another prompt."""
    content = json.loads((run / "pack.json").read_text(encoding="utf-8"))
    content["prompt"]["system"] += " Edited."
    (tmp_path / "p.json").write_text(json.dumps(content), encoding="utf-8")
    assert "the prompt was changed after the pack was written" in refused(
        "show", tmp_path / "p.json"
    )


@pytest.mark.parametrize(
    "verb", ["quickstart", "run", "top", "confirm", "compare", "export", "show", "answer", "lint"]
)
def test_help_has_an_example(verb: str) -> None:
    """`--help` of each verb shows how it is used, and loads nothing heavy."""
    assert f"Example: icl-align {verb}" in " ".join(icl_align(verb, "--help").stdout.split())


def test_an_interrupted_quickstart_proves_nothing(tmp_path: Path) -> None:
    """Ctrl-C ends it with what there is; no pack is written by a search that was cut short."""
    folder = tmp_path / "run"
    process = subprocess.Popen(
        [*COMMAND, "quickstart", "--out", folder],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    assert process.stderr is not None
    assert process.stderr.readline().startswith("  0%")
    process.send_signal(signal.SIGINT)
    told, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "stopping when the batch in flight is done" in said
    assert "interrupted; run the same command again to continue" in said
    assert "best so far" in told
    assert not (folder / "pack.json").exists()
