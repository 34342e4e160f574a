"""Which token comes next: greedy or sampled, with CTRL's repetition penalty, row by row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from icl_align.engines._row import Row
from icl_align.types import Decoding


class Picker:
    """Chooses the next token of each row; rows do not depend on one another."""

    def __init__(self, decoding: Decoding, device: torch.device) -> None:
        self.decoding, self.device = decoding, device
        self.rows: list[Row] = []
        self.streams: list[np.random.Generator] = []
        self.seen: torch.Tensor | None = None
        """Which tokens are penalised, bool (rows, vocabulary)."""

    def join(self, rows: Sequence[Row]) -> None:
        """Adds rows behind the others; what they have generated so far counts."""
        self.rows += rows
        for row in rows:
            stream = np.random.default_rng(row.stream)
            stream.random(len(row.new))
            self.streams.append(stream)

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        """Drops all rows but those given by index, which get the given order."""
        self.rows = [self.rows[i] for i in rows]
        self.streams = [self.streams[i] for i in rows]
        if self.seen is not None:
            self.seen = self.seen[
                torch.tensor(list(rows), dtype=torch.long, device=self.seen.device)
            ]

    @torch.inference_mode()
    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        """Gives the chosen token ids, int64 (rows,), from logits (rows, vocabulary)."""
        logits = logits.float()
        if self.decoding.repetition_penalty != 1:
            logits = self._penalised(logits)
        greedy = self.decoding.temperature == 0
        chosen = logits.argmax(-1) if greedy else self._sampled(logits)
        if self.seen is not None:
            self.seen.scatter_(1, chosen[:, None], value=True)
        return chosen

    def _penalised(self, logits: torch.Tensor) -> torch.Tensor:
        """CTRL's penalty (1909.05858): seen logits are divided, negative ones multiplied."""
        known = 0 if self.seen is None else len(self.seen)
        if self.seen is None or known < len(self.rows):
            fresh = torch.zeros_like(logits[known:], dtype=torch.bool)
            for i, row in enumerate(self.rows[known:]):
                before = row.ids if self.decoding.repetition_scope == "all" else []
                fresh[i, torch.tensor(before + row.new, dtype=torch.long, device=fresh.device)] = (
                    True
                )
            self.seen = fresh if self.seen is None else torch.cat([self.seen, fresh])
        penalty = self.decoding.repetition_penalty
        punished = torch.where(logits < 0, logits * penalty, logits / penalty)
        return torch.where(self.seen, punished, logits)

    def _sampled(self, logits: torch.Tensor) -> torch.Tensor:
        """Inverse-CDF sampling in float64, one uniform number per row and step."""
        uniform = torch.tensor([stream.random() for stream in self.streams], dtype=torch.float64)
        probabilities = (logits.double() / self.decoding.temperature).softmax(-1)
        order = None
        if self.decoding.top_p < 1:
            probabilities, order = probabilities.sort(dim=-1, descending=True, stable=True)
            before = probabilities.cumsum(-1) - probabilities
            probabilities = probabilities.masked_fill(before >= self.decoding.top_p, 0.0)
        cumulative = probabilities.cumsum(-1)
        target = uniform.to(logits.device)[:, None] * cumulative[:, -1:]
        place = torch.searchsorted(cumulative, target, right=True)
        last = (probabilities > 0).long().cumsum(-1).argmax(-1, keepdim=True)
        place = torch.minimum(place, last)
        return (place if order is None else order.gather(1, place))[:, 0]
