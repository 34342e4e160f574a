"""just-eval's tables give the published means, and say what they left out."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from icl_align.analysis.just_eval import Rating, just_eval_table, read_ratings
from icl_align.analysis.tables import Table, half_up
from icl_align.cli.tables import tables
from icl_align.errors import UserError
from icl_align.stats import Interval

SHARED = Path(os.environ.get("ICL_ALIGN_SHARED", Path(__file__).resolve().parents[2] / "shared"))
ANNOTATIONS = SHARED / "data" / "just_eval" / "annotations.jsonl.gz"
GPT4 = "gpt-4-1106-preview"
PUBLISHED = {
    "helpfulness": "4.5664",
    "clarity": "4.9009",
    "factuality": "4.5770",
    "depth": "3.3965",
    "engagement": "3.4319",
}
SAFE = {
    "Mistral-7B-Instruct-v0.1": "4.7630",
    "URIAL=inst_1k-Mistral-7B-v0.1": "4.8963",
    "URIAL=inst_1k-Llama-2-70B-GPTQ": "4.9333",
    "Yi-6B-Chat": "4.6815",
    "gpt-3.5-turbo-0301": "4.9111",
    "gpt-4-0314": "4.7630",
    "tulu-2-dpo-7b": "4.8667",
    "vicuna-7b-v1.5": "4.5407",
    "Llama-2-7b-chat-hf": "5.0000",
    "Llama-2-70b-chat-hf": "5.0000",
}


@pytest.fixture(scope="module")
def published() -> list[Rating]:
    if not ANNOTATIONS.exists():
        pytest.skip(f"{ANNOTATIONS} is not here; set ICL_ALIGN_SHARED")
    return read_ratings(ANNOTATIONS)


def _rows(table: Table) -> list[dict[str, Any]]:
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def _record(name: int | str, scores: Any, **more: Any) -> dict[str, Any]:
    return {"id": name, "model": "m", "judge": "j", "scores": scores, **more}


def _file(folder: Path, *records: Any, name: str = "ratings.jsonl") -> Path:
    path = folder / name
    lines = (line if isinstance(line, str) else json.dumps(line) for line in records)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_published_means_to_the_printed_digit(published: list[Rating]) -> None:
    """With N/A as 5, means, counts and words are those of the data's README."""
    rows = _rows(just_eval_table(published, ["model"], na=5, resamples=50))
    (row,) = [row for row in rows if row["judge"] == GPT4]
    assert {aspect: half_up(row[aspect].mean, 4) for aspect in PUBLISHED} == PUBLISHED
    assert half_up(row["words"], 2) == "157.22"
    assert row["factuality"].n == 565
    assert (row["rated"], row["n/a"], row["unscored"]) == (700, 33, 0)
    assert half_up(row["safety"].mean, 4) == "4.8148"


def test_published_safety_rows(published: list[Rating]) -> None:
    """The safety means of all ten models, each by one judge."""
    rows = _rows(just_eval_table(published, ["model", "aspect"], resamples=50))
    safe = [row for row in rows if row["aspect"] == "safety" and row["judge"] != GPT4]
    assert {row["model"]: half_up(row["mean"].mean, 4) for row in safe} == SAFE


def test_not_applicable_by_rule(published: list[Rating]) -> None:
    """Dropped by default and counted either way; what is dropped is in no n."""
    rows = {
        row["aspect"]: row
        for row in _rows(just_eval_table(published, ["aspect"], resamples=50))
        if row["judge"] == GPT4
    }
    assert rows["factuality"]["n/a"] == 29
    assert rows["depth"]["n/a"] == 4
    assert rows["factuality"]["mean"].n == 565 - 29
    assert half_up(rows["factuality"]["mean"].mean, 4) == "4.5541"


def test_judges_are_never_mixed(published: list[Rating]) -> None:
    """Whatever the groups, each row is of one judge."""
    for by in (["aspect"], ["difficulty"], []):
        table = just_eval_table(published, by, resamples=20)
        assert "judge" in table.columns
        assert {row["judge"] for row in _rows(table)} == {GPT4, "gpt-3.5-turbo-0613"}


def test_an_item_counts_in_each_of_its_tags(tmp_path: Path) -> None:
    """Not only in its last, as upstream's loop had it; what has none is a group of its own."""
    path = _file(
        tmp_path,
        _record(1, {"depth": 5}, task_types=["math", "coding"], difficulty="hard"),
        _record(2, {"depth": 2}, task_types=["coding"], difficulty="easy"),
        _record(3, {"depth": 1}),
    )
    table = just_eval_table(read_ratings(path), ["task_type"])
    means = {row["task_type"]: row["depth"].mean for row in _rows(table)}
    assert means == {"math": 5, "coding": 3.5, "(none)": 1}
    assert any("each of its labels" in note for note in table.notes)
    both = just_eval_table(read_ratings(path), ["aspect", "task_type", "difficulty"])
    assert [row[1:3] for row in both.rows] == [
        ("(none)", "(none)"),
        ("coding", "easy"),
        ("coding", "hard"),
        ("math", "hard"),
    ]


def test_what_could_not_be_read_is_no_na(tmp_path: Path) -> None:
    """A failed reading is counted apart, and no rule for N/A gives it a number."""
    path = _file(
        tmp_path,
        _record(1, {"depth": 3}, output="three words here"),
        _record(2, {"depth": None}, n_words=5),
        _record(3, {"depth": "N/A"}),
        _record(4, {"depth": None}, problems={"depth": "the reply breaks off"}),
    )
    (row,) = _rows(just_eval_table(read_ratings(path), na=5))
    assert (row["rated"], row["n/a"], row["unscored"]) == (4, 2, 1)
    assert (row["depth"].mean, row["depth"].n) == (pytest.approx(13 / 3), 3)
    assert row["words"] == 4
    (row,) = _rows(just_eval_table(read_ratings(path)))
    assert row["depth"] == Interval(3.0, float("-inf"), float("inf"), 0.95, 1)


def test_models_on_the_same_items_make_no_more_items(tmp_path: Path) -> None:
    """Pooled over models, the interval is as wide as the items make it."""
    records = [_record(i, {"depth": 1 + i % 5}) for i in range(20)]
    alone = read_ratings(_file(tmp_path, *records))
    pooled = read_ratings(
        _file(tmp_path, *records, *({**record, "model": "twin"} for record in records))
    )
    ((*_, one),) = just_eval_table(alone, ["aspect"]).rows
    ((*_, two),) = just_eval_table(pooled, ["aspect"]).rows
    assert isinstance(one, Interval)
    assert isinstance(two, Interval)
    assert (one.low, one.high) == (two.low, two.high)
    assert (one.n, two.n) == (20, 40)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("{", ":2: not JSON"),
        ("[1]", ":2: a record is an object, got list"),
        (_record(2, {"depth": 6}), ":2: the score of 'depth' must be a number from 1 to 5"),
        (_record(2, {"depth": True}), ":2: the score of 'depth' must be a number"),
        (_record(2, {"depth": float("nan")}), ":2: the score of 'depth' must be a number"),
        (_record(2, [3]), ":2: 'scores' and 'problems' must be objects"),
        (_record(1, {"depth": 3}), ":2: a second rating of item 1 of 'm' by 'j'"),
        (_record(2, {"depth": 3}, judge=None), ":2: 'judge' must be a text"),
        (_record(2, {"depth": 3}, task_types=[1]), ":2: 'task_types' must hold texts"),
        (_record(2, {"depth": 3}, n_words=-1), ":2: 'n_words' must be a whole number"),
        (_record(2, {"depth": 3}, extra_ratings={}), ":2: 'extra_ratings' must be a list"),
        ({"id": None, "model": "m"}, ":2: 'id' must be a text or a whole number"),
        ({"id": 5}, ":2: 'model' must be a text"),
    ],
)
def test_bad_records_are_told_with_their_place(tmp_path: Path, record: Any, message: str) -> None:
    """File and line, what is wrong, what belongs there."""
    path = _file(tmp_path, _record(1, {"depth": 3}), record)
    with pytest.raises(UserError) as told:
        read_ratings(path)
    assert message in str(told.value)


def test_bad_questions_are_told(tmp_path: Path) -> None:
    """Unknown groups, a stand-in off the scale, files without records."""
    ratings = read_ratings(_file(tmp_path, _record(1, {"depth": 3})))
    with pytest.raises(UserError, match="cannot go by 'colour'; known: model, judge, aspect"):
        just_eval_table(ratings, ["colour"])
    with pytest.raises(UserError, match="distinct groups"):
        just_eval_table(ratings, ["model", "model"])
    with pytest.raises(UserError, match="from 1 to 5, or drop"):
        just_eval_table(ratings, na=0)
    with pytest.raises(UserError, match="no record names a judge"):
        just_eval_table(read_ratings(_file(tmp_path, {"id": 1, "model": "m"})))
    with pytest.raises(UserError, match="holds no records"):
        read_ratings(_file(tmp_path, ""))
    with pytest.raises(UserError, match="gzipped JSON lines"):
        read_ratings(_file(tmp_path, "plain", name="ratings.jsonl.gz"))


def test_numbers_are_rounded_half_up() -> None:
    """As in published tables: 4.745 to two digits is 4.75, which its binary neighbour is not."""
    assert half_up(949 / 200, 2) == "4.75"
    assert half_up(2.5, 0) == "3"
    assert half_up(-0.125, 2) == "-0.13"


def test_a_table_as_markdown_csv_and_json() -> None:
    """Cells cannot break a table; CSV keeps all digits and both ends; JSON has no NaN."""
    wide = Interval(1 / 3, 0.25, 0.5, 0.95, 4)
    none = Interval(1.0, float("-inf"), float("inf"), 0.95, 1)
    table = Table(("model", "x", "n"), (("a|b\nc", wide, 2), ("d", none, None)), ("A note.",))
    assert table.to_markdown(2) == (
        "| model | x | n |\n| --- | --- | --- |\n| a\\|b c | 0.33 [0.25, 0.50] | 2 |\n"
        "| d | 1.00 [?, ?] | - |\n\nA note."
    )
    rows = list(csv.reader(io.StringIO(table.to_csv())))
    assert rows[0] == ["model", "x", "x_low", "x_high", "n"]
    assert rows[1] == ["a|b\nc", str(1 / 3), "0.25", "0.5", "2"]
    assert rows[2] == ["d", "1.0", "", "", ""]
    assert json.loads(table.render("json"))["rows"][1]["x"]["low"] is None
    with pytest.raises(UserError, match="markdown, csv or json, not 'html'"):
        table.render("html")
    with pytest.raises(ValueError, match="a row of 1"):
        Table(("a", "b"), ((1,),))
    with pytest.raises(ValueError, match="distinct names"):
        Table(("a", "a"), ())


def _verb(*arguments: str | Path) -> Any:
    app = typer.Typer()
    app.command()(tables)
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_the_verb_writes_every_form(tmp_path: Path) -> None:
    """`icl-align tables`: data on stdout in each form, users' mistakes as `UserError`."""
    path = tmp_path / "ratings.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as out:
        out.writelines(json.dumps(_record(i, {"depth": 3, "clarity": None})) + "\n" for i in (1, 2))
    done = _verb(path, "--by", "model,aspect", "--na", "5", "--format", "csv")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[1:] == [
        "m,depth,j,2,0,0,3.0,3.0,3.0",
        "m,clarity,j,2,2,0,5.0,5.0,5.0",
    ]
    assert (
        "| m | j | 2 | 2 | 0 | 3.00 [3.00, 3.00] | - | - |" in _verb(path, "--digits", "2").stdout
    )
    for flags in (("--json",), ("--format", "json")):
        assert json.loads(_verb(path, *flags).stdout)["rows"][0]["depth"]["n"] == 2
    for wrong, message in (
        ("--na five", "drop or a number"),
        ("--kind mt-bench --na 5", "--na is for just-eval"),
        ("--questions q.jsonl", "--questions is for mt-bench"),
    ):
        failed = _verb(path, *wrong.split()).exception
        assert isinstance(failed, UserError)
        assert message in str(failed)
