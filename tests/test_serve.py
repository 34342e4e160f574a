"""A real server with a pack inside, and a real `openai` client that talks to it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from icl_align.data import read_examples
from icl_align.errors import UserError
from icl_align.export import NotInstalledError
from icl_align.export.chat_template import messages
from icl_align.models import bundled
from icl_align.pack import Pack
from icl_align.prompt import FORMATS, Prompt
from icl_align.serve import Served, client_stop, pick_engine, serving
from icl_align.types import Decoding, Example, Turn
from icl_align.use import answers

PROMPT = Prompt.from_text(
    bundled("baseline.txt").read_text(encoding="utf-8"), decoding=Decoding(max_tokens=60)
)
PACK = Pack(PROMPT, {"id": "bundled"})
ASKED = read_examples(bundled("dev.jsonl"))[:8]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The pack, served on a CPU."""
    log = tmp_path_factory.mktemp("log") / "engine.log"
    with (
        log.open("wb") as out,
        serving(PACK, engine="transformers", device="cpu", name="My pack!", log=out) as server,
    ):
        yield server


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[openai.OpenAI]:
    """A client that sends nothing but messages."""
    with openai.OpenAI(base_url=served.url, api_key="none", max_retries=0) as made:
        yield made


def _said(client: openai.OpenAI, item: Example) -> str:
    chat = messages(item)
    reply = client.chat.completions.create(model="My-pack", messages=chat)  # type: ignore[arg-type]
    return reply.choices[0].message.content or ""


def test_answers_are_those_of_icl_align_in_two_turns(client: openai.OpenAI) -> None:
    """Greedy, token for token: first turns, and second turns behind the client's own first ones."""
    own = answers(PACK, ASKED, None)
    said = [_said(client, item) for item in ASKED]
    assert said == [row["answer"] for row in own]
    second = [
        Example("Are you sure?", turns=(Turn(item.query, text),))
        for item, text in zip(ASKED, said, strict=True)
    ]
    assert [_said(client, item) for item in second] == [
        row["answer"] for row in answers(PACK, second, None)
    ]


def test_stop_strings_are_honoured(client: openai.OpenAI) -> None:
    """The client names none, yet the reply ends before the next turn and has no closing fence."""
    reply = client.chat.completions.create(model="My-pack", messages=messages(ASKED[0]))  # type: ignore[arg-type]
    text = reply.choices[0].message.content or ""
    assert "# Query" not in text
    assert not text.endswith("```")
    assert reply.usage is not None
    assert reply.usage.completion_tokens == answers(PACK, ASKED[:1], None)[0]["tokens"]
    assert reply.usage.prompt_tokens > 200  # the pack is in


def test_a_stream_is_the_same_text(client: openai.OpenAI) -> None:
    """Streamed pieces, several of them, join to the answer; no piece of the fence slips out."""
    chat = messages(ASKED[1])
    chunks: Any = client.chat.completions.create(model="My-pack", messages=chat, stream=True)  # type: ignore[arg-type]
    pieces = [chunk.choices[0].delta.content for chunk in chunks]
    texts = [piece for piece in pieces if piece]
    assert len(texts) > 5
    assert "".join(texts) == answers(PACK, ASKED[1:2], None)[0]["answer"]


def test_the_model_has_the_name_it_was_given(client: openai.OpenAI) -> None:
    """Another name is refused, and so are roles out of order."""
    with pytest.raises(openai.BadRequestError, match="pinned to 'My-pack'"):
        client.chat.completions.create(model="other", messages=messages(Example("Hi")))  # type: ignore[arg-type]
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(
            model="My-pack", messages=[{"role": "assistant", "content": "x"}]
        )


def _verb(*arguments: str, scratch: Path) -> subprocess.Popen[str]:
    code = "from icl_align.cli.serving import serve; import typer; typer.run(serve)"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(scratch)},
    )


def test_the_verb_ends_with_its_engine(tmp_path: Path) -> None:
    """A signal ends both, with code 0, and leaves neither process nor folder."""
    PACK.save(tmp_path / "pack.json")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    verb = _verb(
        str(tmp_path / "pack.json"), "--port", "0", "--device", "cpu", "--json", scratch=scratch
    )
    assert verb.stdout is not None
    lines = iter(verb.stdout.readline, "}\n")
    told = json.loads("".join(lines) + "}")
    assert told["url"].startswith("http://127.0.0.1:")
    assert (told["model"], told["stop"], told["max_tokens"]) == ("pack", [], 60)
    os.kill(told["pid"], 0)
    verb.send_signal(signal.SIGTERM)
    verb.communicate(timeout=60)
    assert verb.returncode == 0
    with pytest.raises(ProcessLookupError):
        os.kill(told["pid"], 0)
    assert not list(scratch.glob("icl-align-serve-*"))


def test_an_engine_that_fails_is_told(tmp_path: Path) -> None:
    """It ends, and so do we; its log says why."""
    log = tmp_path / "log"
    with (
        log.open("wb") as out,
        pytest.raises(UserError, match=r"the engine ended with code \d+ before it served"),
        serving(PACK, engine="transformers", device="nowhere", wait_s=120, log=out),
    ):
        pass
    assert "nowhere" in log.read_text()


def test_a_port_that_is_taken_is_told() -> None:
    """Before anything is started."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(UserError, match=f"port {port}: Address already in use; choose another"),
            serving(PACK, engine="transformers", port=port),
        ):
            pass


def test_engines_that_are_not_there() -> None:
    """An unknown engine, and one that is not installed, are told with the remedy."""
    with pytest.raises(UserError, match="engine must be one of transformers, vllm, got 'vlm'"):
        pick_engine("vlm")
    assert pick_engine(None) == "transformers"
    import importlib.util

    if importlib.util.find_spec("vllm") is None:
        with pytest.raises(
            NotInstalledError, match=r"vllm is not installed; pip install .*\[vllm\]"
        ):
            pick_engine("vllm")


def test_what_clients_of_vllm_send() -> None:
    """The closing fence belongs to the first stop string, so the reply is the answer alone."""
    assert client_stop(PROMPT, "transformers") == ()
    assert client_stop(PROMPT, "vllm") == ("\n```\n\n# Query:\n```", "\n\n# Query:\n```")
    bare = Prompt("", (), FORMATS["headings"])
    assert client_stop(bare, "vllm") == bare.stop
