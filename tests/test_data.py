"""Examples come from files with clear errors, and splits are disjoint and stable."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_align.data import (
    example_from_json,
    example_to_json,
    normalise,
    read_examples,
    read_hf_dataset,
    split_examples,
    write_examples,
)
from icl_align.errors import UserError
from icl_align.types import Check, Example, Turn

FULL = Example(
    "Q?", "A.", "e1", ("t",), (Turn("a", "b"),), (Check("contains_all", ("x",), 0.5, "fact"),)
)

examples = st.builds(
    Example,
    query=st.text(min_size=1).filter(lambda text: bool(text.strip())),
    answer=st.one_of(st.none(), st.text()),
    id=st.text(max_size=5),
    tags=st.lists(st.text(max_size=5), max_size=2).map(tuple),
)


@given(examples)
def test_examples_survive_json(example: Example) -> None:
    """An example comes back from JSON unchanged."""
    stored = json.loads(json.dumps(example_to_json(example)))
    assert example_from_json(stored) == example


def test_a_file_survives_writing(tmp_path: Path) -> None:
    """JSONL keeps everything, line separators inside texts too."""
    odd = Example("line\u2028separator\r\n", "a\nb")
    write_examples(tmp_path / "e.jsonl", [FULL, odd])
    assert read_examples(tmp_path / "e.jsonl") == [FULL, odd]


@pytest.mark.parametrize("column", ["query", "instruction", "prompt", "question"])
def test_csv_with_the_usual_names(tmp_path: Path, column: str) -> None:
    """CSV columns may have any of the usual names; quoted fields keep their line breaks."""
    (tmp_path / "e.csv").write_text(
        f'{column},output,tags\n"One,\ntwo?",Yes,a;b\n', encoding="utf-8"
    )
    assert read_examples(tmp_path / "e.csv") == [Example("One,\ntwo?", "Yes", tags=("a", "b"))]


def test_a_urial_text_gives_its_exemplars(tmp_path: Path) -> None:
    """A prompt file serves as a pool."""
    (tmp_path / "p.txt").write_text("User:\nHi\n\nAssistant:\nHo\n", encoding="utf-8")
    assert read_examples(tmp_path / "p.txt") == [Example("Hi", "Ho")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("e.jsonl", b'{"query": "a"}\n{"query": }\n', r"e\.jsonl:2: broken JSON at column 11"),
        ("e.jsonl", b'{"query": "\xff"}\n', r"e\.jsonl: byte 11 is not UTF-8"),
        ("e.jsonl", b"\n", r"e\.jsonl holds no examples"),
        (
            "e.jsonl",
            b'{"quary": "a"}\n',
            r"e\.jsonl:1: unknown field 'quary'; did you mean 'query'",
        ),
        ("e.jsonl", b'{"answer": "a"}\n', r"e\.jsonl:1: no query; .*the fields are answer"),
        ("e.jsonl", b'{"query": " "}\n', r"e\.jsonl:1: 'query' must be a text that is not empty"),
        ("e.jsonl", b"[1]\n", r"e\.jsonl:1: an example must be a JSON object, got list"),
        ("e.jsonl", b'{"query": "a", "prompt": "b"}\n', "a second field for the query"),
        (
            "e.jsonl",
            b'{"query": "a", "id": "x"}\n{"query": "b", "id": "x"}\n',
            r"e\.jsonl:2: the id 'x' is that of line 1",
        ),
        (
            "e.jsonl",
            b'{"query": "a", "checks": [{"kind": "x", "weight": 0}]}\n',
            "'weight' must be a number > 0",
        ),
        ("e.csv", b"query,answer\na\n", r"e\.csv:2: this row has another number of columns"),
        ("e.csv", b'query\n"a\n', r"e\.csv:\d: broken CSV"),
        ("e.xlsx", b"", "read from .jsonl, .csv or .txt, not '.xlsx'"),
    ],
)
def test_a_bad_file_is_named_with_its_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    """Each kind of bad file gives one line that says where and what."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_examples(tmp_path / name)


@pytest.mark.parametrize("name", ["e.jsonl", "e.csv"])
def test_a_byte_order_mark_is_no_content(tmp_path: Path, name: str) -> None:
    """Files from spreadsheet programs read like any other."""
    text = {"e.jsonl": '{"query": "a"}\n', "e.csv": "query\na\n"}[name]
    (tmp_path / name).write_text(text, encoding="utf-8-sig")
    assert read_examples(tmp_path / name) == [Example("a")]


def test_an_empty_csv_cell_is_no_answer(tmp_path: Path) -> None:
    """CSV has no null; the line of an error counts the line breaks inside cells."""
    (tmp_path / "e.csv").write_text('id,query,answer\n1,"a\nb",\n\n2,c,d\n', encoding="utf-8")
    assert [e.answer for e in read_examples(tmp_path / "e.csv")] == [None, "d"]
    (tmp_path / "e.csv").write_text('query\n"a\nb"\n" "\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"e\.csv:4: 'query' must be a text"):
        read_examples(tmp_path / "e.csv")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A path that does not exist is told as such."""
    with pytest.raises(UserError, match=r"cannot read .*none\.jsonl: No such file"):
        read_examples(tmp_path / "none.jsonl")


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_hugging_face_files(tmp_path: Path, suffix: str) -> None:
    """Local files load through `datasets` with named columns."""
    table = datasets.Dataset.from_dict({"ask": ["a?", "b?", "c?"], "say": ["A", "B", "C"]})
    file = str(tmp_path / f"d{suffix}")
    {".jsonl": table.to_json, ".csv": table.to_csv, ".parquet": table.to_parquet}[suffix](file)
    found = read_hf_dataset(file, query_column="ask", answer_column="say", limit=2)
    assert found == [Example("a?", "A", "0"), Example("b?", "B", "1")]


def test_a_saved_hugging_face_folder(tmp_path: Path) -> None:
    """A folder written by `save_to_disk` loads; a missing column or split is named."""
    table = datasets.Dataset.from_dict({"ask": ["a?"]})
    datasets.DatasetDict({"train": table}).save_to_disk(str(tmp_path / "d"))
    assert read_hf_dataset(str(tmp_path / "d"), query_column="ask") == [Example("a?", None, "0")]
    with pytest.raises(UserError, match="has no column 'query'; it has ask"):
        read_hf_dataset(str(tmp_path / "d"))
    with pytest.raises(UserError, match="cannot load the data set .*split 'test'"):
        read_hf_dataset(str(tmp_path / "d"), split="test", query_column="ask")


def test_normalise_folds_case_punctuation_and_space() -> None:
    """Texts that differ in nothing that matters are one text."""
    assert normalise("  What's  UP?") == normalise("what s up")
    assert normalise("?!") == "?!"


@pytest.mark.parametrize(
    ("one", "other"), [("3+4?", "3-4?"), ("C", "C#"), ("की", "का"), ("-5", "5")]
)
def test_normalise_keeps_what_carries_meaning(one: str, other: str) -> None:
    """Operators, signs and vowel marks tell texts apart."""
    assert normalise(one) != normalise(other)


@given(st.text())
def test_normalise_is_idempotent(text: str) -> None:
    """A normalised text is its own normal form."""
    assert normalise(normalise(text)) == normalise(text)


@given(
    st.sets(st.text("abcdefgh", min_size=1, max_size=6), min_size=12, max_size=30),
    st.integers(0, 5),
)
def test_splits_are_disjoint_and_do_not_depend_on_order(texts: set[str], seed: int) -> None:
    """No text stands in two splits, and the order of the file does not matter."""
    items = [Example(text) for text in sorted(texts)]
    sizes = {"dev": 5, "confirm": 4, "test": 3}
    found = split_examples(items, sizes, seed)
    assert {name: len(part) for name, part in found.items()} == sizes
    keys = [normalise(e.query) for part in found.values() for e in part]
    assert len(set(keys)) == len(keys)
    assert split_examples(items[::-1], sizes, seed) == found


def test_duplicates_stay_on_one_side() -> None:
    """A text that differs in case only is not in two splits, and counts once."""
    items = [Example("Hi"), Example("hi!"), Example("Ho")]
    with pytest.raises(UserError, match="need 3 distinct examples, got 2"):
        split_examples(items, {"a": 2, "b": 1}, 0)


def test_seeds_differ() -> None:
    """Another seed gives another split; 0 is a seed like any other."""
    items = [Example(str(n)) for n in range(50)]
    splits = [tuple(split_examples(items, {"dev": 10}, seed)["dev"]) for seed in (0, 1, 0)]
    assert splits[0] == splits[2] != splits[1]


@given(
    st.sets(st.text("abcdefgh", min_size=1, max_size=6), min_size=20, max_size=40),
    st.text("xyz", min_size=1, max_size=5),
)
def test_one_more_example_moves_few(texts: set[str], more: str) -> None:
    """Adding an example displaces at most one of each split."""
    items, sizes = [Example(text) for text in sorted(texts)], {"dev": 8, "confirm": 8}
    before, after = (
        split_examples(items, sizes, 0),
        split_examples([*items, Example(more)], sizes, 0),
    )
    for name in sizes:
        assert len(set(before[name]) - set(after[name])) <= 1


def test_a_split_must_have_a_size() -> None:
    """A size below 1 is refused."""
    with pytest.raises(UserError, match="split 'dev' must have at least 1 example, got 0"):
        split_examples([Example("a")], {"dev": 0}, 0)


def test_a_slice_of_a_local_file(tmp_path: Path) -> None:
    """The split of a local file may be a slice, as for a Hub data set."""
    (tmp_path / "d.csv").write_text("ask\na?\nb?\n", encoding="utf-8")
    found = read_hf_dataset(str(tmp_path / "d.csv"), split="train[1:]", query_column="ask")
    assert found == [Example("b?", None, "0")]


def test_a_folder_of_data_files(tmp_path: Path) -> None:
    """A folder with data files loads as a data set, as does a JSON array."""
    (tmp_path / "train.csv").write_text("ask\na?\n", encoding="utf-8")
    assert read_hf_dataset(str(tmp_path), query_column="ask") == [Example("a?", None, "0")]
    (tmp_path / "d.json").write_text('[{"ask": "b?"}]', encoding="utf-8")
    found = read_hf_dataset(str(tmp_path / "d.json"), query_column="ask")
    assert found == [Example("b?", None, "0")]


def test_an_empty_query_in_a_data_set_is_named(tmp_path: Path) -> None:
    """A row without a query is told by its number."""
    (tmp_path / "d.jsonl").write_text('{"ask": "a"}\n{"ask": " "}\n', encoding="utf-8")
    with pytest.raises(UserError, match="row 1: 'ask' must be a text that is not empty"):
        read_hf_dataset(str(tmp_path / "d.jsonl"), query_column="ask")


def test_writing_replaces_a_file_as_a_whole(tmp_path: Path) -> None:
    """Half a surrogate pair is written in escapes, and a failure leaves the old file alone."""
    place = tmp_path / "dev.jsonl"
    write_examples(place, [Example("a\ud800b", "é")])
    assert read_examples(place) == [Example("a\ud800b", "é")]
    with pytest.raises(AttributeError):
        write_examples(place, [Example("fine"), None])  # type: ignore[list-item]
    assert len(read_examples(place)) == 1
    assert list(tmp_path.iterdir()) == [place]
