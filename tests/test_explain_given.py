"""Promises of the files that `explain` reads: paraphrases of a system text, instructions in other words."""

from __future__ import annotations

from pathlib import Path

import pytest

from icl_align.errors import UserError
from icl_align.explain.given import read_paraphrases, read_phrasings


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"id": "q1"}', r":1: an object with id and query is wanted, got \['id'\]"),
        ('{"id": "q7", "query": "x"}', r":1: no instruction of dev has the id 'q7'; did you mean"),
        ('{"id": "q1", "query": " "}', ":1: 'query' must be a text that is not empty"),
        ('{"id": "q1", "query": "x"}\n' * 2, ":2: the id 'q1' is given twice"),
        ("\n[", ":2: broken JSON"),
        ("[]", ":1: an object with id and query is wanted, got list"),
        ("\n", "holds no instructions"),
    ],
)
def test_broken_phrasings_are_told_with_their_line(
    tmp_path: Path, content: str, message: str
) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text(content)
    with pytest.raises(UserError, match=message):
        read_phrasings(file, ["q1", "q2"], "dev")


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.txt", "\ufeffOne.\r\nTwo.\n", {"a.txt:1": "One.", "a.txt:2": "Two."}),
        ("a.txt", "\nOne.\n", {"a.txt:2": "One."}),
        ("a.txt", "One,\n two.\n\n \nThree.", {"a.txt:1": "One,\n two.", "a.txt:5": "Three."}),
        ("a.jsonl", '{"text": "A.\\nB. "}\n\n{"text": "C"}', {"a.jsonl:1": "A.\nB.", "a.jsonl:3": "C"}),
    ],
)  # fmt: skip
def test_paraphrases_are_read_with_their_lines(
    tmp_path: Path, name: str, content: str, found: dict[str, str]
) -> None:
    (tmp_path / name).write_text(content, newline="")
    assert read_paraphrases(tmp_path / name) == found


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.jsonl",
            '{"text": "A"}\n{"txt": "B"}',
            r"a.jsonl:2: an object with text .* got \['txt'\]",
        ),
        ("a.jsonl", '{"text": 1}', "a.jsonl:1: 'text' must be a text that is not empty"),
        ("a.txt", " \n", "holds no paraphrases; add at least one"),
        ("a.csv", "A", "read from .txt or .jsonl, not '.csv'"),
    ],
)
def test_broken_paraphrases_are_told_with_their_line(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        read_paraphrases(tmp_path / name)
