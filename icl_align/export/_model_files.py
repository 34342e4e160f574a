"""A model's files: where they are, and what its tokenizer does to every text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from icl_align.errors import UserError
from icl_align.models import bundled

Weights = Literal["reference", "link", "copy"]
TEXTS = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",
    "*.tiktoken",
)
"""Configuration and vocabulary; no code of a model is taken along."""
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
"""Weights in pickle files are left: they can run code."""


def source(named: str, weights: Weights) -> Path:
    """The folder with a model's files; those of a Hub id are fetched, weights only where wanted."""
    folder = bundled("base") if named == "bundled" else Path(named)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        wanted = [*TEXTS, "generation_config.json", *(WEIGHTS if weights != "reference" else ())]
        try:
            folder = Path(snapshot_download(named, allow_patterns=wanted))
        except Exception as error:  # the client lets errors of many kinds pass
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"cannot get the model {named}: {reason}; check the name and the network, or name a "
                "local folder"
            ) from error
    if not (folder / "config.json").is_file():
        raise UserError(f"the model folder {folder} has no config.json; name a whole model")
    if weights != "reference" and not files(folder, WEIGHTS):
        raise UserError(f"the model folder {folder} has no weights (*.safetensors)")
    return folder


def files(folder: Path, patterns: Sequence[str]) -> list[Path]:
    found = {file for pattern in patterns for file in folder.glob(pattern) if file.is_file()}
    return sorted(found)


def tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the loaders let any kind of error of a file pass
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"cannot load the tokenizer of {folder}: {reason}") from error


def special_beginning(tokenizer: Any, named: str) -> str:
    """The text of the special tokens that a tokenizer puts before a text; "" for none."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    before = whole[: len(whole) - len(bare)]
    if whole != before + bare:
        raise UserError(
            f"hf-folder: the tokenizer of {named} puts special tokens behind a text, which a chat "
            "template cannot have behind a prompt; use another model"
        )
    return str(tokenizer.decode(before))


def special_tokens(source: Path, tokenizer: Any) -> dict[str, Any]:
    """Ids of special tokens; all ends that generation configuration, model or tokenizer name."""
    stored = json_object(source / "generation_config.json")
    config = json_object(source / "config.json")
    ends: list[int] = []
    for value in (stored.get("eos_token_id"), config.get("eos_token_id"), tokenizer.eos_token_id):
        given = value if isinstance(value, list) else [] if value is None else [value]
        ends += [token for token in given if token not in ends]
    found: dict[str, Any] = {}
    for key in ("bos_token_id", "pad_token_id"):
        token = stored.get(key, config.get(key))
        if token is not None:
            found[key] = token
    if ends:
        found["eos_token_id"] = ends if len(ends) > 1 else ends[0]
        found.setdefault("pad_token_id", ends[0])
    return found


def json_object(file: Path) -> dict[str, Any]:
    """A JSON object; an empty one where there is no file."""
    if not file.is_file():
        return {}
    try:
        content = json.loads(text_of(file))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: broken JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} must hold a JSON object")
    return content


def text_of(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file}: {error}") from error


def write_json(file: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    file.write_text(f"{text}\n", encoding="utf-8", newline="\n")
