"""Verify: equal, refused, not installed or different, each told as what it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from export_cases import CODE, PACKS, pack

import icl_align.export
from icl_align.data import read_examples
from icl_align.errors import UserError
from icl_align.export import EXPORTS
from icl_align.models import bundled
from icl_align.pack import Pack
from icl_align.prompt import Prompt
from icl_align.types import Example
from icl_align.verify import AWKWARD, difference, rescore, verify

COMMAND = [sys.executable, "-c", "from icl_align.cli import main; main()"]


@dataclass(frozen=True)
class Broken:
    """An exporter that loses something, as a careless target would."""

    name: str = "broken"
    suffix: str = "x.txt"
    lost: str = "\\"

    def write(self, pack: Pack, to: Path) -> list[Path]:
        pack.save(to.with_suffix(".json"))
        return [to.with_suffix(".json")]

    def render(self, path: Path, conversations: Sequence[Example]) -> list[str]:
        prompt = Pack.load(path.with_suffix(".json")).prompt
        return [prompt.render(item).replace(self.lost, "") for item in conversations]


@dataclass(frozen=True)
class Forgetful(Broken):
    """One that renders well and reads back another prompt."""

    lost: str = "\ue000"

    def load(self, path: Path) -> Pack:
        found = Pack.load(path.with_suffix(".json"))
        return replace(found, prompt=replace(found.prompt, system="Be rude."))


BROKEN, FORGETFUL = Broken(), Forgetful()


def test_every_plain_format_is_equal() -> None:
    """What needs no other package is equal, and says by whose code."""
    names = ("json", "python", "openai", "ollama", "llamacpp", "promptfoo")
    for found in verify(PACKS["code in block"], names):
        assert (found.status, found.equal, found.diff) == ("equal", len(AWKWARD), ""), found
        assert found.by


def test_all_formats_are_told() -> None:
    """Without names all formats come, in order; none is different."""
    found = verify(PACKS["code in block"], (), [Example("Hi {there}?")])
    assert [verdict.format for verdict in found] == list(EXPORTS)
    assert not [verdict for verdict in found if verdict.status == "different"]
    assert all(verdict.reason for verdict in found if verdict.status != "equal")


def test_refusals_are_counted_apart() -> None:
    """A target that carries some conversations is equal on those; a pack refused is refused."""
    (text,) = verify(PACKS["ugly"], ["text"])
    assert text.status == "equal" and text.equal + len(text.refused) == len(AWKWARD)
    assert all("earlier turns" in reason for reason in text.refused)
    (alone,) = verify(PACKS["ugly"], ["text"], [AWKWARD[-1]])
    assert alone.status == "refused" and "earlier turns" in alone.reason
    (urial,) = verify(PACKS["ugly"], ["urial"])
    assert urial.status == "refused" and "U+000D" in urial.reason


def test_a_difference_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A target that loses a character is different: with the byte, the query and a diff."""
    monkeypatch.setattr(
        icl_align.export,
        "EXPORTS",
        {"broken": f"{__name__}:BROKEN", "late": f"{__name__}:FORGETFUL"},
    )
    given = pack("Back\\slash.")
    (found,) = verify(given, ["broken"])
    assert found.status == "different"
    assert found.reason == "from byte 19 on, for the query 'What is the capital of Peru?'"
    assert "-'Back\\\\slash.\\n'" in found.diff and "+'Backslash.\\n'" in found.diff
    (late,) = verify(given, ["late"])
    assert late.status == "different" and "reads back as another prompt" in late.reason


def test_a_difference_is_harmless_and_exact() -> None:
    """Bytes are counted in UTF-8, line ends are visible, and nothing reaches a terminal raw."""
    at, diff = difference("é\r\n\x1b[2J same\n", "é\n\x1b[2J same\n")
    assert at == 2
    assert diff.isascii() and "\x1b" not in diff and "\\r\\n" in diff
    assert difference("abc", "ab") == (
        2,
        "--- Prompt.render\n+++ export\n@@ -1 +1 @@\n-'abc'\n+'ab'",
    )


def test_an_unknown_format_is_refused() -> None:
    """Before anything is rendered."""
    with pytest.raises(UserError, match="no export format 'jason'; did you mean 'json'"):
        verify(PACKS["empty"], ["json", "jason"])


@pytest.fixture(scope="module")
def scored() -> Pack:
    """The bundled prompt with what it scores on a few items, as a run would record it."""
    prompt = Prompt.from_text(bundled("baseline.txt").read_text(encoding="utf-8"))
    return Pack(
        replace(prompt, decoding=replace(prompt.decoding, max_tokens=48)),
        {"id": "bundled"},
        {"dev": {"mean": 0.5, "low": 0.0, "high": 1.0, "n": 6}},
    )


def test_rescore_compares_with_the_evidence(scored: Pack) -> None:
    """Inside the recorded interval agrees; a mean that was never reached does not."""
    items = read_examples(bundled("dev.jsonl"))[:6]
    found = rescore(scored, items)
    assert found["agrees"] and found["recorded_as"] == "dev" and found["missing"] == 0
    measured = found["measured"]
    assert measured["n"] == 6 and measured["low"] <= measured["mean"] <= measured["high"]
    far = Pack(scored.prompt, {**scored.model, "fingerprint": "x"}, {"dev": {"mean": 1.5, "n": 6}})
    again = rescore(far, items)
    assert not again["agrees"] and again["same_model"] is False
    assert again["measured"] == measured


@pytest.mark.parametrize(
    ("model", "evidence", "message"),
    [
        ({"id": "bundled"}, {}, "the pack's evidence holds no mean"),
        ({}, {"dev": {"mean": 0.5}}, "this pack names no model"),
        (
            {"id": "bundled"},
            {"dev": {"mean": 0.5}, "objective": {"fingerprint": "another"}},
            "scored by another objective than that of bundled",
        ),
    ],
)
def test_what_cannot_be_compared(
    model: dict[str, Any], evidence: dict[str, Any], message: str, scored: Pack
) -> None:
    """No number is told where it would not be comparable."""
    with pytest.raises(UserError, match=message):
        rescore(Pack(scored.prompt, model, evidence), read_examples(bundled("dev.jsonl"))[:4])


def icl_align_(*arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done


def test_the_verb_exports(tmp_path: Path) -> None:
    """A pack is written in a format by name, or by the suffix; what is lost is said on stderr."""
    given = pack("Be {kind}.", CODE)
    given.save(tmp_path / "p.json")
    done = icl_align_("export", tmp_path / "p.json", "--to", tmp_path / "p.txt", "--json")
    assert json.loads(done.stdout)["format"] == "urial"
    assert "without decoding and stop strings" in done.stderr
    icl_align_("export", tmp_path / "p.json", "--format", "python", "--to", tmp_path / "p.py")
    printed = subprocess.run(
        [sys.executable, "-I", str(tmp_path / "p.py"), "Was {ist} ä?"],
        capture_output=True,
        check=True,
    )
    assert printed.stdout.decode("utf-8") == given.prompt.render("Was {ist} ä?")
    for arguments, message in (
        (("--to", tmp_path / "p.yaml"), "'p.yaml' does not say which format to write"),
        (("--to", tmp_path / "p.x", "--format", "pyton"), "did you mean 'python'"),
        (("--to", tmp_path / "p.json", "--max-tokens", "3"), "is no run"),
    ):
        assert message in icl_align_("export", tmp_path / "p.json", *arguments, code=2).stderr


def test_the_verb_verifies(tmp_path: Path) -> None:
    """Exit code 0 and a line for each format; 2 for a mistake of the user's."""
    PACKS["ugly"].save(tmp_path / "p.json")
    arguments = ("verify", tmp_path / "p.json", "--format", "json", "--format", "urial")
    lines = icl_align_(*arguments).stdout.splitlines()
    assert lines[0].split()[:2] == ["json", "equal"] and lines[1].split()[:2] == [
        "urial",
        "refused",
    ]
    found = json.loads(icl_align_(*arguments, "--json").stdout)
    assert [row["status"] for row in found["formats"]] == ["equal", "refused"]
    assert "not both" in icl_align_(*arguments, "--all", code=2).stderr
    assert "give --items FILE" in icl_align_(*arguments, "--rescore", code=2).stderr


def test_the_verb_fails_on_a_difference(tmp_path: Path, scored: Pack) -> None:
    """Exit code 1 when the score is not what the pack says."""
    far = Pack(scored.prompt, scored.model, {"dev": {"mean": 1.5, "n": 6}})
    far.save(tmp_path / "p.json")
    items = bundled("dev.jsonl").read_text(encoding="utf-8").split("\n")[:4]
    (tmp_path / "items.jsonl").write_text("\n".join(items), encoding="utf-8")
    done = icl_align_(
        *("verify", tmp_path / "p.json", "--format", "json"),
        *("--items", tmp_path / "items.jsonl", "--rescore"),
        code=1,
    )
    assert "the pack says 1.5000: DIFFERS" in done.stdout
