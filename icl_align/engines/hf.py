"""Engine `hf`: a Hugging Face causal language model in this process, on CPU or CUDA."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from os.path import commonprefix
from pathlib import Path
from typing import Any

import torch
import transformers

from icl_align.engines import ContextOverflowError
from icl_align.engines._batches import in_batches, out_of_memory
from icl_align.engines._decode import decode, encode_prefix, window
from icl_align.engines._load import (
    end_tokens,
    load_config,
    load_model,
    load_tokenizer,
    weights_digest,
)
from icl_align.engines._plain import decode_alone
from icl_align.engines._row import Row
from icl_align.engines._stop import Watcher
from icl_align.errors import UserError
from icl_align.types import Decoding, Response

STRATEGY = "shared-prefix/2"
"""Version of the decoding loop; changes when the same request may give other text."""


class HFEngine:
    """Continues prompts with `AutoModelForCausalLM`, the prompts' common prefix encoded once.

    In float32 greedy text equals that of one plain `generate` per prompt. The model is loaded at
    its first use.
    """

    def __init__(
        self, model: str | Path, *, device: str = "auto", dtype: str = "auto", batch_size: int = 64
    ) -> None:
        """Stores the settings.

        Args:
            model: A local folder or a Hub id.
            device: "cpu", "cuda", "cuda:1", ... or "auto": CUDA where there is one.
            dtype: "float32", "bfloat16", "float16", or "auto": float32 on a CPU, where results then
                do not depend on batching, and the checkpoint's own on CUDA.
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
        self._prefix: tuple[list[int], list[Any]] = ([], [])

    @property
    def name(self) -> str:
        """The engine and its model."""
        return f"hf:{self.model_id}"

    @cached_property
    def fingerprint(self) -> str:
        """Digest of weights, configuration and tokenizer, with dtype, device, loop and versions."""
        digest = weights_digest(self.model_id, getattr(self._config, "_commit_hash", None))
        versions = f"torch-{torch.__version__}:transformers-{transformers.__version__}"
        return f"hf:{digest}:{self._dtype_label}:{self._device.type}:{STRATEGY}:{versions}"

    @cached_property
    def context_length(self) -> int:
        """Most tokens of prompt and completion together."""
        config = self._config.get_text_config(decoder=True)
        for key in ("max_position_embeddings", "n_positions", "n_ctx"):
            bound = getattr(config, key, None)
            if isinstance(bound, int) and bound > 0:
                return bound
        return int(min(self._tokenizer.model_max_length, 2**31))

    def count_tokens(self, text: str) -> int:
        """Number of tokens a prompt is sent as, special ones included."""
        return len(self._encode(text))

    def generate(
        self, prompts: Sequence[str], *, stop: Sequence[str], decoding: Decoding
    ) -> list[Response]:
        """Continues each prompt; see `icl_align.engines.Engine`.

        Equal prompts are continued once where that gives equal text: greedy, or with a seed.

        Raises:
            ContextOverflowError: before any work, naming the first prompt that does not fit.
            UserError: an empty prompt where the tokenizer adds no token of its own, an empty stop
                string, or memory that does not even hold one row.
        """
        if isinstance(stop, str) or "" in stop:
            raise UserError(f"stop must be a list of strings that are not empty, got {stop!r}")
        rows = [self._row(index, prompt, decoding) for index, prompt in enumerate(prompts)]
        repeatable = decoding.temperature == 0 or decoding.seed is not None
        firsts: dict[object, Row] = {}
        for row, prompt in zip(rows, prompts, strict=True):
            firsts.setdefault(prompt if repeatable else row.index, row)
        found = self._run(list(firsts.values()), stop, decoding) if firsts else {}
        for row, prompt in zip(rows, prompts, strict=True):
            if row.index not in found:
                twin = found[firsts[prompt].index]
                found[row.index] = replace(twin, reused_tokens=twin.prompt_tokens)
        return [found[index] for index in range(len(prompts))]

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

    def _run(
        self, rows: Sequence[Row], stop: Sequence[str], decoding: Decoding
    ) -> dict[int, Response]:
        """Responses of unlike rows by index: those that can share a prefix, then the others."""
        model = self._model
        watcher = Watcher(self._tokenizer, stop, self._ends)
        together = [r for r in rows if len(r.ids) + decoding.max_tokens <= self._window]
        alone = [r for r in rows if len(r.ids) + decoding.max_tokens > self._window]
        found = self._run_together(together, watcher, decoding) if together else {}

        def one_by_one(part: Sequence[Row]) -> dict[int, Response]:
            return {row.index: decode_alone(model, row, watcher, decoding) for row in part}

        lone, _ = in_batches(alone, 1, one_by_one)
        return found | lone

    def _run_together(
        self, rows: Sequence[Row], watcher: Watcher, decoding: Decoding
    ) -> dict[int, Response]:
        """Responses of rows whose common prefix is encoded once, charged to the first one."""
        model = self._model
        shared = list(commonprefix([row.ids[:-1] for row in rows]))
        layers, fresh = self._encoded(shared)
        by_length = sorted(rows, key=lambda row: len(row.ids))

        def batch(part: Sequence[Row]) -> dict[int, Response]:
            return decode(model, part, len(shared), layers, watcher, decoding)

        found, self._fits = in_batches(by_length, self._fits, batch)
        first = min(found)
        found[first] = replace(found[first], reused_tokens=found[first].reused_tokens - fresh)
        return found

    def _encoded(self, prefix: list[int]) -> tuple[list[Any], int]:
        """Keys and values of a prefix, and how many tokens had to be computed for them."""
        known, layers = self._prefix
        if known[: len(prefix)] == prefix:
            return (layers if prefix else []), 0
        self._prefix = ([], [])  # its memory is free before the next one takes some
        try:
            layers = encode_prefix(self._model, prefix)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise UserError(
                f"memory does not hold one row of {len(prefix)} tokens on {self._device}; "
                "use fewer exemplars, a smaller model or dtype"
            ) from error
        self._prefix = (prefix, layers)
        return layers, len(prefix)

    def _encode(self, prompt: str) -> list[int]:
        ids: list[int] = list(self._tokenizer(prompt)["input_ids"])
        size = getattr(self._config.get_text_config(decoder=True), "vocab_size", None)
        if isinstance(size, int) and max(ids, default=0) >= size:
            raise UserError(
                f"the tokenizer of {self.model_id} gives token {max(ids)} but the model knows "
                f"{size}; they do not belong together"
            )
        return ids

    @cached_property
    def _device(self) -> torch.device:
        if self.device_name == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            return torch.empty(0, device=self.device_name).device
        except (RuntimeError, AssertionError) as error:
            reason = str(error).split("\n")[0]
            raise UserError(f"cannot use the device {self.device_name!r}: {reason}") from error

    @property
    def _dtype_label(self) -> str:
        if self.dtype_name == "auto":
            return "float32" if self._device.type == "cpu" else "checkpoint"
        return self.dtype_name

    @cached_property
    def _config(self) -> Any:
        return load_config(self.model_id)

    @cached_property
    def _tokenizer(self) -> Any:
        assert self._config is not None  # first, so that a broken one is called by its name
        return load_tokenizer(self.model_id)

    @cached_property
    def _model(self) -> Any:
        label = self._dtype_label
        dtype = None if label == "checkpoint" else getattr(torch, label)
        return load_model(self.model_id, self._device, dtype)

    @cached_property
    def _ends(self) -> frozenset[int]:
        return end_tokens(self._model, self._tokenizer)

    @cached_property
    def _window(self) -> int:
        return window(self._model)
