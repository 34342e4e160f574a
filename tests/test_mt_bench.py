"""MT-Bench's two-turn scores: as FastChat computes them, and with the unscored counted."""

from __future__ import annotations

import json
import math
import os
import random
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from icl_align.analysis.mt_bench import CATEGORIES, Judgment, mt_bench_table, read_judgments
from icl_align.cli.tables import tables
from icl_align.errors import UserError
from icl_align.stats import bootstrap_mean

SHARED = Path(os.environ.get("ICL_ALIGN_SHARED", Path(__file__).resolve().parents[2] / "shared"))
MT_BENCH = SHARED / "data" / "mt_bench"


def _shared(name: str) -> list[dict[str, Any]]:
    path = MT_BENCH / name
    if not path.exists():
        pytest.skip(f"{path} is not here; set ICL_ALIGN_SHARED")
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _record(question: int, turn: int, score: Any = 7, **more: Any) -> dict[str, Any]:
    judge = ["gpt-4", "single-v1" if turn == 1 else "single-v1-multi-turn"]
    base = {"question_id": question, "model": "m", "judge": judge, "turn": turn, "score": score}
    return base | more


def _file(folder: Path, records: list[Any]) -> Path:
    path = folder / "judgments.jsonl"
    lines = (line if isinstance(line, str) else json.dumps(line) for line in records)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def _means(rows: list[Judgment], *by: str) -> list[dict[str, Any]]:
    table = mt_bench_table(rows, by or ("model",), resamples=50)
    return [
        {name: getattr(cell, "mean", cell) for name, cell in zip(table.columns, row, strict=True)}
        for row in table.rows
    ]


def test_a_whole_set_of_judgments(tmp_path: Path) -> None:
    """Turns, overall and categories are plain means; complete, the three agree with one another."""
    rng = random.Random(0)
    records = [_record(q, turn, rng.randint(1, 10)) for q in range(81, 161) for turn in (1, 2)]
    (row,) = _means(read_judgments(_file(tmp_path, records)))
    for turn in (1, 2):
        own = [record["score"] for record in records if record["turn"] == turn]
        assert row[f"turn {turn}"] == sum(own) / 80
    maths = [record["score"] for record in records if 111 <= record["question_id"] <= 120]
    assert row["math"] == sum(maths) / 20
    assert row["overall"] == pytest.approx((row["turn 1"] + row["turn 2"]) / 2)
    assert row["overall"] == pytest.approx(sum(row[name] for name in CATEGORIES) / 8)
    assert (row["judge"], row["judgments"], row["unscored"]) == ("gpt-4", 160, 0)


def test_the_published_rows_follow_the_same_rule(tmp_path: Path) -> None:
    """From the turns' sums alone, the overall mean of all 23 rows comes out as published.

    Every judgment of a turn is given the turn's mean. In two rows a judgment is missing: their overall
    mean is that of the judgments, and neither that of the turns nor that of the categories.
    """
    short = 0
    for published in _shared("urial_bench.jsonl"):
        missing = published["model"] in ("phi-2-vllm", "amber")
        short += missing
        sums = (published["Turn 1"] * 80, published["Turn 2"] * (80 - missing))
        records = []
        for turn, total in enumerate(sums, start=1):
            count = 80 if turn == 1 else 80 - missing
            records += [_record(81 + i, turn, total / count) for i in range(count)]
        records += [_record(160, 2, -1)] * missing
        (row,) = _means(read_judgments(_file(tmp_path, records)))
        assert row["overall"] == pytest.approx(published["Overall"], abs=1e-9), published["model"]
        assert row["unscored"] == missing
        turns = (row["turn 1"] + row["turn 2"]) / 2
        assert (abs(turns - published["Overall"]) < 1e-9) != missing
        categories = math.fsum(published[name] for name in CATEGORIES) / 8
        assert (abs(categories - published["Overall"]) < 1e-9) != missing
    assert short == 2


def test_the_categories_of_the_ids_are_the_questions(tmp_path: Path) -> None:
    """Without a questions' file the category follows from the id, and is the same."""
    questions = _shared("question.jsonl")
    records = [_record(question["question_id"], 1) for question in questions]
    path = _file(tmp_path, records)
    found = {one.question: one.category for one in read_judgments(path)}
    assert found == {str(one["question_id"]): one["category"] for one in questions}
    assert read_judgments(path, MT_BENCH / "question.jsonl") == read_judgments(path)


def test_unscored_is_counted_and_never_averaged(tmp_path: Path) -> None:
    """-1, null and an unreadable reply are no scores; a readable reply is."""
    records = [
        _record(81, 1, 8),
        _record(81, 2, -1),
        _record(82, 1, None),
        _record(82, 2, None, judgment="[[9]]"),
        {**_record(83, 1), "judgment": "Fine. Rating: [[6]]"},
        {**_record(83, 2), "judgment": "I cannot rate this."},
    ]
    for record in records[4:]:
        del record["score"]
    (row,) = _means(read_judgments(_file(tmp_path, records)))
    assert (row["judgments"], row["unscored"]) == (6, 4)
    assert (row["turn 1"], row["turn 2"], row["overall"]) == (7, None, 7)


def test_rows_by_turn_and_category(tmp_path: Path) -> None:
    """Each a row; unknown ids without a category are a group of their own."""
    records = [
        _record(81, 1, 2),
        _record(81, 2, 4),
        _record(7, 1, 9),
        _record(8, 1, 5, category="x"),
    ]
    rows = _means(read_judgments(_file(tmp_path, records)), "category", "turn")
    assert [(row["category"], row["turn"], row["mean"]) for row in rows] == [
        ("(none)", "1", 9),
        ("writing", "1", 2),
        ("writing", "2", 4),
        ("x", "1", 5),
    ]


def test_intervals_resample_questions(tmp_path: Path) -> None:
    """Two equal turns are one question's: no narrower than one turn."""
    scores = [1 + i % 10 for i in range(30)]
    records = [_record(81 + i, turn, score) for i, score in enumerate(scores) for turn in (1, 2)]
    table = mt_bench_table(read_judgments(_file(tmp_path, records)), seed=3, resamples=200)
    overall: Any = table.rows[0][table.columns.index("overall")]
    expected = bootstrap_mean(scores, resamples=200, seed=3)
    assert (overall.low, overall.high, overall.n) == (expected.low, expected.high, 60)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (_record(82, 3), ":2: 'turn' must be 1 or 2, got 3"),
        (_record(82, 1, 11), ":2: a score must be from 1 to 10"),
        (_record(82, 1, "7"), ":2: a score must be from 1 to 10"),
        (_record(82, 1, score=True), ":2: a score must be from 1 to 10"),
        (_record(81, 1), ":2: a second judgment of turn 1 of question 81 of 'm' by 'gpt-4'"),
        (_record(82, 1, judge=[]), ":2: 'judge' must be a text"),
        (
            {"question_id": 82, "model": "m", "judge": "j", "turn": 1},
            ":2: 'judgment' must be a text",
        ),
        ({"turn": 1}, ":2: 'question_id' must be a text or a whole number"),
    ],
)
def test_bad_judgments_are_told_with_their_place(tmp_path: Path, record: Any, message: str) -> None:
    """File and line, what is wrong, what belongs there."""
    with pytest.raises(UserError) as told:
        read_judgments(_file(tmp_path, [_record(81, 1), record]))
    assert message in str(told.value)


def test_bad_questions_are_told() -> None:
    """Unknown groups and nothing to tabulate."""
    with pytest.raises(UserError, match="an MT-Bench table cannot go by 'aspect'"):
        mt_bench_table([], ["aspect"])
    with pytest.raises(UserError, match="no judgments"):
        mt_bench_table([])


def test_the_verb(tmp_path: Path) -> None:
    """`icl-align tables --kind mt-bench`, by turn."""
    path = _file(tmp_path, [_record(81, 1, 4), _record(81, 2, 6), _record(82, 1, 5)])
    app = typer.Typer()
    app.command()(tables)
    done = CliRunner().invoke(app, [str(path), "--kind", "mt-bench", "--by", "turn", "--json"])
    assert done.exit_code == 0
    rows = json.loads(done.stdout)["rows"]
    assert [(row["turn"], row["judge"], row["mean"]["mean"]) for row in rows] == [
        ("1", "gpt-4", 4.5),
        ("2", "gpt-4", 6.0),
    ]
