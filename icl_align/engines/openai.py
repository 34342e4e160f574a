"""Engine `openai`: any server with an OpenAI-compatible `/v1/completions`.

vLLM, SGLang, TGI, llama.cpp's server and `transformers serve` are such servers. What comes back is
checked: servers accept settings and then ignore them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from icl_align.engines._completions import OpenAIEngine
from icl_align.engines._options import (
    check_numbers,
    check_seconds,
    check_texts,
    checked_urls,
    key_from,
)
from icl_align.engines._scored_completions import TokenizedOpenAIEngine
from icl_align.errors import UserError

__all__ = ["OpenAIEngine", "TokenizedOpenAIEngine", "connect"]

_OWN = frozenset(
    (
        *("model", "prompt", "suffix", "max_tokens", "temperature", "top_p", "seed", "stop"),
        *("n", "best_of", "stream", "echo", "logprobs"),
    )
)
"""Fields of a request that `extra` may not set."""


def connect(  # noqa: PLR0913 (they are the options of an experiment file)
    model: str,
    *,
    base_url: str | list[str],
    identity: str = "",
    tokenizer: str | None = None,
    context_length: int | None = None,
    concurrency: int = 16,
    timeout_s: float = 600.0,
    attempts: int = 8,
    backoff_s: float = 0.5,
    api_key_env: str = "ICL_ALIGN_API_KEY",
    repetition_field: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> OpenAIEngine:
    """Makes the engine; nothing is sent yet.

    Args:
        model: The model's name at the server.
        base_url: Where the server is, such as http://127.0.0.1:8000/v1; several serve one model.
        identity: What else decides its text: revision, dtype, server version. Part of the ledger's
            key, as the URL is not: change it when the server behind a URL changes.
        tokenizer: Folder or Hub id of the model's tokenizer. With it, and `context_length`, prompts
            are counted before they are sent, and texts can be scored.
        context_length: Most tokens of prompt and completion together.
        concurrency: Most requests at once to one server, >= 1.
        timeout_s: How long a server may be silent.
        attempts: How often a request is sent at most, >= 1.
        backoff_s: First wait after a failure, doubling each time.
        api_key_env: Environment variable that holds the key; none is sent where it is not set.
        repetition_field: What the server calls a repetition penalty over prompt and completion
            ("repetition_penalty" with vLLM, SGLang and TGI, "repeat_penalty" with llama.cpp). It is
            then sent with every request, as a server may have a default of its own.
        extra: More fields of each request, against defaults of the server's own: {"top_k": -1}
            with vLLM and SGLang, {"top_k": 0, "min_p": 0} with llama.cpp. Part of the ledger's key.

    Raises:
        UserError: a setting of the wrong kind or outside its range.
    """
    check_numbers(concurrency=concurrency, attempts=attempts, context_length=context_length)
    check_seconds(timeout_s=timeout_s, backoff_s=backoff_s)
    check_texts(
        identity=identity,
        api_key_env=api_key_env,
        tokenizer=tokenizer,
        repetition_field=repetition_field,
    )
    if (tokenizer is None) != (context_length is None):
        raise UserError("tokenizer and context_length go together; give both or neither")
    more = dict(extra or {})
    if taken := sorted((_OWN | {repetition_field or ""}).intersection(more)):
        raise UserError(f"extra must not hold {taken[0]!r}: the engine sets it")
    urls = checked_urls(base_url)
    key = key_from(api_key_env)
    settings = {
        "concurrency": concurrency,
        "timeout_s": timeout_s,
        "attempts": attempts,
        "backoff_s": backoff_s,
        "headers": {"Authorization": f"Bearer {key}"} if key else {},
    }
    shared = (model, urls, settings, identity, repetition_field, more)
    if tokenizer is None or context_length is None:
        return OpenAIEngine(*shared)
    return TokenizedOpenAIEngine(*shared, tokenizer, context_length)
