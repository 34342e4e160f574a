"""What of vLLM's offline interface is used here, as read in the source of vLLM 0.33.0.

`tests/vllm_api.json` records the same names from that source, and a test holds both together.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from icl_align.errors import UserError


class Logprob(Protocol):
    """`vllm.logprobs.Logprob`: one token's log-probability (natural) and its rank from 1."""

    logprob: float
    rank: int | None


class CompletionOutput(Protocol):
    """`vllm.CompletionOutput`: one completion; `token_ids` holds the tokens that ended it too."""

    text: str
    token_ids: Sequence[int]
    finish_reason: str | None
    stop_reason: int | str | None


class RequestOutput(Protocol):
    """`vllm.RequestOutput`: a finished request.

    `request_id` is the name under which it was put; `enqueue` gives it with "-" and a random part.
    """

    request_id: str
    prompt_logprobs: Sequence[Mapping[int, Logprob] | None] | None
    outputs: Sequence[CompletionOutput]
    finished: bool
    num_cached_tokens: int | None


class LLMEngine(Protocol):
    """`vllm.v1.engine.llm_engine.LLMEngine`: what runs below `LLM`."""

    def has_unfinished_requests(self) -> bool: ...

    def step(self) -> list[RequestOutput]: ...

    def abort_request(self, request_ids: list[str], internal: bool = False) -> None: ...


class ModelConfig(Protocol):
    """`vllm.config.ModelConfig`."""

    max_model_len: int


class LLM(Protocol):
    """`vllm.LLM`."""

    llm_engine: LLMEngine
    model_config: ModelConfig

    def enqueue(
        self, prompts: Sequence[Any], sampling_params: Sequence[Any], *, use_tqdm: bool
    ) -> list[str]: ...

    def generate(
        self, prompts: Sequence[Any], sampling_params: Sequence[Any], *, use_tqdm: bool
    ) -> list[RequestOutput]: ...


class Module(Protocol):
    """The module `vllm` itself."""

    __version__: str

    def LLM(  # noqa: N802 (its name)
        self,
        model: str,
        *,
        dtype: str,
        seed: int,
        gpu_memory_utilization: float,
        tensor_parallel_size: int,
        enforce_eager: bool,
        enable_prefix_caching: bool,
        max_model_len: int | None,
    ) -> LLM: ...

    def SamplingParams(self, **_settings: Any) -> Any: ...  # noqa: N802 (its name)

    def TokensPrompt(self, *, prompt_token_ids: list[int]) -> Any: ...  # noqa: N802 (its name)


def load_vllm() -> Module:
    """Imports vLLM.

    Raises:
        UserError: it is not installed, or it cannot be used on this machine.
    """
    # its log goes to stdout unless told otherwise, and stdout is for data
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    try:
        module: Module = importlib.import_module("vllm")
    except ModuleNotFoundError as error:
        if error.name != "vllm":
            raise UserError(
                f"vLLM is installed but lacks {error.name}; install it again"
            ) from error
        raise UserError(
            "the engine 'vllm' needs vLLM, which is not installed; "
            "run: pip install 'icl-align[vllm]'"
        ) from error
    return module
