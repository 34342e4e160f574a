"""Models, tokenizers and digests from a folder or the Hub; what is wrong with them, in one line."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging as hf_logging

from icl_align.engines._memory import out_of_memory
from icl_align.errors import UserError

_WEIGHTS = "*.safetensors"
"""Weights in pickle files (*.bin) are not read: they can run code."""

_TEXTS = ("*.json", "*.model", "*.txt")
"""Files beside the weights that change what a model says: configuration and vocabulary."""

_AHEAD = 0.01
"""Share of the largest logit by which a later token must move it to count as seen."""


def load_config(model: str) -> Any:
    """A model's configuration.

    Raises:
        UserError: nothing there, or nothing that can be read.
    """
    return _loaded(AutoConfig, model, "configuration")


def load_tokenizer(model: str) -> Any:
    """A model's tokenizer.

    Raises:
        UserError: nothing there, or nothing that can be read.
    """
    return _loaded(AutoTokenizer, model, "tokenizer")


def load_model(model: str, device: torch.device, dtype: torch.dtype | None) -> Any:
    """A causal language model in evaluation mode; dtype None is the checkpoint's own.

    What the checkpoint says about sampling is dropped: only the request's `Decoding` counts.

    Raises:
        UserError: no weights, weights that do not fit the configuration, a model that is no causal
            language model, or one that memory does not hold.
    """
    folder = Path(model)
    if folder.is_dir() and not _files(folder, _WEIGHTS):
        raise UserError(
            f"the model folder {folder} has no weights ({_WEIGHTS}); "
            "copy or convert them there, or name another model"
        )
    settings = {
        "dtype": dtype or "auto",
        "use_safetensors": True,
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,  # told below, with the others
    }
    loaded, info = _loaded(AutoModelForCausalLM, model, "weights", **settings)
    wrong = sorted({*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])})
    if wrong:
        raise UserError(
            f"{len(wrong)} tensors that the configuration of {model} asks for are missing from its "
            f"weights or have another shape, {wrong[0]} for one; it may be no causal language "
            "model, or its files do not belong together"
        )
    try:
        loaded = loaded.to(device).eval()
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise UserError(
            f"the memory of {device} does not hold {model}; use a smaller model, dtype bfloat16, "
            "or another device"
        ) from error
    if _sees_ahead(loaded):
        raise UserError(
            f"{model} ({type(loaded).__name__}) lets a token see those after it: it is an encoder, "
            "not a causal language model; name another model"
        )
    stored = loaded.generation_config
    loaded.generation_config = GenerationConfig(
        bos_token_id=stored.bos_token_id,
        eos_token_id=stored.eos_token_id,
        pad_token_id=stored.pad_token_id if stored.pad_token_id is not None else 0,
    )
    return loaded


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """All end-of-sequence tokens that generation configuration, model or tokenizer name."""
    named = (
        model.generation_config.eos_token_id,
        getattr(model.config.get_text_config(decoder=True), "eos_token_id", None),
        tokenizer.eos_token_id,
    )
    found: set[int] = set()
    for value in named:
        if value is not None:
            found |= set(value) if isinstance(value, list | tuple) else {value}
    return frozenset(found)


def weights_digest(model: str, commit: str | None) -> str:
    """Digest of a folder's weights, configuration and vocabulary; of a Hub id, its commit.

    Raises:
        UserError: a Hub id whose commit is not known.
    """
    folder = Path(model)
    if not folder.is_dir():
        if commit is None:
            raise UserError(
                f"{model} came without a commit hash, so its answers cannot be told from those of "
                "another revision; download it and name the folder"
            )
        return f"{model}@{commit}"
    digest = hashlib.sha256()
    for file in _files(folder, _WEIGHTS, *_TEXTS):
        state = file.stat()
        digest.update(file.name.encode())
        digest.update(_file_digest(file.resolve(), state.st_mtime_ns, state.st_size))
    return digest.hexdigest()[:32]


@lru_cache(maxsize=1024)
def _file_digest(file: Path, _modified_ns: int, _size: int) -> bytes:
    """Digest of a file, read again only when its time or size has changed."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _files(folder: Path, *patterns: str) -> list[Path]:
    return sorted(file for pattern in patterns for file in folder.glob(pattern))


def _sees_ahead(model: Any) -> bool:
    """Whether the first token's logits change with the second token."""
    tokens = torch.tensor([[1, 2], [1, 3]], device=model.device)
    with torch.inference_mode():
        one, other = model(input_ids=tokens).logits[:, 0].float()
    return bool((one - other).abs().max() > _AHEAD * one.abs().max())


def _loaded(kind: Any, model: str, what: str, **settings: Any) -> Any:
    """Loads a part of a model; whatever the libraries find wrong becomes one line."""
    place = Path(model)
    local = place.is_absolute() or model.startswith(("./", "../", "~"))
    if not place.is_dir() and (place.exists() or local):
        raise UserError(f"there is no model folder {place}; name a folder or a Hub id")
    try:
        with _quiet():
            return kind.from_pretrained(model, **settings)
    except Exception as error:  # the loaders let any kind of error of a file pass
        reason = " ".join(str(error).split())[:200]
        remedy = "check the name and the network, or name a local folder"
        if place.is_dir():
            remedy = "check that the folder is a whole causal language model with its tokenizer"
        if out_of_memory(error):
            remedy = "use a smaller model"
        raise UserError(f"cannot load the {what} of {model}: {reason}; {remedy}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps transformers' progress bars and notes off stderr while loading."""
    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()
