"""The doctor sees what an engine does, and what it only says it does."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from servers import CompletionServer, completion

from icl_align.config import Experiment
from icl_align.doctor import PROMPTS, Finding, engine_of, examine
from icl_align.engines.hf import HFEngine
from icl_align.engines.openai import connect
from icl_align.errors import UserError
from icl_align.models import bundled
from icl_align.types import Decoding, Response


def by_name(findings: Sequence[Finding]) -> dict[str, Finding]:
    return {found.check: found for found in findings}


def test_the_bundled_model_is_well() -> None:
    """Nothing wrong, nothing missing, and prefixes are reused."""
    found = by_name(list(examine(HFEngine(bundled("base")))))
    assert {finding.verdict for finding in found.values()} == {"ok"}
    assert "packed on cpu, float32" in found["strategy"].found
    assert "responses/s" in found["speed"].found
    assert found["seeds"].verdict == found["loglikelihood"].verdict == "ok"
    assert len(set(PROMPTS)) == 16


def test_a_server_that_ignores_settings_is_seen_through() -> None:
    """It takes n, logprobs, echo, a temperature and a seed, and does nothing with them."""
    server = CompletionServer()
    try:
        engine = connect("m", base_url=server.url, attempts=2, backoff_s=0.01)
        found = by_name(list(examine(engine)))
    finally:
        server.stop()
    assert found["n"] == Finding("n", "no", "n = 2 gives 1 choices")
    assert found["logprobs"].verdict == found["echo"].verdict == "no"
    assert found["sampling"].verdict == "wrong"
    assert found["sampling"].found == "temperature changes nothing"
    assert found["repeatable"].verdict == found["stop strings"].verdict == "ok"
    assert found["loglikelihood"].verdict == found["context"].verdict == "no"


def test_a_server_that_does_what_it_is_asked() -> None:
    """Then nothing is wrong with it."""
    server = CompletionServer()

    def reply(body: dict[str, Any]) -> Any:
        chance = random.Random(body.get("seed", 0) if body["temperature"] else 0)
        said = " ".join(chance.choices(body["prompt"].split(), k=min(6, body["max_tokens"])))
        found = completion(body, said)
        choice = found["choices"][0]
        if body.get("logprobs"):
            choice["logprobs"] = {"token_logprobs": [None, -1.0]}
        if body.get("echo"):
            choice["text"] = body["prompt"] + choice["text"]
        found["choices"] *= body.get("n", 1)
        return found

    server.reply = reply
    try:
        found = by_name(list(examine(connect("m", base_url=server.url, attempts=2))))
    finally:
        server.stop()
    assert not [finding for finding in found.values() if finding.verdict == "wrong"]
    for check in ("n", "logprobs", "echo", "seeds"):
        assert found[check].verdict == "ok", check


class Moody:
    """An engine whose greedy text is never the same."""

    name = fingerprint = "moody"

    def __init__(self) -> None:
        self.chance = random.Random(0)

    def generate(
        self, prompts: Sequence[str], *, stop: Sequence[str], decoding: Decoding
    ) -> list[Response]:
        return [Response(f"word {self.chance.random()}", 2, "stop", 9) for _ in prompts]


def test_text_that_cannot_be_repeated_is_wrong() -> None:
    """It says how many responses changed, and what to do."""
    found = by_name(list(examine(Moody())))
    assert found["repeatable"].verdict == "wrong"
    assert found["repeatable"].found.startswith("0 of 4 greedy responses")
    assert found["repeatable"].remedy
    assert found["seeds"].verdict == "wrong"


def test_what_is_given_replaces_what_the_experiment_says() -> None:
    """Engine, model and place; without a place a server cannot be made."""
    experiment = Experiment.for_model("bundled")
    assert engine_of(experiment, None, None, ()).name.startswith("hf:")
    made = engine_of(experiment, "openai", "org/m", ["http://h/v1"])
    assert made.name == "openai:org/m"
    with pytest.raises(UserError, match="missing a required argument: 'base_url'"):
        engine_of(experiment, "openai", "org/m", ())


def test_the_command(tmp_path: Path) -> None:
    """One JSON object, and exit code 1 for a server not to be relied on."""
    server = CompletionServer()
    program = str(Path(sys.executable).parent / "icl-align")
    command = [program, "doctor", "--json", "--engine", "openai"]
    place = ["--model", "m", "--base-url", server.url]
    try:
        done = subprocess.run(
            [*command, *place], capture_output=True, text=True, check=False, cwd=tmp_path
        )
    finally:
        server.stop()
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert found["engine"] == "openai:m"
    assert {"check", "verdict", "found", "remedy"} == set(found["findings"][0])


def test_each_of_several_servers_is_asked() -> None:
    """A dead one is named although the others answer, and so is one that says something else."""
    one, other, gone = CompletionServer(), CompletionServer(), CompletionServer()
    gone.stop()
    try:
        engine = connect("m", base_url=[one.url, gone.url], attempts=2, backoff_s=0.01)
        found = by_name(list(examine(engine)))
        assert (found["server"].verdict, found["servers"].found) == ("wrong", one.url)
        assert found["server"].remedy == f"start it, or leave {gone.url} out"
        other.reply = lambda body: completion(body, "something else")
        engine = connect("m", base_url=[one.url, other.url], attempts=2, backoff_s=0.01)
        found = by_name(list(examine(engine)))
        assert found["servers"].found.startswith("they do not say the same")
    finally:
        one.stop()
        other.stop()


def test_a_context_too_short_for_the_probes_is_a_finding() -> None:
    """It ends the examination, not the program."""
    server = CompletionServer()
    server.refusal = (400, "This model's maximum context length is 50 tokens")
    try:
        (found,) = examine(connect("m", base_url=server.url, attempts=2))
    finally:
        server.stop()
    assert (found.check, found.verdict) == ("context", "wrong")
    assert "maximum context length is 50" in found.found
