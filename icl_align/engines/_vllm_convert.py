"""Between our requests and responses and those of vLLM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from icl_align.engines._request import row_seed
from icl_align.engines._vllm_api import RequestOutput
from icl_align.errors import UserError
from icl_align.types import Decoding, Finish, Response, TokenLogProbs

_COOLEST, _HOTTEST = 0.01, 2.0
"""Temperatures that vLLM samples at; it raises lower ones to the first and refuses higher ones."""

_FINISHES: dict[str, Finish] = {"stop": "stop", "length": "length"}
"""Its other reasons are failures."""


def check_decoding(decoding: Decoding) -> None:
    """Refuses what vLLM would do otherwise than the engine `hf`.

    Raises:
        UserError: a repetition penalty over generated tokens alone, or a temperature out of range.
    """
    if decoding.repetition_penalty != 1 and decoding.repetition_scope != "all":
        raise UserError(
            "vLLM's repetition penalty looks at prompt and completion: use repetition_scope "
            '"all", repetition_penalty 1, or the engine hf'
        )
    if decoding.temperature and not _COOLEST <= decoding.temperature <= _HOTTEST:
        raise UserError(
            f"vLLM samples at temperatures from {_COOLEST} to {_HOTTEST} (0 is greedy), "
            f"got {decoding.temperature}"
        )


def sampling(
    prompt: str, stop: Sequence[str], decoding: Decoding, ends: Sequence[int]
) -> dict[str, Any]:
    """The fields of `vllm.SamplingParams` for one row.

    The row's seed derives from the request's seed and its prompt, so it does not depend on the batch.
    """
    settings: dict[str, Any] = {
        "temperature": decoding.temperature,
        "max_tokens": decoding.max_tokens,
        "repetition_penalty": decoding.repetition_penalty,
        "stop": list(stop),
        "stop_token_ids": list(ends),
        "include_stop_str_in_output": False,
        "skip_special_tokens": True,
    }
    if decoding.temperature > 0:
        # 63 bits: a signed integer there, and -1 would mean no seed
        settings |= {"top_p": decoding.top_p, "seed": row_seed(decoding.seed, prompt, 63)}
    return settings


def response(output: RequestOutput, prompt_tokens: int) -> Response:
    """Our response of a finished request."""
    (completion,) = output.outputs
    finish = _FINISHES.get(completion.finish_reason or "", "error")
    reason = f"vLLM ended it with finish_reason {completion.finish_reason!r}"
    return Response(
        completion.text,
        len(completion.token_ids),
        finish,
        prompt_tokens,
        min(output.num_cached_tokens or 0, prompt_tokens),
        error=reason if finish == "error" else "",
    )


def scored(output: RequestOutput, ids: Sequence[int], start: int) -> TokenLogProbs:
    """The log-probabilities of a prompt's tokens from `start` on.

    Raises:
        UserError: vLLM gave other log-probabilities than it was asked for.
    """
    entries = output.prompt_logprobs
    if entries is None or len(entries) != len(ids):
        raise UserError(
            f"vLLM gave {len(entries or ())} log-probabilities to {len(ids)} tokens; "
            "this version of it is not known, use the engine hf"
        )
    tokens = tuple(ids[start:])
    values = [(entries[start + at] or {})[token] for at, token in enumerate(tokens)]
    ranks = tuple(value.rank for value in values if value.rank is not None)
    return TokenLogProbs(
        tokens,
        tuple(min(0.0, value.logprob) for value in values),
        ranks if len(ranks) == len(tokens) else (),
        start,
        min(output.num_cached_tokens or 0, start),
    )
