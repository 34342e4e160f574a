"""Engine `hf`: a Hugging Face causal language model in this process, on CPU or CUDA."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from os.path import commonprefix
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as hf_logging

from icl_align.engines import ContextOverflowError
from icl_align.engines._decode import Row, decode, encode_prefix, shareable
from icl_align.errors import UserError
from icl_align.types import Decoding, Response

STRATEGY = "shared-prefix/1"
"""Version of the decoding loop; changes when the same request may give other text."""


class HFEngine:
    """Continues prompts with `AutoModelForCausalLM`, the prompts' common prefix encoded once.

    In float32 greedy text equals that of one plain `generate` per prompt. The model is loaded at first use.
    """

    def __init__(
        self, model: str | Path, *, device: str = "auto", dtype: str = "auto", batch_size: int = 64
    ) -> None:
        """Stores the settings.

        Args:
            model: A local folder or a Hub id.
            device: "cpu", "cuda", "cuda:1", ... or "auto": CUDA where there is one.
            dtype: "float32", "bfloat16", "float16", or "auto": float32 on a CPU, where results then do not
                depend on batching, and the checkpoint's own on CUDA.
            batch_size: Most rows decoded at once, >= 1; halved when memory runs out.

        Raises:
            UserError: an unknown dtype or a batch size below 1.
        """
        if dtype not in ("auto", "float32", "bfloat16", "float16"):
            raise UserError(f"dtype must be auto, float32, bfloat16 or float16, got {dtype!r}")
        if batch_size < 1:
            raise UserError(f"batch_size must be >= 1, got {batch_size}")
        self.model_id, self.device_name, self.dtype_name = str(model), device, dtype
        self.batch_size = self._fits = batch_size
        self._prefix: tuple[list[int], Any] = ([], None)

    @property
    def name(self) -> str:
        """The engine and its model."""
        return f"hf:{self.model_id}"

    @cached_property
    def fingerprint(self) -> str:
        """Digest of weights, configuration and tokenizer, with dtype, device kind, loop and versions."""
        versions = f"torch-{torch.__version__}:transformers-{transformers.__version__}"
        return f"hf:{self._digest()}:{self._dtype_label}:{self._device.type}:{STRATEGY}:{versions}"

    @cached_property
    def context_length(self) -> int:
        """Most tokens of prompt and completion together."""
        config = self._config.get_text_config()
        for key in ("max_position_embeddings", "n_positions", "n_ctx"):
            if isinstance(getattr(config, key, None), int):
                return int(getattr(config, key))
        return int(min(self._tokenizer.model_max_length, 2**31))

    def count_tokens(self, text: str) -> int:
        """Number of tokens a prompt is sent as, special ones included."""
        return len(self._encode(text))

    def generate(
        self, prompts: Sequence[str], *, stop: Sequence[str], decoding: Decoding
    ) -> list[Response]:
        """Continues each prompt; see `icl_align.engines.Engine`.

        Raises:
            ContextOverflowError: before any work, naming the first prompt that does not fit.
            UserError: an empty prompt where the tokenizer adds no token of its own, an empty stop string,
                or memory that does not even hold one row.
        """
        if "" in stop:
            raise UserError("a stop string must not be empty")
        rows = [self._row(index, prompt, decoding) for index, prompt in enumerate(prompts)]
        repeatable = decoding.temperature == 0 or decoding.seed is not None
        unique: dict[object, Row] = {}
        for index, row in enumerate(rows):
            unique.setdefault(prompts[index] if repeatable else index, row)
        found = self._run(list(unique.values()), stop, decoding) if unique else {}
        responses = {key: found[row.index] for key, row in unique.items()}
        return [responses[p if repeatable else i] for i, p in enumerate(prompts)]

    def _row(self, index: int, prompt: str, decoding: Decoding) -> Row:
        ids = self._encode(prompt)
        if not ids:
            raise UserError(f"prompt {index} is empty and {self.model_id} adds no token of its own")
        if len(ids) + decoding.max_tokens > self.context_length:
            raise ContextOverflowError(
                f"prompt {index} has {len(ids)} tokens and max_tokens is {decoding.max_tokens}, "
                f"together more than the {self.context_length} of {self.model_id}; "
                "use fewer exemplars or a lower max_tokens"
            )
        seed = secrets.randbits(64) if decoding.seed is None else decoding.seed
        stream = hashlib.sha256(f"{seed}\0{prompt}".encode("utf-8", "surrogatepass")).digest()
        return Row(index, ids, int.from_bytes(stream[:8], "big"))

    def _run(self, rows: list[Row], stop: Sequence[str], decoding: Decoding) -> dict[int, Response]:
        """Decodes unique rows, sharing their common prefix, in batches of rows of similar length."""
        prefix: list[int] = []
        shared = shareable(self._model)
        if shared:
            prefix = list(commonprefix([row.ids[:-1] for row in rows]))
        rows = sorted(rows, key=lambda row: len(row.ids))
        found: dict[int, Response] = {}
        fresh = 0
        while len(found) < len(rows):
            part = rows[len(found) : len(found) + (self._fits if shared else 1)]
            try:
                with torch.inference_mode():
                    cache, computed = self._prefix_cache(prefix)
                    fresh += computed
                    found |= decode(
                        self._model, self._tokenizer, part, len(prefix), cache, stop, decoding
                    )
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not _out_of_memory(error):
                    raise
                if len(part) == 1:
                    size = f"{len(part[0].ids)} + {decoding.max_tokens}"
                    raise UserError(
                        f"memory does not hold one row of {size} tokens on {self._device}; "
                        "use a smaller model, dtype or max_tokens"
                    ) from error
                self._fits = max(1, len(part) // 2)
                if self._device.type == "cuda":
                    torch.cuda.empty_cache()
        if fresh:  # the first row is charged with encoding the prefix
            first = min(found)
            found[first] = replace(found[first], reused_tokens=found[first].reused_tokens - fresh)
        return found

    def _prefix_cache(self, prefix: list[int]) -> tuple[Any, int]:
        """Keys and values of a prefix, and how many tokens had to be computed for them."""
        if not prefix:
            return None, 0
        known, cache = self._prefix
        if known[: len(prefix)] == prefix:
            return cache, 0
        self._prefix = ([], None)  # its memory is free before the next one takes some
        cache = encode_prefix(self._model, prefix)
        self._prefix = (prefix, cache)
        return cache, len(prefix)

    def _encode(self, prompt: str) -> list[int]:
        return list(self._tokenizer(prompt)["input_ids"])

    @cached_property
    def _device(self) -> torch.device:
        if self.device_name != "auto":
            try:
                return torch.empty(0, device=self.device_name).device
            except (RuntimeError, AssertionError) as error:
                reason = str(error).split("\n")[0]
                raise UserError(f"cannot use the device {self.device_name!r}: {reason}") from error
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def _dtype_label(self) -> str:
        if self.dtype_name == "auto":
            return "float32" if self._device.type == "cpu" else "checkpoint"
        return self.dtype_name

    @cached_property
    def _config(self) -> Any:
        return self._loaded(AutoConfig, "configuration")

    @cached_property
    def _tokenizer(self) -> Any:
        return self._loaded(AutoTokenizer, "tokenizer")

    @cached_property
    def _model(self) -> Any:
        folder = Path(self.model_id)
        if folder.is_dir() and not _weights(folder):
            raise UserError(
                f"the model folder {folder} has no weights (*.safetensors); "
                "copy or convert them there, or name another model"
            )
        label = self._dtype_label
        dtype = "auto" if label == "checkpoint" else getattr(torch, label)
        # Weights in pickle files (*.bin) are not read: they can run code.
        model = self._loaded(AutoModelForCausalLM, "model", dtype=dtype, use_safetensors=True)
        return model.to(self._device).eval()

    def _loaded(self, kind: Any, what: str, **settings: Any) -> Any:
        """Loads a part of the model; whatever is wrong with it becomes one line."""
        place = Path(self.model_id)
        if not place.is_dir() and (
            place.exists() or place.is_absolute() or self.model_id.startswith(".")
        ):
            raise UserError(f"there is no model folder {place}; name a folder or a Hub id")
        try:
            with _quiet():
                return kind.from_pretrained(self.model_id, **settings)
        except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
            if _out_of_memory(error):
                raise
            reason = " ".join(str(error).split())[:200]
            remedy = (
                "check the folder"
                if place.is_dir()
                else "check the name and the network, or name a local folder"
            )
            raise UserError(
                f"cannot load the {what} of {self.model_id}: {reason}; {remedy}"
            ) from error

    def _digest(self) -> str:
        """Digest of a folder's files, or the commit of a Hub id."""
        folder = Path(self.model_id)
        if not folder.is_dir():
            commit = getattr(self._config, "_commit_hash", None)
            if commit is None:
                raise UserError(
                    f"{self.model_id} came without a commit hash, so its answers cannot be told from "
                    "those of another revision; download it and name the folder"
                )
            return f"{self.model_id}@{commit}"
        digest = hashlib.sha256()
        for file in sorted([*_weights(folder), *folder.glob("*.json"), *folder.glob("*.model")]):
            digest.update(file.name.encode())
            with file.open("rb") as stream:
                while block := stream.read(1 << 22):
                    digest.update(block)
        return digest.hexdigest()[:32]


def _weights(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def _out_of_memory(error: BaseException) -> bool:
    signs = (
        "out of memory",
        "not enough memory",
        "can't allocate memory",
        "cannot allocate memory",
    )
    return isinstance(error, torch.OutOfMemoryError) or any(
        sign in str(error).lower() for sign in signs
    )


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
