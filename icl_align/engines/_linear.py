"""Matrix products of linear layers by oneDNN, in float32 on a CPU.

Plain `torch` multiplies float32 matrices with MKL, which on AMD processors uses half of their vector
width, and packs the weights again at every call. oneDNN, which `torch` carries for its compiler, does
neither; the arithmetic is float32 all the same (docs/performance.md has the figures).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from icl_align.engines._memory import free_bytes

_HINT = 32
"""Rows for which weights are laid out; other numbers of rows are right, and nearly as fast."""

_MEMORY_SHARE = 0.25
"""Share of the free memory that the second, laid-out copy of the weights may take."""


def use_onednn(model: Any) -> bool:
    """Makes a model's linear layers use oneDNN where that can be done; says whether it was."""
    layers = [m for m in model.modules() if type(m) in (nn.Linear, Conv1D)]
    weights = [layer.weight for layer in layers]
    fit = all(w.dtype == torch.float32 and w.device.type == "cpu" for w in weights)
    if not weights or not fit or not _works():
        return False
    free = free_bytes(torch.device("cpu"))
    lay_out = free is None or sum(w.nbytes for w in weights) <= _MEMORY_SHARE * free
    for layer in layers:
        layer.forward = _forward(layer, lay_out=lay_out)
    return True


def _forward(layer: Any, *, lay_out: bool) -> Callable[[torch.Tensor], torch.Tensor]:
    """The product of one layer; a `Conv1D` keeps its weight the other way round."""
    weight = layer.weight.detach()
    if type(layer) is Conv1D:
        weight = weight.t().contiguous()
    bias = None if layer.bias is None else layer.bias.detach()
    multiply = torch.ops.mkldnn._linear_pointwise.default
    if lay_out:
        weight = torch.ops.mkldnn._reorder_linear_weight(weight, _HINT)

    def forward(x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = multiply(x, weight, bias, "none", [], "")
        return out

    return forward


def _works() -> bool:
    """Whether this build of `torch` has these operators, and they give the right product."""
    if not torch.backends.mkldnn.is_available():
        return False
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(1, 5, 48, generator=generator), torch.randn(40, 48, generator=generator)
    layer = nn.Linear(48, 40)
    with torch.inference_mode():
        layer.weight.copy_(weight)
        expected = layer(x)
        try:
            found = [_forward(layer, lay_out=lay_out)(x) for lay_out in (False, True)]
        except (AttributeError, RuntimeError, NotImplementedError):
            return False
    return all(torch.allclose(expected, out, atol=1e-4) for out in found)
