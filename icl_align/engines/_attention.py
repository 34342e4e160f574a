"""Attention over a part of the keys, with what is needed to add parts up.

A softmax can be computed in parts: with the logarithm of each part's sum of exponentials, the parts
add up exactly (FlashAttention's running softmax, 2205.14135, section 3.1; cascade inference).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

_FAR = -1e4
"""Added to a score that does not count; finite, so that a row that sees no key stays a number."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a layer's attention asks for beside queries, keys and values."""

    scale: float
    window: int | None
    softcap: float | None


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    rule: Rule,
    *,
    mask: torch.Tensor | None = None,
    causal: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention with its log-sum-exp, by the device's fused kernel where it can.

    Args:
        query: (rows, heads, tokens, dimension).
        key: (rows, heads, keys, dimension).
        value: (rows, heads, keys, value dimension).
        rule: Scale and soft cap.
        mask: Added to the scores; broadcasts to (rows, heads, tokens, keys).
        causal: Whether token i sees keys 0 to i only; not together with a mask.

    Returns:
        Outputs (rows, heads, tokens, value dimension), and natural logarithms of the sums of
        exponentials, float32 (rows, heads, tokens).
    """
    aten = torch.ops.aten
    if rule.softcap is None and key.shape[-1] == value.shape[-1]:
        if query.device.type == "cpu":
            few = query.shape[0] > 1 and query.shape[2] > 1 and not causal
            if not few:  # measured: many small products are faster as batched ones
                out, total = aten._scaled_dot_product_flash_attention_for_cpu(
                    query, key, value, is_causal=causal, attn_mask=mask, scale=rule.scale
                )
                return out, total.float()
        elif mask is None and query.dtype in (torch.float16, torch.bfloat16):
            out, total, *_ = aten._scaled_dot_product_flash_attention(
                query, key, value, is_causal=causal, scale=rule.scale
            )
            return out, total[..., : query.shape[2]]
    scores = torch.matmul(query, key.transpose(-1, -2)).float().mul_(rule.scale)
    if rule.softcap is not None:
        scores = scores.div_(rule.softcap).tanh_().mul_(rule.softcap)
    if causal:
        ahead = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores.masked_fill_(ahead, _FAR)
    elif mask is not None:
        scores += mask
    top = scores.amax(-1, keepdim=True)
    weights = scores.sub_(top).exp_()
    mass = weights.sum(-1, keepdim=True)
    out = torch.matmul(weights.to(value.dtype), value) / mass.to(value.dtype)
    return out, (top + mass.log())[..., 0]


def merged(
    one: torch.Tensor, one_total: torch.Tensor, other: torch.Tensor, other_total: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Two parts of one softmax put together."""
    share = torch.sigmoid(one_total - other_total)[..., None].to(one.dtype)
    return torch.lerp(other, one, share), torch.logaddexp(one_total, other_total)


def mask_of(visible: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Zero where visible, far below elsewhere."""
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(
        ~visible, _FAR
    )
