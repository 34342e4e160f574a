"""Strategy `alone`: one row at a time by `transformers`' own loop, whatever the model's cache is."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, StoppingCriteria

from icl_align.engines._batches import in_batches
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


class Alone:
    """Continues rows one after another."""

    def __init__(self, model: Any) -> None:
        """Stores any causal language model."""
        self.model = model

    def run(
        self, rows: Sequence[Row], watcher: Watcher, decoding: Decoding
    ) -> Iterator[tuple[Row, Response]]:
        """Continues each row by itself.

        Raises:
            UserError: memory does not hold one row.
        """

        def one_by_one(part: Sequence[Row]) -> dict[int, Response]:
            return {row.index: decode_alone(self.model, row, watcher, decoding) for row in part}

        for row in rows:
            row.depth = row.charged = 0
        for row, done in zip(rows, in_batches(rows, 1, one_by_one), strict=True):
            yield row, done[row.index]

    def score(
        self, rows: Sequence[Row], targets: Sequence[Sequence[int]]
    ) -> Iterator[tuple[Row, list[float], list[int]]]:
        """Gives log-probabilities and ranks of each row's targets, in one forward pass a row."""
        for row, wanted in zip(rows, targets, strict=True):
            assert row.first is not None
            row.depth = row.charged = 0
            with torch.inference_mode():
                tokens = torch.tensor([row.ids], device=self.model.device)
                logits = self.model(input_ids=tokens).logits[0, row.first :].float()
            yield row, *judged(logits, wanted)


def judged(logits: torch.Tensor, targets: Sequence[int]) -> tuple[list[float], list[int]]:
    """Log-probabilities and ranks of targets by logits (targets, vocabulary), float32."""
    chosen = torch.tensor(list(targets), device=logits.device)[:, None]
    picked = logits.gather(1, chosen)
    ranks = (logits > picked).sum(1).add(1)
    return (picked[:, 0] - logits.logsumexp(1)).tolist(), ranks.tolist()


def decode_alone(model: Any, row: Row, watcher: Watcher, decoding: Decoding) -> Response:
    """Continues one row, whatever the model keeps between its steps."""
    row.new.clear()
    ids = torch.tensor([row.ids], device=model.device)
    takes_mask = "attention_mask" in inspect.signature(model.forward).parameters
    mask = {"attention_mask": torch.ones_like(ids)} if takes_mask else {}
    ender = _Ender(row, watcher, decoding.max_tokens)
    picker = Picker(decoding, model.device)
    picker.join([row])
    model.generate(
        input_ids=ids,
        generation_config=GenerationConfig(max_new_tokens=decoding.max_tokens, do_sample=False),
        logits_processor=[_Chooser(row, picker)],
        stopping_criteria=[ender],
        **mask,
    )
    if ender.response is None:
        raise RuntimeError(f"generate() of {type(model).__name__} ended before its row did")
    return ender.response
