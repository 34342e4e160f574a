"""Promises of judge label, and of the verbs on the command line."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from icl_align.cli.judge import judge_app
from icl_align.errors import UserError
from icl_align.passport.items import read_pairs, read_ratings
from icl_align.passport.label import Desk, Labels, grade
from icl_align.passport.plain import gutter, printable

ROWS = [
    {
        "id": f"p{number}",
        "instruction": f"Question {number}",
        "response1": "a" * (number + 2),
        "response2": "b",
        "model1": "secret-model",
        "label": 1,
    }
    for number in range(6)
]


def _file(tmp_path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _desk(answers: Iterable[str], shown: list[str]) -> Desk:
    given = iter(answers)
    moments = (f"2024-01-01T00:00:{second:02}+00:00" for second in itertools.count())

    def ask(question: str) -> str:
        shown.append(question)
        return next(given)

    return Desk(shown.append, ask, lambda: next(moments))


def test_sides_are_drawn_and_grades_turned_back(tmp_path: Path) -> None:
    """A person who always takes the longer one says response1, wherever it was shown; models are hidden."""
    items, shown = read_pairs(_file(tmp_path, ROWS)), list[str]()

    def longer(question: str) -> str:
        assert question.startswith("Better")
        first, second = shown[-1].removeprefix("Response 1:\n").split("\nResponse 2:\n")
        return "1" if len(first) > len(second) else "2"

    labels = Labels(tmp_path / "labels.jsonl")
    assert grade(items, labels, Desk(shown.append, longer, lambda: "now"), 20)
    rows = [json.loads(line) for line in labels.file.read_text("utf-8").splitlines()]
    assert [row["label"] for row in rows] == [1] * 6
    assert {row["order"] for row in rows} == {"as given", "swapped"}
    assert "secret-model" not in "".join(shown)


def test_quit_and_resume(tmp_path: Path) -> None:
    """What was graded is not asked again; a skipped one is."""
    items, file = read_pairs(_file(tmp_path, ROWS)), tmp_path / "labels.jsonl"
    assert not grade(items, Labels(file), _desk(["1", "s", "t", "q"], []), 20)
    shown: list[str] = []
    assert grade(items, Labels(file), _desk(["2"] * 4, shown), 20)
    assert sum("Instruction" in one for one in shown) == 4
    assert len(Labels(file).labels) == 6
    assert grade(items, Labels(file), _desk([], []), 20)


def test_revised_criteria_are_recorded_and_mark_what_was_graded_before(tmp_path: Path) -> None:
    """The revision has its time and the items before it; later grades are made under it."""
    items, file = read_pairs(_file(tmp_path, ROWS)), tmp_path / "labels.jsonl"
    answers = ["1", "c", "Short is good.", "what?", "2", "q"]
    grade(items, Labels(file), _desk(answers, []), 20)
    labels = Labels(file)
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    revision = rows[1]
    assert (revision["kind"], revision["text"]) == ("criteria", "Short is good.")
    assert revision["graded_before"] == labels.outdated == [rows[0]["id"]]
    assert revision["time"]
    assert (labels.version, labels.labels[rows[2]["id"]].criteria) == (1, 1)
    assert len(read_pairs(file)) == 2  # a file of grades is a file of pairs


def test_another_text_under_a_known_id_is_refused(tmp_path: Path) -> None:
    """A grade belongs to the text that was seen."""
    file = tmp_path / "labels.jsonl"
    grade(read_pairs(_file(tmp_path, ROWS)), Labels(file), _desk(["1"], []), 1)
    changed = [{**row, "response1": "other"} for row in ROWS]
    with pytest.raises(UserError, match="but its text was another one"):
        grade(read_pairs(_file(tmp_path, changed)), Labels(file), _desk(["1"], []), 2)
    file.write_text('{"kind": "poem"}\n', encoding="utf-8")
    with pytest.raises(UserError, match="labels.jsonl:1: this is no line of `judge label`"):
        Labels(file)


def test_ratings_are_graded_on_their_scale(tmp_path: Path) -> None:
    """A number outside the scale is asked for again; grades can be validated on."""
    rows = [{"id": "r", "instruction": "Q", "response": "x", "scale": [1, 5]}]
    items = read_ratings(_file(tmp_path, rows), unlabelled=True)
    labels = Labels(tmp_path / "labels.jsonl")
    assert grade(items, labels, _desk(["9", "nan", "4"], []), 5)
    assert read_ratings(labels.file)[0].score == 0.75


def test_untrusted_text_cannot_steer_the_terminal_or_speak_as_the_program() -> None:
    """Escapes are visible, and every line of a response stands behind a bar."""
    assert printable("a\x1b[2J\u202eb\r\x9b\tc\n") == "a\\x1b[2J\\u202eb\\r\\x9b\tc\n"
    assert printable("\u200dé你\U0001f468\u200d\U0001f469") == "\u200dé你\U0001f468\u200d\U0001f469"
    assert all(line.startswith("  | ") for line in gutter("x\nResponse 2:\n\ny").split("\n"))


def _app() -> typer.Typer:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.add_typer(judge_app, name="judge")
    return app


def test_validate_on_the_command_line(tmp_path: Path) -> None:
    """One JSON object on stdout, with a verdict, figures beside longer, and both files."""
    path, out = _file(tmp_path, ROWS), tmp_path / "out"
    arguments = ["judge", "validate", "--judge", "shorter", "--pairs", str(path), "--out", str(out)]
    done = CliRunner().invoke(_app(), [*arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert (found["version"], found["verdict"]) == (1, "fails")
    assert found["pairs"]["longer"]["accuracy"]["mean"] == 1.0
    assert Path(found["page"]).exists()
    told = CliRunner().invoke(_app(), arguments, catch_exceptions=False).stdout
    assert told.startswith("shorter fails")
    assert "longer wins" in told


def test_label_on_the_command_line(tmp_path: Path) -> None:
    """Grades from stdin, then the judge's agreement with them; questions are not on stdout."""
    path, out = _file(tmp_path, ROWS), tmp_path / "labels.jsonl"
    script = "from icl_align.cli.judge import judge_app; judge_app()"
    arguments = ["label", str(path), "--out", str(out), "--judge", "longer", "-n", "3", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        input="1\nc\nnew\n1\n2\n",
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found = json.loads(done.stdout)
    assert "Better: 1, 2 or t" in done.stderr
    assert (found["labels"], found["criteria"], len(found["outdated"])) == (3, "new", 1)
    assert (found["current"]["n"], found["all"]["n"]) == (2, 3)


def test_the_end_of_the_input_quits(tmp_path: Path) -> None:
    """What was graded before it is kept and told."""
    path, out = _file(tmp_path, ROWS), tmp_path / "labels.jsonl"
    script = "from icl_align.cli.judge import judge_app; judge_app()"
    done = subprocess.run(
        [sys.executable, "-c", script, "label", str(path), "--out", str(out), "--json"],
        input="1\n",
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found = json.loads(done.stdout)
    assert (found["labels"], found["complete"]) == (1, False)
    assert "Aborted" not in done.stderr
