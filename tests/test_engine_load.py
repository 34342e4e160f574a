"""What is wrong with a model is told in one line; what is right with it has a fingerprint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertLMHeadModel, LlamaModel

from icl_align.engines._load import weights_digest
from icl_align.engines.hf import HFEngine
from icl_align.errors import UserError
from icl_align.types import Decoding


def test_fingerprints_follow_the_weights(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """A copy has the same fingerprint; other weights, vocabulary or dtype have another one."""
    copy = tmp_path / "copy"
    shutil.copytree(checkpoints["llama"], copy)
    original = HFEngine(checkpoints["llama"]).fingerprint
    assert HFEngine(copy).fingerprint == original
    assert HFEngine(copy, dtype="bfloat16").fingerprint != original
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    changed = HFEngine(copy).fingerprint
    assert changed != original
    (copy / "merges.txt").write_text("a b")
    assert HFEngine(copy).fingerprint not in (changed, original)


def edit_config(**changes: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return edit


def drop(pattern: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        for file in folder.glob(pattern):
            file.unlink()

    return remove


def write(name: str, text: str) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        (folder / name).write_text(text)

    return put


def take_head_off(folder: Path) -> None:
    LlamaModel.from_pretrained(folder).save_pretrained(folder)


def make_encoder(folder: Path) -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = BertConfig(vocab_size=384, intermediate_size=64, initializer_range=0.3, **sizes)
    BertLMHeadModel(config).save_pretrained(folder)


def pickle_weights(folder: Path) -> None:
    weights = LlamaModel.from_pretrained(folder).state_dict()
    drop("*.safetensors")(folder)
    torch.save(weights, folder / "pytorch_model.bin")


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "no weights": (drop("*.safetensors"), "has no weights"),
    "pickled weights": (pickle_weights, "has no weights"),
    "no tokenizer": (drop("token*"), "cannot load the tokenizer"),
    "no configuration": (drop("config.json"), "cannot load the configuration"),
    "weights cut": (write("model.safetensors", "not safetensors"), "cannot load the weights"),
    "broken tokenizer": (write("tokenizer.json", "{"), "cannot load the tokenizer"),
    "broken configuration": (write("config.json", "{"), "cannot load the configuration"),
    "a list for a configuration": (write("config.json", "[]"), "cannot load the configuration"),
    "unknown kind": (edit_config(model_type="nope"), "cannot load the configuration"),
    "word for a number": (edit_config(hidden_size="x"), "cannot load the configuration"),
    "encoder-decoder": (
        edit_config(model_type="t5", architectures=None),
        "cannot load the weights",
    ),
    "too many layers": (edit_config(num_hidden_layers=3), "9 tensors .* are missing"),
    "another width": (edit_config(intermediate_size=96), "6 tensors .* have another shape"),
    "no head": (take_head_off, "1 tensors .* are missing .* lm_head.weight"),
    "an encoder": (make_encoder, "lets a token see those after it: it is an encoder"),
    "small vocabulary": (edit_config(vocab_size=70), "gives token .* but the model knows 70"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_model_folder(checkpoints: dict[str, Path], tmp_path: Path, fault: str) -> None:
    """Whatever is wrong with a folder is told in one line that names it, never with random weights."""
    change, reason = BROKEN[fault]
    folder = tmp_path / "model"
    shutil.copytree(checkpoints["llama"], folder)
    change(folder)
    with pytest.raises(UserError, match=reason) as caught:
        HFEngine(folder).generate(["The sea"], stop=(), decoding=Decoding(max_tokens=1))
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["nowhere", "a file"])
def test_a_place_that_is_no_folder(tmp_path: Path, place: str) -> None:
    """A path is not looked up on the Hub."""
    (tmp_path / "a file").touch()
    with pytest.raises(UserError, match=f"there is no model folder .*{place}; name a folder"):
        HFEngine(tmp_path / place).generate(["a"], stop=(), decoding=Decoding(max_tokens=1))


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there(device: str) -> None:
    """It is told before anything is read."""
    with pytest.raises(UserError, match=f"cannot use the device '{device}': "):
        _ = HFEngine("x", device=device)._device


def test_a_hub_model_is_told_apart_by_its_commit() -> None:
    """Without one, answers of two revisions could not be told apart."""
    assert weights_digest("some/model", "c0ffee") == "some/model@c0ffee"
    with pytest.raises(UserError, match="some/model came without a commit hash"):
        weights_digest("some/model", None)
