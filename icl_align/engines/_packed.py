"""Strategy `packed`: rows join and leave one packed batch; each shared prefix is stored once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from icl_align.engines._forward import CHUNK, Forward
from icl_align.engines._memory import free_bytes, out_of_memory
from icl_align.engines._pick import Picker
from icl_align.engines._prefixes import Prefixes
from icl_align.engines._row import Row
from icl_align.engines._score import score
from icl_align.engines._step import Slots
from icl_align.engines._stop import Watcher
from icl_align.engines._trie import plan
from icl_align.errors import UserError
from icl_align.types import Decoding, Response

_JOIN_AT = 8
"""Waiting rows join when an eighth of the batch is free: each joining makes one step slower."""

_FIRST_ROOM = 64
"""Places for generated tokens at the beginning; buffers grow when a row needs more."""

_MEMORY_SHARE = 0.5
"""Share of the free memory that the rows' own keys and values may take."""

_PREFIX_SHARE = 0.25
"""Share of it that the prefixes of rows run together may take."""


@dataclass(slots=True)
class _Batch:
    """Rows in their slots, and those that wait."""

    waiting: deque[Row]
    size: int
    rows: list[Row] = field(default_factory=list)


class Packed:
    """Continues and scores rows with a model whose attention can be computed in parts."""

    def __init__(
        self,
        model: Any,
        prefixes: Prefixes,
        batch_size: int,
        free: Callable[[torch.device], int | None] = free_bytes,
    ) -> None:
        """Stores the collaborators.

        Args:
            model: A model that `unsplittable` has found fit.
            prefixes: What is remembered between calls.
            batch_size: Most rows at once; halved when memory runs out.
            free: Tells a device's free memory in bytes; None if that is unknown.
        """
        self.model, self.prefixes, self.batch_size = model, prefixes, batch_size
        self.free = free
        self.forward = Forward(model, prefixes)

    def run(
        self, rows: Sequence[Row], watcher: Watcher, decoding: Decoding
    ) -> Iterator[tuple[Row, Response]]:
        """Continues rows; gives each with its response as soon as it has finished.

        Raises:
            UserError: memory does not hold one row.
        """
        for wave in self._waves(sorted(rows, key=lambda row: row.ids)):
            yield from self._run(wave, watcher, decoding)
            self.prefixes.trim()

    def _run(
        self, rows: Sequence[Row], watcher: Watcher, decoding: Decoding
    ) -> Iterator[tuple[Row, Response]]:
        """Continues rows whose prefixes memory holds together."""
        shared = self.forward.shared(rows)
        longest = max(len(row.ids) - row.depth for row in rows)
        size = self._fitting(rows, longest + decoding.max_tokens)
        batch = _Batch(deque(sorted(rows, key=lambda row: row.order)), size)
        slots = Slots(size, longest + min(decoding.max_tokens, _FIRST_ROOM))
        picker = Picker(decoding, self.model.device)
        while batch.waiting or batch.rows:
            joining = _joining(batch)
            most = max(len(row.ids) - row.depth for row in (*batch.rows, *joining))
            try:
                step, tokens, last = self.forward.step(batch.rows, joining, slots, shared)
                slots.ensure(step.filled, most + decoding.max_tokens)
                logits = self.forward.logits(step, tokens, last)
                picker.join(joining)
                chosen = picker(logits).tolist()
            except (RuntimeError, MemoryError) as error:
                batch.waiting.extendleft(reversed([*batch.rows, *joining]))
                batch.rows, picker = [], Picker(decoding, self.model.device)
                batch.size = self._less(error, batch, slots)
                slots = Slots(batch.size, slots.room)
                continue
            batch.rows += joining
            finished: dict[int, tuple[Row, Response]] = {}
            for slot, (row, token) in enumerate(zip(batch.rows, chosen, strict=True)):
                row.new.append(token)
                response = watcher(row, decoding.max_tokens)
                if response is not None:
                    finished[slot] = (row, replace(response, reused_tokens=row.reused))
            if finished:
                order = _closed_up(len(batch.rows), finished.keys())
                for target, source in enumerate(order):
                    if target != source:
                        slots.move(source, target)
                batch.rows = [batch.rows[slot] for slot in order]
                picker.keep(order)
                yield from finished.values()

    def score(
        self, rows: Sequence[Row], targets: Sequence[Sequence[int]]
    ) -> Iterator[tuple[Row, list[float], list[int]]]:
        """Scores texts; see `icl_align.engines._score.score`."""
        return score(self.forward, rows, targets)

    def _waves(self, rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
        """Sorted rows in parts whose prefixes take a bounded share of the memory together."""
        free = self.free(self.model.device)
        tokens = sum(prefix.end - prefix.start for prefix in plan(rows))
        if (
            free is None
            or len(rows) == 1
            or tokens * token_bytes(self.model) <= free * _PREFIX_SHARE
        ):
            yield rows
        else:
            yield from self._waves(rows[: len(rows) // 2])
            yield from self._waves(rows[len(rows) // 2 :])

    def _fitting(self, rows: Sequence[Row], longest: int) -> int:
        """How many rows with so many tokens of their own the free memory holds at once."""
        size = min(self.batch_size, len(rows))
        free = self.free(self.model.device)
        if free is None:
            return size
        return max(1, min(size, int(free * _MEMORY_SHARE / (longest * token_bytes(self.model)))))

    def _less(self, error: BaseException, batch: _Batch, slots: Slots) -> int:
        """The batch size to go on with after an error, if it says that memory ran out."""
        if not out_of_memory(error):
            raise error
        tried = min(batch.size, len(batch.waiting))
        if tried <= 1:
            row = batch.waiting[0]
            raise UserError(
                f"memory does not hold one row of {len(row.ids)} tokens and its completion; "
                "use a shorter prompt, a lower max_tokens, a smaller model or dtype"
            ) from error
        slots.keys.clear()
        slots.values.clear()
        self.prefixes.clear()
        torch.cuda.empty_cache()  # does nothing without CUDA
        self.batch_size = tried // 2
        return tried // 2


def token_bytes(model: Any) -> int:
    """Bytes of one token's keys and values in all layers, from the configuration."""
    config = model.config.get_text_config(decoder=True)
    heads = config.num_attention_heads
    kept = getattr(config, "num_key_value_heads", None) or heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    return int(2 * config.num_hidden_layers * kept * width * model.dtype.itemsize)


def _joining(batch: _Batch) -> list[Row]:
    """Takes rows that may join now: as many as have place, within the tokens of one pass."""
    free = batch.size - len(batch.rows)
    if batch.rows and free < max(1, batch.size // _JOIN_AT):
        return []
    found: list[Row] = []
    longest = 0
    while batch.waiting and len(found) < free:
        longest = max(longest, batch.waiting[0].own)
        if found and longest * (len(found) + 1) > CHUNK:  # they will be padded to the longest
            break
        found.append(batch.waiting.popleft())
    return found


def _closed_up(count: int, gone: Collection[int]) -> list[int]:
    """Which slot's row each remaining slot holds after gaps are filled from the end."""
    order = list(range(count))
    for slot in sorted(gone, reverse=True):
        last = order.pop()
        if slot < len(order):
            order[slot] = last
    return order
