"""The terminal chat: turns are kept as URIAL keeps them, commands work, escapes do not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from icl_align.chat import Chat, Reply, shown, start, talk
from icl_align.data import read_examples
from icl_align.engines.hf import HFEngine
from icl_align.engines.scripted import ScriptedEngine
from icl_align.errors import UserError
from icl_align.history import HistoryBudget
from icl_align.models import bundled
from icl_align.pack import Pack
from icl_align.prompt import Prompt
from icl_align.types import Decoding, Example, Turn
from icl_align.use import answers

PROMPT = Prompt.from_text(
    bundled("baseline.txt").read_text(encoding="utf-8"), decoding=Decoding(max_tokens=60)
)
ASKED = [item.query for item in read_examples(bundled("dev.jsonl"))[:3]]


def _scripted() -> tuple[Chat, list[str]]:
    sent: list[str] = []

    def reply(prompt: str) -> str:
        sent.append(prompt)
        return f"answer {len(sent)}\n```\n\n"

    return Chat(PROMPT, ScriptedEngine(reply)), sent


def _talk(chat: Chat, *lines: str) -> tuple[list[Reply], list[str]]:
    said: list[Reply] = []
    noted: list[str] = []
    talk(chat, lines, said.append, noted.append)
    return said, noted


def test_earlier_turns_are_sent_again() -> None:
    """The second text is the prompt with the first turn as a further exemplar."""
    chat, sent = _scripted()
    said, noted = _talk(chat, "one\n", "\n", "two\r\n", "three")
    assert [reply.answer for reply in said] == ["answer 1", "answer 2", "answer 3"]
    turns = (Turn("one", "answer 1"), Turn("two", "answer 2"))
    assert sent[2] == PROMPT.render(Example("three", turns=turns))
    assert noted == []


def test_commands() -> None:
    """/undo and /reset change what is sent, /quit ends; a path is a query, a slash word is not."""
    chat, sent = _scripted()
    said, noted = _talk(
        chat,
        "/undo",
        "one",
        "/undo",
        "two",
        "/reset",
        "/etc/passwd?",
        "/nope",
        "/help",
        "/quit",
        "x",
    )
    assert [reply.query for reply in said] == ["one", "two", "/etc/passwd?"]
    assert sent[1:] == [PROMPT.render("two"), PROMPT.render("/etc/passwd?")]
    assert noted[:3] == [
        "there is no turn to take back",
        "the last turn is taken back",
        "the conversation starts anew",
    ]
    assert noted[3].startswith("there is no command /nope; /undo")
    assert chat.turns == (Turn("/etc/passwd?", "answer 3"),)


def test_a_long_conversation_loses_its_oldest_turns() -> None:
    """On the bundled model's 768 tokens; what is left out is noted, and nothing overflows."""
    chat = Chat(PROMPT, HFEngine(bundled("base")))
    said, noted = _talk(chat, *(ASKED * 4))
    assert len(said) == 12
    assert said[-1].dropped_turns > 0
    assert said[-1].dropped_exemplars == 0
    assert (
        noted[-1] == f"the context is full: {said[-1].dropped_turns} of the oldest turns left out"
    )


def test_a_query_that_does_not_fit_is_noted() -> None:
    """The conversation goes on as if it had not been asked."""
    chat = Chat(PROMPT, HFEngine(bundled("base")), HistoryBudget())
    said, noted = _talk(chat, "word " * 2000, ASKED[0])
    assert len(said) == len(noted) == 1
    assert "but only 708 fit; shorten the query" in noted[0]
    assert chat.turns[0].query == ASKED[0]


def test_two_turns_are_those_of_answer() -> None:
    """What `icl-align answer` gives for the same turns."""
    pack = Pack(PROMPT, {"id": "bundled"})
    chat = start(pack, None)
    first = chat.ask(ASKED[0])
    item = Example(ASKED[1], turns=(Turn(ASKED[0], first.answer),))
    assert chat.ask(ASKED[1]).answer == answers(pack, [item], None)[0]["answer"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("plain\n\ttext \u00e9 \u4f60 \U0001f600", "plain\n\ttext \u00e9 \u4f60 \U0001f600"),
        ("\x1b[2J\x1b]0;title\x07", "\\u001b[2J\\u001b]0;title\\u0007"),
        ("a\rb\x08\x7f\x9b31m\x00", "a\\u000db\\u0008\\u007f\\u009b31m\\u0000"),
        ("\u202eevil\u2066\u200f", "\\u202eevil\\u2066\\u200f"),
    ],
)
def test_control_characters_are_shown(text: str, wanted: str) -> None:
    """A model cannot clear a terminal, rename it, or turn text round."""
    assert shown(text) == wanted


def test_a_pack_without_a_model_is_told() -> None:
    """One line with the remedy."""
    with pytest.raises(UserError, match="this pack names no model; give one with --model"):
        start(Pack(PROMPT), None)


def _piped(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    Pack(PROMPT, {"id": "bundled"}).save(tmp_path / "pack.json")
    code = "from icl_align.cli.serving import chat; import typer; typer.run(chat)"
    return subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "pack.json"), *arguments],
        input=f"{ASKED[0]}\n/undo\n{ASKED[1]}\n/quit\nnever\n",
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )


def test_through_a_pipe(tmp_path: Path) -> None:
    """The verb answers lines of a pipe: answers on stdout, remarks on stderr, JSON lines on demand."""
    rows = answers(Pack(PROMPT, {"id": "bundled"}), [Example(text) for text in ASKED[:2]], None)
    done = _piped(tmp_path)
    assert done.stdout == "".join(f"{row['answer']}\n" for row in rows)
    assert done.stderr.strip() == "the last turn is taken back"
    said = [json.loads(line) for line in _piped(tmp_path, "--json").stdout.splitlines()]
    assert [(row["query"], row["answer"]) for row in said] == [
        (row["query"], row["answer"]) for row in rows
    ]
