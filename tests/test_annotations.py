"""Promises of icl_align.annotations and of the verb `lc`."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from icl_align.annotations import (
    length_table,
    read_annotations,
    read_difficulty,
    read_regularisation,
)
from icl_align.annotations.records import read_records
from icl_align.errors import UserError

SHARED = Path(os.environ.get("ICL_ALIGN_SHARED", Path(__file__).resolve().parents[2] / "shared"))
FOLDER = SHARED / "data" / "alpaca_eval_lc"
needs_shared = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"no published annotations at {FOLDER}"
)
HEADER = "model,instr,len_1,len_2,preference\n"


def _annotations(n: int = 6, **changes: Any) -> list[dict[str, Any]]:
    """AlpacaEval's records: the model's answer is longer and wins where the number is even."""
    return [
        {
            "instruction": f"Question {i}?",
            "output_1": "é" * (10 + i),
            "generator_1": "base",
            "output_2": "x" * (10 + 2 * i),
            "generator_2": "mine",
            "dataset": "d",
            "preference": 1.9 if i % 2 == 0 else 1.2,
            **changes,
        }
        for i in range(n)
    ]


def _write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def _json(folder: Path, records: object, name: str = "annotations.json") -> Path:
    return _write(folder, name, json.dumps(records, indent=1))


def test_reads_alpacaeval_annotations(tmp_path: Path) -> None:
    """Preferences lose their 1, lengths are code points, the baseline is known, null is missing."""
    records = _annotations()
    records[3]["preference"] = None
    records[4]["preference"] = 0  # upstream's other way to write a draw
    found = read_annotations(_json(tmp_path, records))
    assert (found.coding, dict(found.baselines)) == ("1-2", {"mine": "base"})
    rows = found.groups["mine"]
    given = [row.preference for row in rows]
    assert given == pytest.approx([0.9, 0.2, 0.9, None, 0.5, 0.2])
    assert [row.length_baseline for row in rows] == [10, 11, 12, 13, 14, 15]
    assert [row.length_model for row in rows] == [10, 12, 14, 16, 18, 20]


@pytest.mark.parametrize(
    "name", ["a.csv", "a.csv.gz", "a.jsonl", "a.jsonl.gz", "a.json", "a.json.gz"]
)
def test_every_kind_of_file_says_the_same(tmp_path: Path, name: str) -> None:
    """CSV, JSON and JSON lines, gzipped or not, with texts of several lines, give the same rows."""
    records = [
        {
            "model": "m",
            "instr": str(i),
            "output_1": 'a "b",\nc',
            "output_2": "d\n\n",
            "preference": y,
        }
        for i, y in enumerate(["0.25", "", "1"])
    ]
    kind = name.split(".")[1]
    lines = ['m,{instr},"a ""b"",\nc","d\n\n",{preference}'.format(**record) for record in records]
    text = {
        "csv": "\ufeffmodel,instr,output_1,output_2,preference\n" + "\n".join(lines) + "\n",
        "json": json.dumps(records),
        "jsonl": "\n\n".join(json.dumps(record) for record in records),
    }[kind].encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    rows = read_annotations(path).groups["m"]
    assert [row.preference for row in rows] == [0.25, None, 1.0]
    assert [(row.length_baseline, row.length_model) for row in rows] == [(8, 3)] * 3


def test_places_are_lines(tmp_path: Path) -> None:
    """Each record knows the line that it begins on, in every kind of file."""
    texts = {
        "a.csv": 'a,b\n1,"x\ny"\n2,z\n',
        "a.json": '[\n {"a": 1,\n  "b": 2},\n\n {"a": 3}]',
        "a.jsonl": '{"a": 1}\n\n{"a": 3}\n',
    }
    places = {
        name: [
            record.place.rpartition(":")[2] for record in read_records(_write(tmp_path, name, text))
        ]
        for name, text in texts.items()
    }
    assert places == {"a.csv": ["2", "4"], "a.json": ["2", "5"], "a.jsonl": ["1", "3"]}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", HEADER, "holds no records"),
        ("a.csv", HEADER + "m,0,1,2\n", r"a.csv:2: 4 fields, but the header has 5"),
        ("a.csv", "model,model\n", "a.csv:1: two columns have one name"),
        ("a.csv", HEADER + 'm,0,1,2,"0.5\n', r"a.csv:2: not CSV"),
        ("a.csv", HEADER + "m,0,1,2,good\n", r"a.csv:2: 'preference' must be a number or missing, got 'g"),
        ("a.csv", HEADER + "m,0,1,2,inf\n", r"must be a number or missing, got 'inf'"),
        ("a.csv", HEADER + "m,0,1,-2,0.5\n", r"a.csv:2: 'len_2' must be a number of characters"),
        ("a.csv", HEADER + "m,0,1,,0.5\n", r"rows whose answer is missing must be left out"),
        ("a.csv", "model,instr,len_1,preference\nm,0,1,0.5\n", "a.csv:2: no length or text of answer 2"),
        ("a.csv", "model,instr,len_1,len_2\nm,0,1,5\n", "a.csv:2: no preference; .*'len_2'"),
        ("a.csv", HEADER + "m,0,1,2,0.5\nm,0,1,2,0.5\n", r"a.csv:3: 'm' has the instruction '0' twice, .*:2"),
        ("a.csv", HEADER + "m,0,1,2,0.5\nm,1,1,2,1.5\n", r"a.csv:2: .* coding 1-2 .*, got 0.5"),
        ("a.csv", HEADER + "m,0,1,2,1.5\nm,1,1,2,2.5\n", r"a.csv:3: .* from 1 to 2, or 0 .*, got 2.5"),
        ("a.csv", HEADER + "m,0,1,2,0.5\nm,1,1,2,-1\n", r"a.csv:3: .* from 0 to 1, got -1"),
        ("a.csv", HEADER + "m,0,1,2,0\nm,1,1,2,1\n", r"a.csv:2: all preferences are 0, 1 or missing"),
        ("a.csv", HEADER + "m,0,1,2,\n", "all preferences are 0, 1 or missing"),
        ("a.csv", HEADER.replace("instr", "row") + "m,x,1,2,0.5\n", "'row' must be a number"),
        ("a.csv", HEADER.replace("instr", "row") + "m,-1,1,2,0.5\n", "'row' must be 0, 1, 2"),
        ("a.json", "{}", "must be a JSON list of objects"),
        ("a.json", '[{"a": 1},\n {"b" 2}]', r"a.json:2: not JSON: Expecting ':'"),
        ("a.json", '[{"a": 1}', "',' or ']' expected"),
        ("a.json", "[\n 7]", "a.json:2: each record must be a JSON object, got int"),
        ("a.json", "[{}] x", "something follows the end"),
        ("a.json", '[{"a": ' + "9" * 5000 + "}]", "a number too long"),
        ("a.jsonl", '{"a": 1}\n{"a": \n', r"a.jsonl:2: not JSON"),
        ("a.jsonl", '{"a": ' + "[" * 200_000, r"a.jsonl:1: not JSON"),
        ("a.csv.gz", "plain", "is not a whole gzip file"),
        ("a.tsv", "x", "must end in .csv, .json or .jsonl"),
    ],
)  # fmt: skip
def test_bad_files_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    """Each mistake is one line with the file, mostly the line, and what to do."""
    path = _write(tmp_path, name, text)
    with pytest.raises(UserError, match=message):
        read_annotations(path)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """A missing file, and bytes that are no UTF-8 with their line."""
    with pytest.raises(UserError, match=r"cannot read .*no\.csv: No such file"):
        read_annotations(tmp_path / "no.csv")
    (tmp_path / "a.csv").write_bytes(HEADER.encode() + b"m,\xff\n")
    with pytest.raises(UserError, match=r"a\.csv:2: byte .* is not UTF-8"):
        read_annotations(tmp_path / "a.csv")


def test_a_coding_may_be_said(tmp_path: Path) -> None:
    """Hard verdicts fit both codings: 1 is a win in one, a loss in the other, 0 a draw."""
    path = _write(tmp_path, "a.csv", HEADER + "m,0,1,2,0\nm,1,1,2,1\n")
    wins, upstream = (
        [row.preference for row in read_annotations(path, coding=coding).groups["m"]]
        for coding in ("0-1", "1-2")
    )
    assert (wins, upstream) == ([0.0, 1.0], [0.5, 0.0])


def test_two_baselines_are_refused_and_other_columns_group(tmp_path: Path) -> None:
    """A win rate is against one baseline; rows may be grouped by any column."""
    records = _annotations()
    records[4]["generator_1"] = "other"
    with pytest.raises(
        UserError, match=r"json:\d+: 'mine' is compared with 'other' here and with 'base'"
    ):
        read_annotations(_json(tmp_path, records))
    records[4]["dataset"] = "e"
    found = read_annotations(_json(tmp_path, records), by="dataset")
    assert {name: len(rows) for name, rows in found.groups.items()} == {"d": 5, "e": 1}
    with pytest.raises(UserError, match="no column 'nothing' to group by"):
        read_annotations(_json(tmp_path, records), by="nothing")


def test_difficulties_are_aligned_by_instruction(tmp_path: Path) -> None:
    """The order of the difficulty file does not matter by id, and does by row."""
    records = [record for i, record in enumerate(_annotations(40)) if i != 3]
    annotations = read_annotations(_json(tmp_path, records))
    table = [{"instruction": f"Question {i}?", "difficulty": (i * 7 % 11) / 5} for i in range(40)]
    straight = read_difficulty(_json(tmp_path, table, "one.json"))
    turned = read_difficulty(_json(tmp_path, table[::-1], "two.json"))
    by_id = [
        length_table(annotations, given, resamples=0).results["mine"]
        for given in (straight, turned)
    ]
    assert by_id[0] == by_id[1]
    by_row = [
        length_table(annotations, given, alignment="row", resamples=0).results["mine"]
        for given in (straight, turned)
    ]
    assert by_row[0] != by_row[1]
    assert by_row[0] != by_id[0]  # a dropped row shifts all that come after it


@pytest.mark.parametrize(
    ("table", "alignment", "message"),
    [
        ([{"instruction": "Question 0?", "difficulty": 1}], "id", "'Question 1\\?' has no difficulty in"),
        ([{"instruction": "Question 0?", "difficulty": 1}], "row", "is row 1, but .* has only 1"),
        ([{"instr": 0, "difficulty": 1}], "id", "no column says which instruction it is"),
        ([{"instr": 0, "difficulty": None}], "id", "json:.*the difficulty is missing"),
        ([{"instr": 0}], "id", "no difficulty; it is read from 'difficulty'"),
        ([{"instr": 0, "difficulty": 1}, {"instr": 0.0, "difficulty": 2}], "id", "another difficulty above"),
    ],
)  # fmt: skip
def test_difficulties_that_do_not_fit_are_named(
    tmp_path: Path, table: list[dict[str, Any]], alignment: Any, message: str
) -> None:
    """An instruction set of one's own never gets others' difficulties in silence."""
    annotations = read_annotations(_json(tmp_path, _annotations()))
    path = _json(tmp_path, table, "difficulty.json")
    with pytest.raises(UserError, match=message):
        length_table(annotations, read_difficulty(path), alignment=alignment, resamples=0)


def test_a_model_without_preferences_is_named(tmp_path: Path) -> None:
    """Models are fitted alone, but one without any verdict has no rate."""
    text = HEADER + "m,0,1,2,0.5\nm,1,1,2,\nother,0,1,2,\n"
    with pytest.raises(UserError, match=r"a\.csv: 'other': .*at least one preference"):
        length_table(read_annotations(_write(tmp_path, "a.csv", text)), resamples=0)


def test_regularising_rows_take_either_coding(tmp_path: Path) -> None:
    """A column `y` is P(win) by its name; `preference` is told apart by its values."""
    plain = HEADER.replace("preference", "y") + "v,0,1,2,1\nc,0,3,2,0\n"
    coded = HEADER + "v,0,1,2,2\nc,0,3,2,1\n"
    one, two = (
        read_regularisation(_write(tmp_path, "g.csv", text), weight=0.3) for text in (plain, coded)
    )
    assert one.preference == two.preference == [1.0, 0.0]
    assert (one.group, one.length_model, one.length_baseline, one.weight) == (
        ["v", "c"], [2.0, 2.0], [1.0, 3.0], 0.3,
    )  # fmt: skip


def _lc(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs the verb in a process of its own, as the command line will."""
    program = (
        "from icl_align import cli; from icl_align.cli.length import lc; "
        "'lc' in [c.callback.__name__ for c in cli.app.registered_commands] or "
        "cli.app.command()(lc); cli.main()"
    )
    return subprocess.run(
        [sys.executable, "-c", program, "lc", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_verb_prints_a_table_or_json(tmp_path: Path) -> None:
    """Data on stdout, warnings on stderr; JSON holds the same and never NaN."""
    path = _json(tmp_path, _annotations(30))
    table = _lc(path, "--resamples", 20)
    assert table.returncode == 0, table.stderr
    head, row = table.stdout.splitlines()
    assert head.split()[0] == "model"
    assert row.split()[:2] == ["mine", "30"]
    assert "mine: only 30 instructions" in table.stderr
    found = json.loads(_lc(path, "--resamples", 20, "--json").stdout)
    (model,) = found["models"]
    assert (model["model"], model["baseline"], model["n"]) == ("mine", "base", 30)
    assert f"{model['lc_win_rate']:.2f}" in row
    assert found["coding"] == "1-2"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--penalty", "0"], "--penalty must be a number above 0, cv or none, got '0'"),
        (["--coding", "2-1"], "--coding must be auto, 0-1 or 1-2"),
        (["--difficulty-by", "name"], "--difficulty-by must be id or row"),
        (["--level", "1"], "--level must be above 0 and below 1"),
        (["--regularisation-weight", "nan"], "--regularisation-weight must be above 0"),
        (["--difficulty", "nowhere.csv"], "cannot read nowhere.csv"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    tmp_path: Path, options: list[str], message: str
) -> None:
    """No traceback for a user's mistake."""
    done = _lc(_json(tmp_path, _annotations()), *options)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert message in done.stderr


@needs_shared
def test_the_verb_meets_published_rates() -> None:
    """All 35 entries from the shared files as they are, with one penalty: within 0.2 points."""
    done = _lc(
        FOLDER / "annotations.csv.gz",
        "--difficulty", FOLDER / "instructions.jsonl",
        "--regularisation", FOLDER / "gamed_baseline_surrogate.csv.gz",
        "--difficulty-by", "row", "--penalty", "2.782559", "--resamples", 0, "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = {model["model"]: model for model in json.loads(done.stdout)["models"]}
    board = {r.values["model"]: r.values for r in read_records(FOLDER / "leaderboard.csv")}
    assert found.keys() == board.keys()
    for name, model in found.items():
        assert abs(model["lc_win_rate"] - float(board[name]["length_controlled_winrate"])) < 0.2
        assert abs(model["win_rate"] - float(board[name]["win_rate"])) < 1e-6


@needs_shared
def test_alignment_by_instruction_moves_models_with_gaps_only() -> None:
    """Two models have dropped rows; for them published numbers use others' difficulties."""
    annotations = read_annotations(FOLDER / "annotations.csv.gz")
    hard = read_difficulty(FOLDER / "instructions.jsonl")
    tables = [
        length_table(annotations, hard, alignment=alignment, resamples=0).results
        for alignment in ("id", "row")
    ]
    moved = {name for name in tables[0] if tables[0][name] != tables[1][name]}
    assert moved == {"minotaur-13b", "text_davinci_001"}
