"""Engine `hf`: a Hugging Face causal language model in this process, on CPU or CUDA."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers

from icl_align.engines._alone import Alone
from icl_align.engines._linear import use_onednn
from icl_align.engines._load import (
    end_tokens,
    load_config,
    load_model,
    load_tokenizer,
    weights_digest,
)
from icl_align.engines._memory import free_bytes
from icl_align.engines._packed import Packed
from icl_align.engines._prefixes import Prefixes
from icl_align.engines._probe import unsplittable
from icl_align.engines._repeated import Repeated, window
from icl_align.engines._request import (
    check_prompts,
    check_stop,
    in_order,
    pair_starts,
    row_seed,
)
from icl_align.engines._row import Row
from icl_align.engines._stop import Watcher
from icl_align.errors import UserError
from icl_align.types import Decoding, Response, TokenLogProbs

STRATEGY = "3"
"""Version of the decoding loops; changes when the same request may give other text."""

STRATEGIES = ("auto", "packed", "repeated", "alone")
"""How rows may be run; "auto" is the first of the others that fits the model."""

_ROWS = (64, 256)
"""Rows at once unless told otherwise, on a CPU and with CUDA."""

_PREFIX_BYTES = 4 * 2**30
"""Most bytes of prefixes remembered between calls."""


class HFEngine:
    """Continues prompts with `AutoModelForCausalLM`, the prompts' common prefix encoded once.

    In float32 greedy text equals that of one plain `generate` per prompt. The model is loaded at
    its first use.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int | None = None,
        strategy: str = "auto",
    ) -> None:
        """Stores the settings.

        Args:
            model: A local folder or a Hub id.
            device: "cpu", "cuda", "cuda:1", ... or "auto": CUDA where there is one.
            dtype: "float32", "bfloat16", "float16", or "auto": float32 on a CPU, where results then
                do not depend on batching, and the checkpoint's own on CUDA.
            batch_size: Most rows decoded at once, >= 1; fewer where memory does not hold them. None
                is 64 on a CPU and 256 with CUDA.
            strategy: "packed" (shared prefixes stored once, rows join and leave), "repeated" (the
                prefix repeated per row), "alone" (one row at a time), or "auto": the first of these
                that gives this model's text.

        Raises:
            UserError: an unknown dtype or strategy, or a batch size below 1.
        """
        if dtype not in ("auto", "float32", "bfloat16", "float16"):
            raise UserError(f"dtype must be auto, float32, bfloat16 or float16, got {dtype!r}")
        if strategy not in STRATEGIES:
            raise UserError(f"strategy must be one of {', '.join(STRATEGIES)}, got {strategy!r}")
        if batch_size is not None and batch_size < 1:
            raise UserError(f"batch_size must be >= 1, got {batch_size}")
        self.model_id, self.device_name, self.dtype_name = str(model), device, dtype
        self.batch_size, self.strategy_name = batch_size, strategy

    @property
    def name(self) -> str:
        """The engine and its model."""
        return f"hf:{self.model_id}"

    @cached_property
    def fingerprint(self) -> str:
        """Digest of weights, configuration and tokenizer, with dtype, device, loop and versions."""
        digest = weights_digest(self.model_id, getattr(self._config, "_commit_hash", None))
        versions = f"torch-{torch.__version__}:transformers-{transformers.__version__}"
        return f"hf:{digest}:{self._dtype_label}:{self._device.type}:{STRATEGY}-{self.strategy_name}:{versions}"

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
        """Continues each prompt; see `icl_align.engines.Engine`, and `stream` for what it raises."""
        return in_order(self.stream(prompts, stop=stop, decoding=decoding), len(prompts))

    def stream(
        self, prompts: Sequence[str], *, stop: Sequence[str], decoding: Decoding
    ) -> Iterator[tuple[int, Response]]:
        """Continues each prompt; gives index and response of each as soon as it has finished.

        Equal prompts are continued once where that gives equal text: greedy, or with a seed.

        Raises:
            ContextOverflowError: before any work, naming the first prompt that does not fit.
            UserError: an empty prompt where the tokenizer adds no token of its own, an empty stop
                string, or memory that does not even hold one row.
        """
        check_stop(stop)
        texts = self._encoded(prompts)
        check_prompts(self, texts, decoding.max_tokens)
        rows = [
            Row(index, ids, row_seed(decoding.seed, prompt, 64))
            for index, (prompt, ids) in enumerate(zip(prompts, texts, strict=True))
        ]
        return self._responses(prompts, rows, stop, decoding)

    def loglikelihood(self, pairs: Sequence[tuple[str, str]]) -> list[TokenLogProbs]:
        """Scores continuations; see `icl_align.engines.Scoring`. Shared beginnings are computed once.

        Raises:
            ContextOverflowError: before any work, naming the first pair that does not fit.
            UserError: an empty prompt where the tokenizer adds no token of its own, or memory that
                does not even hold one pair.
        """
        befores = self._encoded([prompt for prompt, _ in pairs])
        wholes = self._encoded([prompt + text for prompt, text in pairs])
        starts = pair_starts(self, zip(befores, wholes, strict=True), 0)
        rows = [
            Row(index, whole[:-1], first=start - 1)
            for index, (whole, start) in enumerate(zip(wholes, starts, strict=True))
        ]
        targets = [whole[start:] for whole, start in zip(wholes, starts, strict=True)]
        found: dict[int, TokenLogProbs] = {}
        asked = [(row, wanted) for row, wanted in zip(rows, targets, strict=True) if wanted]
        if asked:
            runner = self._packed or Alone(self._model)
            for row, logprobs, ranks in runner.score(*zip(*asked, strict=True)):
                found[row.index] = TokenLogProbs(
                    tuple(targets[row.index]),
                    tuple(logprobs),
                    tuple(ranks),
                    _before(row),
                    row.reused,
                )
        return [found.get(row.index, TokenLogProbs((), (), (), _before(row))) for row in rows]

    def _responses(
        self, prompts: Sequence[str], rows: Sequence[Row], stop: Sequence[str], decoding: Decoding
    ) -> Iterator[tuple[int, Response]]:
        """Responses of all rows, equal ones continued once."""
        repeatable = decoding.temperature == 0 or decoding.seed is not None
        twins: dict[object, list[Row]] = {}
        for row, prompt in zip(rows, prompts, strict=True):
            twins.setdefault(prompt if repeatable else row.index, []).append(row)
        firsts = [same[0] for same in twins.values()]
        for row, response in self._run(firsts, stop, decoding) if firsts else ():
            yield row.index, response
            for twin in twins[prompts[row.index] if repeatable else row.index][1:]:
                yield twin.index, replace(response, reused_tokens=response.prompt_tokens)

    def _run(
        self, rows: Sequence[Row], stop: Sequence[str], decoding: Decoding
    ) -> Iterator[tuple[Row, Response]]:
        """Responses of unlike rows: by the best strategy that fits the model, and each row."""
        watcher = Watcher(self._tokenizer, stop, self._ends)
        if self._packed is not None:
            yield from self._packed.run(rows, watcher, decoding)
            return
        fit = [row for row in rows if len(row.ids) + decoding.max_tokens <= self._window]
        rest = [row for row in rows if len(row.ids) + decoding.max_tokens > self._window]
        if fit:
            yield from self._repeated.run(fit, watcher, decoding)
        if rest:
            yield from Alone(self._model).run(rest, watcher, decoding)

    def _encode(self, text: str) -> list[int]:
        return self._encoded([text])[0]

    def _encoded(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts, all in one call: a fast tokenizer then uses all cores."""
        if not texts:
            return []
        found: list[list[int]] = self._tokenizer(list(texts))["input_ids"]
        size = getattr(self._config.get_text_config(decoder=True), "vocab_size", None)
        largest = max((max(ids) for ids in found if ids), default=0)
        if isinstance(size, int) and largest >= size:
            raise UserError(
                f"the tokenizer of {self.model_id} gives token {largest} but the model knows "
                f"{size}; they do not belong together"
            )
        return found

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
        model = load_model(self.model_id, self._device, dtype)
        self._onednn = use_onednn(model)
        return model

    @cached_property
    def _ends(self) -> frozenset[int]:
        return end_tokens(self._model, self._tokenizer)

    @property
    def strategy(self) -> str:
        """How this model is run: "packed", "repeated" or "alone"; loads the model."""
        if self._packed is not None:
            return "packed"
        return "repeated" if self._window else "alone"

    @cached_property
    def _packed(self) -> Packed | None:
        """The runner of strategy "packed", None where another one is asked for or needed."""
        if self.strategy_name not in ("auto", "packed"):
            return None
        reason = unsplittable(self._model)
        if reason and self.strategy_name == "packed":
            raise UserError(f"{self.model_id} cannot run packed: {reason}; use strategy auto")
        if reason:
            return None
        return Packed(self._model, Prefixes(self._cache_bytes), self._rows)

    @cached_property
    def _repeated(self) -> Repeated:
        return Repeated(self._model, self._rows)

    @cached_property
    def _window(self) -> int:
        """Most positions of a row that strategy "repeated" can run; 0 if it may not."""
        return 0 if self.strategy_name == "alone" else window(self._model)

    @property
    def _rows(self) -> int:
        if self.batch_size is not None:
            return self.batch_size
        return _ROWS[self._device.type == "cuda"]

    @property
    def _cache_bytes(self) -> int:
        """What may be remembered between calls: a quarter of the memory that is free now."""
        free = free_bytes(self._device)
        return _PREFIX_BYTES if free is None else min(_PREFIX_BYTES, free // 4)


def _before(row: Row) -> int:
    """Tokens of the text before a continuation."""
    return 0 if row.first is None else row.first + 1
