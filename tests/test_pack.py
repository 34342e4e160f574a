"""Packs: written and read back without loss, and refused when anything about them is off."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_align.errors import UserError
from icl_align.pack import Pack
from icl_align.prompt import FORMATS, Prompt
from icl_align.types import Decoding, Example, Turn

PROMPT = Prompt(
    "Be kind.",
    (
        Example("What is 1 + 1?", "2, of course.\n```python\n1 + 1\n```", id="p1", tags=("sum",)),
        Example("And in German?", "Zwei \u2713", turns=(Turn("Hi", "Hello"),)),
    ),
    FORMATS["block"],
    Decoding(temperature=0.3, max_tokens=64),
)
PACK = Pack(
    PROMPT,
    {"id": "bundled", "fingerprint": "abc"},
    {
        "confirmed": True,
        "seed": 0,
        "tuned": {"mean": 0.81, "n": 240},
        "difference": {"mean": 0.1, "low": 0.05, "high": None, "level": 0.95, "n": 240},
        "examples": {"test": ["d1", "d2"]},
    },
)


def test_json_round_trip(tmp_path: Path) -> None:
    """A saved pack reads back equal, and renders the same bytes."""
    PACK.save(tmp_path / "pack.json")
    loaded = Pack.load(tmp_path / "pack.json")
    assert loaded == PACK
    assert loaded.prompt.render("Hi?") == PROMPT.render("Hi?")
    assert loaded.prompt.digest == PROMPT.digest


def test_equal_packs_give_equal_bytes(tmp_path: Path) -> None:
    """Keys are sorted and no time is written, so two equal runs give one file."""
    turned = replace(PACK, evidence=dict(reversed(list(PACK.evidence.items()))))
    PACK.save(tmp_path / "one.json")
    turned.save(tmp_path / "two.json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    assert "created" not in json.loads((tmp_path / "one.json").read_text(encoding="utf-8"))


def test_created_is_kept_when_given(tmp_path: Path) -> None:
    """A maker who wants a date gets it."""
    replace(PACK, created="2026-11-21").save(tmp_path / "pack.json")
    assert Pack.load(tmp_path / "pack.json").created == "2026-11-21"


def test_text_is_the_prompt_alone(tmp_path: Path) -> None:
    """A .txt is the URIAL text, byte for byte; what it cannot hold is empty after loading."""
    plain = Pack(replace(PROMPT, exemplars=PROMPT.exemplars[:1], decoding=Decoding()))
    plain.save(tmp_path / "pack.txt")
    assert (tmp_path / "pack.txt").read_bytes() == plain.prompt.to_text().encode("utf-8")
    loaded = Pack.load(tmp_path / "pack.txt")
    assert loaded.prompt.render("Hi?") == plain.prompt.render("Hi?")
    assert loaded.model == {}
    assert loaded.evidence == {}


@given(system=st.text(max_size=30), answer=st.text(max_size=30), temperature=st.floats(0, 2))
def test_any_prompt_round_trips(system: str, answer: str, temperature: float) -> None:
    """Whatever text a prompt holds, its pack survives JSON."""
    prompt = Prompt(system, (Example("q", answer),), FORMATS["inline"], Decoding(temperature))
    pack = Pack(prompt)
    assert Pack.from_json(json.loads(json.dumps(pack.to_json()))) == pack


def _without(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.pop(key)


def _with(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_with(version=2), "pack version 2 is unknown, this icl_align reads 1"),
        (_with(version=True), "pack version True is unknown"),
        (_without("version"), "no 'version', so this is no pack"),
        (_with(evidnce={}), "unknown key 'evidnce'; did you mean 'evidence'?"),
        (_without("model"), "the key 'model' is missing"),
        (_with(model=[]), "'model' must be an object, got list"),
        (
            _with(model={"fingerprnt": ""}),
            "model: unknown key 'fingerprnt'; did you mean 'fingerprint'?",
        ),
        (_with(evidence={"zzz": 1}), "evidence: unknown key 'zzz'; known are confirmed"),
        (_with(digest=3), "'digest' must be a string, got int"),
        (_with(digest="0" * 64), "the prompt was changed after the pack was written"),
        (lambda c: c["prompt"].update(system="Be rude."), "the prompt was changed after"),
        (
            lambda c: c["prompt"].update(sistem=""),
            "prompt has an unknown key 'sistem'; did you mean 'system'",
        ),
        (lambda c: c["prompt"]["decoding"].update(max_tokens=0), "max_tokens must be >= 1, got 0"),
        (
            lambda c: c["prompt"]["decoding"].update(repitition_penalty=1.1),
            "unknown key 'repitition_penalty'; did you mean 'repetition_penalty'",
        ),
        (_with(created="\ud800"), "half a surrogate pair"),
    ],
)
def test_a_changed_pack_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    """Anything unknown, missing, of a wrong type or edited is an error with file and field."""
    content = json.loads(json.dumps(PACK.to_json()))
    change(content)
    path = tmp_path / "pack.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        Pack.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"version": 1,\n "prompt": }', r"pack\.json:2:12: broken JSON"),
        (b'{"version": 1, "version": 1}', "the key 'version' is there twice"),
        (b'{"version": NaN}', "NaN is no JSON number"),
        (b'{"version": 1, "evidence": {"seed": -Infinity}}', "-Infinity is no JSON number"),
        (b"[1]", "a pack is a JSON object, got list"),
        (b"\xff\xfe", "byte 0 is not UTF-8"),
        (b"", "broken JSON"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    """A file that is no JSON, or no UTF-8, is told with its place."""
    path = tmp_path / "pack.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        Pack.load(path)


def test_a_huge_number_is_refused(tmp_path: Path) -> None:
    """A number that overflows to infinity does not enter as evidence."""
    path = tmp_path / "pack.json"
    text = json.dumps(PACK.to_json()).replace("0.81", "1e999")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"evidence\.tuned\.mean must be a finite number, got inf"):
        Pack.load(path)


def test_what_could_not_be_read_is_not_made() -> None:
    """A pack with NaN, objects or unknown keys is refused when it is made, not when it is read."""
    with pytest.raises(UserError, match=r"evidence\.dev\.mean must be a finite number, got nan"):
        Pack(PROMPT, {}, {"dev": {"mean": float("nan")}})
    with pytest.raises(UserError, match=r"evidence\.dev: a Path is no JSON value|PosixPath"):
        Pack(PROMPT, {}, {"dev": Path()})
    with pytest.raises(UserError, match="model: unknown key 'name'"):
        Pack(PROMPT, {"name": "x"})


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    """An unknown suffix, a missing folder: one line, and no half file."""
    with pytest.raises(
        UserError, match=r"as \.json or as \.txt \(URIAL text\), not as 'pack\.yaml'"
    ):
        PACK.save(tmp_path / "pack.yaml")
    with pytest.raises(UserError, match=r"cannot write .*No such file or directory"):
        PACK.save(tmp_path / "none" / "pack.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(UserError, match=r"cannot write .*folder\.json"):
        PACK.save(tmp_path / "folder.json")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.json"]
    with pytest.raises(UserError, match=r"cannot read .*absent\.json: No such file"):
        Pack.load(tmp_path / "absent.json")
