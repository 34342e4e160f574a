"""One row at a time by `transformers`' own loop, for models whose cache `decode` cannot share."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, StoppingCriteria

from icl_align.engines._pick import Picker
from icl_align.engines._row import Row
from icl_align.engines._stop import Watcher
from icl_align.types import Decoding, Response


class _Chooser(LogitsProcessor):
    """Leaves `generate` no choice but the token that our picker chose."""

    def __init__(self, row: Row, picker: Picker) -> None:
        self.row, self.picker = row, picker

    def __call__(self, _input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Gives scores of which all but the chosen token's are minus infinity."""
        chosen = self.picker(scores)
        self.row.new.append(int(chosen))
        return torch.full_like(scores, -torch.inf).scatter(1, chosen[:, None], 0.0)


class _Ender(StoppingCriteria):
    """Ends `generate` when our watcher has a response."""

    def __init__(self, row: Row, watcher: Watcher, bound: int) -> None:
        self.row, self.watcher, self.bound = row, watcher, bound
        self.response: Response | None = None

    def __call__(self, input_ids: torch.Tensor, _scores: Any, **_kwargs: Any) -> Any:
        """Gives whether the only row is done, bool (1,)."""
        self.response = self.watcher(self.row, self.bound)
        return torch.tensor([self.response is not None], device=input_ids.device)


def decode_alone(model: Any, row: Row, watcher: Watcher, decoding: Decoding) -> Response:
    """Continues one row, whatever the model keeps between its steps."""
    row.new.clear()
    ids = torch.tensor([row.ids], device=model.device)
    takes_mask = "attention_mask" in inspect.signature(model.forward).parameters
    mask = {"attention_mask": torch.ones_like(ids)} if takes_mask else {}
    ender = _Ender(row, watcher, decoding.max_tokens)
    model.generate(
        input_ids=ids,
        generation_config=GenerationConfig(max_new_tokens=decoding.max_tokens, do_sample=False),
        logits_processor=[_Chooser(row, Picker([row], decoding, model.device))],
        stopping_criteria=[ender],
        **mask,
    )
    if ender.response is None:
        raise RuntimeError(f"generate() of {type(model).__name__} ended before its row did")
    return ender.response
