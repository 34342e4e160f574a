"""Makes a model of `transformers` attend as a `Step` says."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import torch
from transformers import AttentionInterface

from icl_align.engines._attention import Rule
from icl_align.engines._step import Step

NAME = "icl_align_packed"
"""Under which name `transformers` knows this attention."""


class UnsplittableError(RuntimeError):
    """A model's attention does something that cannot be computed in parts here."""


_STEP: ContextVar[Step | None] = ContextVar("step", default=None)


@contextlib.contextmanager
def running(model: Any, step: Step) -> Iterator[None]:
    """Makes a model's attention that of a step, for the calls within."""
    config = model.config
    before = config._attn_implementation
    token = _STEP.set(step)
    config._attn_implementation = NAME  # a property that reaches the configurations of all parts
    try:
        yield
    finally:
        config._attn_implementation = before
        _STEP.reset(token)


def _packed_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    position_bias: torch.Tensor | None = None,
    **_settings: Any,
) -> tuple[torch.Tensor, None]:
    """What `transformers` calls in each layer; sinks (`s_aux`) take their share at the end."""
    step = _STEP.get()
    if step is None or position_bias is not None or query.shape[0] != 1:
        raise UnsplittableError(f"{type(module).__name__} attends in a way that has no parts")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    rule = Rule(float(scale), sliding_window, softcap)
    out, total = step.attend(module.layer_idx, query, key, value, rule)
    if s_aux is not None:
        out = out * torch.sigmoid(total - s_aux.float())[..., None].to(out.dtype)
    return out[None], None


AttentionInterface.register(NAME, _packed_attention)
