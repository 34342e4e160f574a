"""The Hugging Face folder: loads with transformers, answers as the engine does, whole or not there."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from icl_align.data import read_examples
from icl_align.engines.hf import HFEngine
from icl_align.errors import UserError
from icl_align.export._card import plain
from icl_align.export.chat_template import messages
from icl_align.export.hf_folder import EXPORTER
from icl_align.models import bundled
from icl_align.pack import Pack
from icl_align.prompt import FORMATS, Prompt
from icl_align.types import Decoding, Example, Turn

BASE = bundled("base")
PROMPT = Prompt.from_text(
    bundled("baseline.txt").read_text(encoding="utf-8"), decoding=Decoding(max_tokens=80)
)
PACK = Pack(PROMPT, {"id": "bundled"}, {"confirmed": True, "tuned": {"mean": 0.5, "n": 240}})
ASKED = read_examples(bundled("dev.jsonl"))[:6]


def test_the_tokenizer_writes_the_prompt(tmp_path: Path) -> None:
    """AutoTokenizer loads the folder; texts and tokens are those that the engine sends."""
    folder = tmp_path / "folder"
    files = EXPORTER.write(PACK, folder)
    assert {file.name for file in files} == {
        "README.md", "chat_template.jinja", "config.json", "generation_config.json",
        "model_reference.json", "pack.json", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    item = Example("And {{ you }}?", turns=(Turn("Hi", "Hello\n```\nx\n```"),) * 3)
    assert EXPORTER.render(folder, [item]) == [PROMPT.render(item)]
    loaded: Any = AutoTokenizer.from_pretrained(folder)
    served = loaded.apply_chat_template(messages(item), add_generation_prompt=True)["input_ids"]
    plain_ids = AutoTokenizer.from_pretrained(BASE)(PROMPT.render(item))["input_ids"]
    assert served == plain_ids
    assert plain_ids[0] == 0  # the bundled tokenizer puts a token before a text, here it is once
    assert plain_ids[1] != 0


def _as_served(folder: Path, chat: list[dict[str, str]]) -> str:
    """What `transformers serve` replies, by the same calls, to a client that names no bound."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")
    settings = copy.deepcopy(model.generation_config)
    settings.max_new_tokens = 1024  # its floor
    out = model.generate(**inputs, generation_config=settings, tokenizer=tokenizer)
    parsed = tokenizer.parse_response(out[0, inputs["input_ids"].shape[1] :], prefix="")
    return str(parsed.get("content", ""))


@pytest.mark.parametrize("form", ["block", "headings"])
@pytest.mark.parametrize("bound", [80, 7])
def test_answers_are_the_engines(tmp_path: Path, form: str, bound: int) -> None:
    """Greedy answers equal the engine's, also where the pack's bound cuts them, and in two turns."""
    decoding = Decoding(max_tokens=bound)
    prompt = replace(PROMPT, format=FORMATS[form], layouts=(), decoding=decoding)
    EXPORTER.write(replace(PACK, prompt=prompt), tmp_path / "folder", weights="link")
    engine = HFEngine(BASE)
    turns: tuple[Turn, ...] = ()
    for item in ASKED[:2]:
        asked = replace(item, turns=turns)
        text = engine.generate([prompt.render(asked)], stop=prompt.stop, decoding=decoding)[0].text
        answer = prompt.parse(text)
        assert _as_served(tmp_path / "folder", messages(asked)).rstrip() == answer
        turns = (*turns, Turn(item.query, answer))


def test_the_penalty_over_all_tokens_is_carried(tmp_path: Path) -> None:
    """`repetition_scope` "all" is what transformers does: equal answers."""
    decoding = Decoding(max_tokens=40, repetition_penalty=1.15, repetition_scope="all")
    prompt = replace(PROMPT, decoding=decoding)
    EXPORTER.write(replace(PACK, prompt=prompt), tmp_path / "folder", weights="copy")
    text = (
        HFEngine(BASE).generate([prompt.render("Hi?")], stop=prompt.stop, decoding=decoding)[0].text
    )
    assert _as_served(tmp_path / "folder", messages(Example("Hi?"))) == prompt.parse(text)


def test_what_cannot_be_carried_is_refused(tmp_path: Path) -> None:
    """A penalty over generated tokens alone, no model, a place that is taken: one line, no file."""
    scoped = replace(PROMPT, decoding=Decoding(repetition_penalty=1.1))
    with pytest.raises(UserError, match="decoding.repetition_scope 'generated' cannot be carried"):
        EXPORTER.write(replace(PACK, prompt=scoped), tmp_path / "folder")
    with pytest.raises(UserError, match="the pack's model.id is empty"):
        EXPORTER.write(Pack(PROMPT), tmp_path / "folder")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty has no config\.json"):
        EXPORTER.write(PACK, tmp_path / "folder", model=tmp_path / "empty")
    with pytest.raises(UserError, match="cannot write .*No such file"):
        EXPORTER.write(PACK, tmp_path / "none" / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").write_text("x")
    with pytest.raises(UserError, match="is there already and not an empty folder"):
        EXPORTER.write(PACK, tmp_path / "taken")
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["mine"]


def test_no_weights_no_model(tmp_path: Path) -> None:
    """A model folder without weights cannot be linked; nothing half is left."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (source / name).write_bytes((BASE / name).read_bytes())
    (source / "model.bin").write_bytes(b"pickle")
    with pytest.raises(UserError, match=r"has no weights \(\*\.safetensors\)"):
        EXPORTER.write(PACK, tmp_path / "folder", model=source, weights="link")
    EXPORTER.write(PACK, tmp_path / "folder", model=source)
    assert not (tmp_path / "folder" / "model.bin").exists()
    reference = json.loads((tmp_path / "folder" / "model_reference.json").read_text())
    assert (tmp_path / "folder" / reference["folder"]).resolve() == source


def test_a_broken_tokenizer_leaves_nothing(tmp_path: Path) -> None:
    """Killed or failed half-way: no folder, no scratch."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "config.json").write_bytes((BASE / "config.json").read_bytes())
    (source / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match="cannot load the tokenizer of .*source"):
        EXPORTER.write(PACK, tmp_path / "folder", model=source)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_it_loads_back(tmp_path: Path) -> None:
    """The pack is in the folder; a template that someone changed is told."""
    folder = tmp_path / "folder"
    EXPORTER.write(PACK, folder)
    assert EXPORTER.load(folder) == PACK
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("helpful", "harmful"))
    with pytest.raises(UserError, match="is not the template of .*pack.json"):
        EXPORTER.load(folder)


def test_the_card_is_harmless(tmp_path: Path) -> None:
    """Names in a pack bring no markup, no table cell, no front matter and no escape into the card."""
    evil = "x\n---\n# Own\x1b[31m | <script>alert(1)</script> [a](javascript:b) `c`"
    pack = Pack(PROMPT, {"id": "bundled"}, {"experiment": evil, "tuned": {evil: 1.0}})
    EXPORTER.write(pack, tmp_path / "folder")
    card = (tmp_path / "folder" / "README.md").read_text(encoding="utf-8")
    assert "<script" not in card
    assert "](javascript" not in card
    assert "\x1b" not in card
    assert card.count("\n---\n") == 1
    assert card.count("\n# ") == 1
    assert plain("y" * 10**6) == "y" * 200 + "..."


def test_sampling_is_written_for_both_engines(tmp_path: Path) -> None:
    """No hidden top-k of 50; greedy is temperature 0 for vLLM, which reads no do_sample."""
    for decoding, wanted in (
        (Decoding(), {"do_sample": False, "temperature": 0.0}),
        (Decoding(0.7, 0.9), {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "top_k": 0}),
    ):
        folder = tmp_path / str(decoding.temperature)
        EXPORTER.write(replace(PACK, prompt=replace(PROMPT, decoding=decoding)), folder)
        content = json.loads((folder / "generation_config.json").read_text())
        assert {key: content[key] for key in wanted} == wanted
        assert content["stop_strings"] == list(PROMPT.stop)
        assert content["eos_token_id"] == 0
