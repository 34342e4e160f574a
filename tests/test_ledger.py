"""Promises of icl_align.ledger."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from icl_align.errors import UserError
from icl_align.ledger import Ledger, response_key, score_key, shown, sqlite_url
from icl_align.types import Check, Decoding, Example, Response, Score


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The database under test; PostgreSQL where $ICL_ALIGN_POSTGRES_URL names one."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "run.db")
    server = os.environ.get("ICL_ALIGN_POSTGRES_URL")
    if not server:
        pytest.skip("no $ICL_ALIGN_POSTGRES_URL")
    return server


def test_remembers_across_openings(url: str) -> None:
    """What one process put is what the next one reads, as cached; odd characters included."""
    text = "caf\u00e9 \x00 \ud800 \U0001f600\n```"
    key = response_key("round-trip", "p", ["\n"], Decoding())
    ledger = Ledger(url)
    ledger.put_responses({key: Response(text, 7, "stop", prompt_tokens=5, reused_tokens=3)})
    ledger.put_scores({key: Score(0.25, {"a.b": 1.0}, note="why", judge="me")})
    ledger.close()
    again = Ledger(url)
    expected = Response(text, 7, "stop", prompt_tokens=5, reused_tokens=3, cached=True)
    assert again.responses([key, "unknown"]) == {key: expected}
    assert again.scores([key, "unknown"]) == {
        key: Score(0.25, {"a.b": 1.0}, note="why", judge="me")
    }
    again.close()


def test_never_remembers_a_failure(url: str) -> None:
    """An error or a missing verdict leaves no trace, so it is retried."""
    ledger = Ledger(url)
    before = ledger.counts()
    ledger.put_responses({"e1": Response("", 0, "error", error="timeout")})
    ledger.put_scores({"e2": Score(None, note="the judge did not answer")})
    assert ledger.counts() == before
    assert ledger.responses(["e1"]) == {} and ledger.scores(["e2"]) == {}
    ledger.close()


def test_first_record_stands(url: str) -> None:
    """Putting a key again, alone or among new ones, keeps the first body and raises nothing."""
    ledger = Ledger(url)
    ledger.put_responses({"s1": Response("first", 1, "stop")})
    ledger.put_responses({"s1": Response("second", 1, "stop"), "s2": Response("new", 1, "stop")})
    texts = {key: response.text for key, response in ledger.responses(["s1", "s2"]).items()}
    assert texts == {"s1": "first", "s2": "new"}
    ledger.close()


def test_reads_more_keys_than_one_query_takes(url: str) -> None:
    """Thousands of keys are put and read at once."""
    ledger = Ledger(url)
    ledger.put_responses({f"many{i}": Response(str(i), 1, "stop") for i in range(3000)})
    found = ledger.responses(f"many{i}" for i in range(3000))
    assert len(found) == 3000 and found["many2999"].text == "2999"
    ledger.close()


def test_key_holds_all_that_changes_a_text() -> None:
    """Engine, prompt, stop strings and decoding each change a response's key."""
    sampled = Decoding(temperature=0.7)
    base = response_key("e", "p", ["a"], sampled)
    others = {
        response_key("f", "p", ["a"], sampled),
        response_key("e", "q", ["a"], sampled),
        response_key("e", "p", ["a", "b"], sampled),
        response_key("e", "p", ["a"], Decoding(temperature=0.7, seed=1)),
        response_key("e", "p", ["a"], Decoding(temperature=0.7, repetition_penalty=1.1)),
    }
    assert len(others | {base}) == 6
    assert response_key("e", "p", ["a"], Decoding(temperature=0.7)) == base


def test_greedy_key_ignores_what_greedy_ignores() -> None:
    """At temperature 0 neither seed nor nucleus makes a new generation."""
    keys = {
        response_key("e", "p", [], Decoding(seed=seed, top_p=top_p))
        for seed in (0, 1, None)
        for top_p in (0.5, 1.0)
    }
    assert len(keys) == 1


def test_score_key_follows_content() -> None:
    """A score belongs to a scorer, an example with its checks, and what is seen of a response."""
    example, response = (
        Example("q", "a", checks=(Check("contains_all", ("x",)),)),
        Response("t", 3, "stop"),
    )
    keys = {
        score_key("s", example, response),
        score_key("s2", example, response),
        score_key("s", Example("q", "a"), response),
        score_key("s", example, Response("u", 3, "stop")),
        score_key("s", example, Response("t", 3, "length")),
    }
    assert len(keys) == 5
    assert score_key("s", example, Response("t", 3, "stop", cached=True, prompt_tokens=9)) in keys


def test_odd_path_works(tmp_path: Path) -> None:
    """A folder with blanks, braces, percent and question marks is an ordinary folder."""
    folder = tmp_path / "a b{c}%41?d#e"
    folder.mkdir()
    Ledger(sqlite_url(folder / "run.db")).close()
    assert (folder / "run.db").exists()


def test_refuses_unknown_version(tmp_path: Path) -> None:
    """A ledger of a later version is refused, by number, and left as it was."""
    path = tmp_path / "run.db"
    Ledger(sqlite_url(path)).close()
    with sqlite3.connect(path) as connection:
        connection.execute("update icl_align_meta set value = '99'")
    connection.close()
    with pytest.raises(UserError, match=r"reads ledger version 1, but .*run\.db has version 99"):
        Ledger(sqlite_url(path))


def test_refuses_a_file_that_is_no_database(tmp_path: Path) -> None:
    """Some other file is named, and not touched."""
    path = tmp_path / "notes.txt"
    path.write_text("just some notes, and quite a few of them\n" * 100)
    with pytest.raises(
        UserError, match=r"notes\.txt: file is not a database; it is some other file"
    ):
        Ledger(sqlite_url(path))
    assert path.read_text().startswith("just some notes")


def test_missing_folder_is_one_line(tmp_path: Path) -> None:
    """A folder that does not exist is told with the path."""
    with pytest.raises(UserError, match=r"nowhere/run\.db: unable to open database file") as caught:
        Ledger(sqlite_url(tmp_path / "nowhere" / "run.db"))
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_database_is_one_line(tmp_path: Path) -> None:
    """A file that may not be written is told, with what to do."""
    path = tmp_path / "run.db"
    Ledger(sqlite_url(path)).close()
    path.chmod(0o400)
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(UserError, match=r"run\.db: .*(readonly|unable to open)"):
            Ledger(sqlite_url(path)).put_responses({"a": Response("x", 1, "stop")})
    finally:
        tmp_path.chmod(0o700)


FILL = """
import sys
from icl_align.errors import UserError
from icl_align.ledger import Ledger
from icl_align.types import Response
ledger = Ledger(sys.argv[1])
try:
    for i in range(1000):
        ledger.put_responses({f"k{i}": Response("x" * 5000, 1, "stop")})
except UserError as error:
    print(i, error)
"""


def test_no_space_left_keeps_what_was_recorded(tmp_path: Path) -> None:
    """A file that can grow no further gives one clear line, and keeps every earlier record."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))

    url = sqlite_url(tmp_path / "run.db")
    done = subprocess.run(
        [sys.executable, "-c", FILL, url],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=True,
    )
    reached, message = done.stdout.split(" ", 1)
    assert "run.db" in message and "free" in message and "intact" in message
    ledger = Ledger(url)
    assert len(ledger.responses(f"k{i}" for i in range(1000))) >= int(reached) > 0
    ledger.close()


def test_url_mistakes_are_one_line() -> None:
    """A path, an unknown database and a server that does not answer are told apart."""
    with pytest.raises(UserError, match="must look like sqlite:"):
        Ledger("run.db")
    with pytest.raises(UserError, match="must look like sqlite:"):
        Ledger("postgres://host/name")
    assert shown("postgresql://me:secret@host/name") == "postgresql://me:***@host/name"
