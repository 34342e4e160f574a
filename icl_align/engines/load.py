"""Makes an engine from its name, its model and its options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from icl_align.engines import Engine
from icl_align.errors import UserError
from icl_align.parts import call_part, load_part

_BUILT_IN = {
    "hf": "icl_align.engines.hf:HFEngine",
    "openai": "icl_align.engines.openai:connect",
    "vllm": "icl_align.engines.vllm:VLLMEngine",
}


def load_engine(name: str, model: str, options: Mapping[str, Any]) -> Engine:
    """Makes an engine.

    Args:
        name: "hf", "openai", "vllm", or an engine of one's own as `module:attr` or `file.py:attr`.
        model: A folder, a Hub id, or a server's name for its model.
        options: The engine's own settings.

    Raises:
        UserError: no such engine, options it does not take, or one that is no engine.
    """
    part = _BUILT_IN.get(name, name)
    if ":" not in part:
        raise UserError(
            f"there is no engine {name!r}; built in are {', '.join(_BUILT_IN)}, one's own "
            "is 'module:attr' or 'file.py:attr'"
        )
    made = call_part(load_part("engine", part), f"engine {name!r}", options, model)
    if not hasattr(made, "generate") or not hasattr(made, "fingerprint"):
        raise UserError(f"the engine {name!r} gave a {type(made).__name__}, which is no engine")
    engine: Engine = made
    return engine
