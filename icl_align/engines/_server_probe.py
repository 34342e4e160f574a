"""Questions to completion servers that only an examination asks; answers as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

from icl_align.engines._reply import RefusedError
from icl_align.engines.openai import OpenAIEngine
from icl_align.errors import UserError
from icl_align.types import Decoding


@dataclass(frozen=True, slots=True)
class Listing:
    """What a server says that it serves.

    Attributes:
        names: Names of its models; none where it does not tell.
        context_length: Of the engine's own model; None where it does not tell.
    """

    names: Sequence[str]
    context_length: int | None


def each_server(engine: OpenAIEngine, prompt: str) -> dict[str, str | UserError]:
    """What each server alone says to a prompt, by URL, or why it does not."""
    said: dict[str, str | UserError] = {}
    for url in engine.urls:
        alone = copy(engine)
        alone.urls = [url]
        try:
            (found,) = alone.generate([prompt], stop=(), decoding=Decoding(max_tokens=8))
            said[url] = found.text
        except UserError as error:
            said[url] = error
    return said


def listing(engine: OpenAIEngine) -> Listing:
    """What `/models` says; nothing where there is none, or an error."""
    reply = _quietly(engine, "/models", None)
    rows = reply.get("data") if isinstance(reply, dict) else None
    models = [one for one in rows if isinstance(one, dict)] if isinstance(rows, list) else []
    lengths = [one.get("max_model_len") for one in models if one.get("id") == engine.model]
    length = next((one for one in lengths if isinstance(one, int)), None)
    return Listing([str(one.get("id")) for one in models], length)


def choices(engine: OpenAIEngine, body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The choices of a short greedy completion; none where the server refuses or fails."""
    base = {"model": engine.model, "max_tokens": 4, "temperature": 0}
    reply = _quietly(engine, "/completions", {**base, **body})
    found = reply.get("choices") if isinstance(reply, dict) else None
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _quietly(engine: OpenAIEngine, path: str, body: Mapping[str, Any] | None) -> Any:
    try:
        return engine.ask(path, body)
    except (RefusedError, UserError):
        return None
