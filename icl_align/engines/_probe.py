"""Whether a model's attention can be computed in parts: its configuration, and a trial run."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from icl_align.engines._interface import running
from icl_align.engines._memory import out_of_memory
from icl_align.engines._repeated import short_rows
from icl_align.engines._step import Shared, Slots, Step

_NEEDED = {"position_ids", "use_cache", "logits_to_keep"}
_TOKENS, _PREFIX, _SUFFIX = 24, 9, 12
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""Of the largest logit: what rounding may do, well below what a wrong attention does."""


def unsplittable(model: Any) -> str:
    """Why a model cannot run packed; empty if it can."""
    if not _NEEDED.issubset(inspect.signature(model.forward).parameters):
        return f"{type(model).__name__} takes no positions, or always gives all logits"
    config = model.config.get_text_config(decoder=True)
    layers = DynamicCache(config=config).layers
    known = all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)
    if not layers or not known or getattr(config, "attention_chunk_size", None) is not None:
        return f"{type(model).__name__} keeps more than keys and values, or attends in chunks"
    if short_rows(config) is not None:
        return "its rotary positions change when a row gets long"
    windows = [getattr(layer, "sliding_window", None) for layer in layers]
    try:
        return _differs(model, windows)
    except Exception as error:  # whatever a model's own code makes of an attention it does not know
        if out_of_memory(error):
            raise
        return f"{type(error).__name__}: {error}"


def _differs(model: Any, windows: list[int | None]) -> str:
    """Runs a few tokens whole, and packed: a prefix, a row behind it, then token by token."""
    generator = torch.Generator().manual_seed(0)
    size = model.config.get_text_config(decoder=True).vocab_size
    ids = torch.randint(size, (1, _TOKENS), generator=generator).to(model.device)

    def forward(step: Step, start: int, end: int) -> torch.Tensor:
        with running(model, step):
            logits: torch.Tensor = model(
                input_ids=ids[:, start:end],
                position_ids=step.positions[None],
                use_cache=False,
                logits_to_keep=torch.tensor([end - start - 1], device=ids.device),
            ).logits[0, -1]
        return logits

    with torch.inference_mode():
        expected = model(input_ids=ids).logits[0].float()
        places = torch.arange(_TOKENS, device=ids.device)
        first = Step(places[:_PREFIX], fresh=[_PREFIX])
        forward(first, 0, _PREFIX)
        if sorted(first.kept) != list(range(len(windows))):
            return "not every layer attends through transformers' attention interface"
        if any(first.windows[layer] != window for layer, window in enumerate(windows)):
            return "a layer's window is not told to its attention"
        kept = [first.kept[layer] for layer in range(len(windows))]
        prefix = Shared([k for k, _ in kept], [v for _, v in kept], 0)
        own = Slots(1, _TOKENS)
        found, at = [], _PREFIX
        for end in (_PREFIX + _SUFFIX, *range(_PREFIX + _SUFFIX + 1, _TOKENS + 1)):
            place = places[at:end] - _PREFIX
            fresh = at == _PREFIX
            step = Step(
                places[at:end],
                [prefix],
                running=0 if fresh else 1,
                fresh=[end - at] if fresh else [],
                own=own,
                places=(torch.zeros_like(place), place),
                filled=end - _PREFIX,
            )
            found.append(forward(step, at, end).float())
            at = end
    wanted = expected[_PREFIX + _SUFFIX - 1 :]
    worst = float((torch.stack(found) - wanted).abs().max() / wanted.abs().max())
    allowed = _TOLERANCE.get(model.dtype, _TOLERANCE[torch.bfloat16])
    return "" if worst <= allowed else f"its logits differ by {worst:.1e} of the largest one"
