"""Engine `vllm`: a model in vLLM's offline engine, with its automatic prefix caching.

It needs a GPU and the extra `vllm`, so it is not exercised in CI: written against the source of
vLLM 0.33.0, and tested against a stand-in that takes what that source takes and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from icl_align.engines._request import check_prompts, check_stop, in_order, pair_starts
from icl_align.engines._vllm_api import LLM, Module, load_vllm
from icl_align.engines._vllm_convert import check_decoding, response, sampling, scored
from icl_align.errors import UserError
from icl_align.types import Decoding, Response, TokenLogProbs

VERSION = "1"
"""Version of this engine; changes when the same request may give other text."""

_DTYPES = ("auto", "float32", "bfloat16", "float16")


class VLLMEngine:
    """Continues and scores prompts with `vllm.LLM`, which is started at its first use.

    Text depends on batch mates, in float32 less often than in bfloat16, unless the environment
    variable VLLM_BATCH_INVARIANT is 1 and the GPU can do that.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        dtype: str = "auto",
        gpu_memory_utilization: float = 0.9,
        max_model_len: int | None = None,
        tensor_parallel_size: int = 1,
        seed: int = 0,
        enforce_eager: bool = False,
    ) -> None:
        """Stores the settings, which are named as in vLLM.

        Args:
            model: A local folder or a Hub id.
            dtype: "float32", "bfloat16", "float16", or "auto": as vLLM chooses for the checkpoint.
            gpu_memory_utilization: Share of the GPU's memory that vLLM may take, in (0, 1].
            max_model_len: Most tokens of prompt and completion together; None for the model's own.
            tensor_parallel_size: Over how many GPUs the model is split, >= 1.
            seed: Seed of vLLM's own random state; each sampled row has a seed of its own besides.
            enforce_eager: Whether to do without CUDA graphs: starts sooner, runs slower.

        Raises:
            UserError: a setting outside its range.
        """
        if dtype not in _DTYPES:
            raise UserError(f"dtype must be auto, float32, bfloat16 or float16, got {dtype!r}")
        if not 0 < gpu_memory_utilization <= 1:
            raise UserError(
                f"gpu_memory_utilization must be in (0, 1], got {gpu_memory_utilization}"
            )
        for name, value in (
            ("tensor_parallel_size", tensor_parallel_size),
            ("max_model_len", max_model_len),
        ):
            if value is not None and value < 1:
                raise UserError(f"{name} must be >= 1, got {value}")
        self.model_id, self.dtype, self.max_model_len = str(model), dtype, max_model_len
        self.gpu_memory_utilization = gpu_memory_utilization
        self.tensor_parallel_size = tensor_parallel_size
        self.seed, self.enforce_eager = seed, enforce_eager

    @property
    def name(self) -> str:
        """The engine and its model."""
        return f"vllm:{self.model_id}"

    @cached_property
    def fingerprint(self) -> str:
        """Digest of weights, configuration and tokenizer, with what else vLLM's text depends on."""
        import torch

        from icl_align.engines._load import weights_digest

        digest = weights_digest(self.model_id, getattr(self._config, "_commit_hash", None))
        split = f"{self.tensor_parallel_size}{'-eager' if self.enforce_eager else ''}"
        invariant = "-invariant" if os.environ.get("VLLM_BATCH_INVARIANT", "0") != "0" else ""
        versions = f"vllm-{self._vllm.__version__}:torch-{torch.__version__}"
        return f"vllm:{digest}:{self.dtype}:{split}{invariant}:{VERSION}:{versions}"

    @cached_property
    def context_length(self) -> int:
        """Most tokens of prompt and completion together; starts vLLM where it was not given."""
        return self.max_model_len or self._llm.model_config.max_model_len

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

        Raises:
            ContextOverflowError: before any work, naming the first prompt that does not fit.
            UserError: an empty prompt where the tokenizer adds no token of its own, an empty stop
                string, settings that vLLM does not have, or a vLLM that is missing or cannot start.
        """
        check_stop(stop)
        check_decoding(decoding)
        if not prompts:
            return iter(())
        rows = [self._encode(prompt) for prompt in prompts]
        check_prompts(self, rows, decoding.max_tokens)
        ends, make = self._ends, self._vllm.SamplingParams
        settings = [make(**sampling(prompt, stop, decoding, ends)) for prompt in prompts]
        return self._responses(rows, settings)

    def loglikelihood(self, pairs: Sequence[tuple[str, str]]) -> list[TokenLogProbs]:
        """Scores continuations; see `icl_align.engines.Scoring`.

        vLLM does not read its prefix cache for this, and generates one token besides: a pair fits
        when the context has room for that token too.

        Raises:
            ContextOverflowError: before any work, naming the first pair that does not fit.
            UserError: an empty prompt where the tokenizer adds no token of its own, or a vLLM that
                is missing or cannot start.
        """
        rows = [self._encode(prompt + text) for prompt, text in pairs]
        befores = [self._encode(prompt) for prompt, _ in pairs]
        starts = pair_starts(self, zip(befores, rows, strict=True), 1)
        asked = [index for index, row in enumerate(rows) if len(row) > starts[index]]
        found = [TokenLogProbs((), (), (), start) for start in starts]
        if asked:
            settings = self._vllm.SamplingParams(
                temperature=0.0, max_tokens=1, prompt_logprobs=0, detokenize=False
            )
            outputs = self._llm.generate(
                [self._prompt(rows[index]) for index in asked],
                [settings] * len(asked),
                use_tqdm=False,
            )
            for index, output in zip(asked, outputs, strict=True):
                found[index] = scored(output, rows[index], starts[index])
        return found

    def _responses(
        self, rows: Sequence[list[int]], settings: Sequence[Any]
    ) -> Iterator[tuple[int, Response]]:
        """Runs vLLM until every row has finished; rows that nobody waits for any more are dropped."""
        engine = self._llm.llm_engine
        prompts = [self._prompt(ids) for ids in rows]
        names = self._llm.enqueue(prompts, settings, use_tqdm=False)
        waiting = {name.split("-")[0]: (index, name) for index, name in enumerate(names)}
        try:
            while waiting and engine.has_unfinished_requests():
                for output in engine.step():
                    if output.finished and output.request_id in waiting:
                        index, _ = waiting.pop(output.request_id)
                        yield index, response(output, len(rows[index]))
        finally:
            if waiting:
                engine.abort_request([name for _, name in waiting.values()], internal=True)
        if waiting:
            raise UserError(
                f"vLLM {self._vllm.__version__} ended without {len(waiting)} of {len(rows)} responses"
            )

    def _prompt(self, ids: list[int]) -> Any:
        """Tokens rather than text, so that they are those that were counted."""
        return self._vllm.TokensPrompt(prompt_token_ids=ids)

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer(text)["input_ids"])

    @cached_property
    def _ends(self) -> list[int]:
        """End-of-sequence tokens of the model's configuration; vLLM knows those of other files."""
        ends = getattr(self._config.get_text_config(decoder=True), "eos_token_id", None)
        if isinstance(ends, list | tuple):
            return list(ends)
        return [] if ends is None else [ends]

    @cached_property
    def _config(self) -> Any:
        from icl_align.engines._load import load_config

        return load_config(self.model_id)

    @cached_property
    def _tokenizer(self) -> Any:
        from icl_align.engines._load import load_tokenizer

        assert self._config is not None  # first, so that a broken one is called by its name
        return load_tokenizer(self.model_id)

    @cached_property
    def _vllm(self) -> Module:
        return load_vllm()

    @cached_property
    def _llm(self) -> LLM:
        module = self._vllm
        try:
            return module.LLM(
                model=self.model_id,
                dtype=self.dtype,
                seed=self.seed,
                gpu_memory_utilization=self.gpu_memory_utilization,
                tensor_parallel_size=self.tensor_parallel_size,
                enforce_eager=self.enforce_eager,
                enable_prefix_caching=True,
                max_model_len=self.max_model_len,
            )
        except (RuntimeError, ValueError, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"vLLM {module.__version__} cannot start {self.model_id}: {reason}; its own log above "
                "says more; a lower max_model_len or a higher gpu_memory_utilization may help"
            ) from error
