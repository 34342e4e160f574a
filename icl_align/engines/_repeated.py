"""Strategy `repeated`: rows behind one shared prefix whose keys and values are repeated per row.

For models whose attention cannot be computed in parts (biases by distance, attention of their own).
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from os.path import commonprefix
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from icl_align.engines._batches import in_batches
from icl_align.engines._memory import out_of_memory
from icl_align.engines._pick import Picker
from icl_align.engines._row import Row
from icl_align.engines._stop import Watcher
from icl_align.errors import UserError
from icl_align.types import Decoding, Response

_COMPACT_AT = 0.8
"""Share of rows still alive at which finished ones leave the batch; moving the cache costs time."""

_NEEDED = {"past_key_values", "position_ids", "attention_mask", "logits_to_keep"}
"""What a model's `forward` must take to be run by this loop."""


class RoomyLayer(DynamicLayer):
    """Keys and values of one layer in buffers with room for all that will be generated.

    Shapes: (rows, key-value heads, capacity, head dimension), filled up to `length`. The buffers
    are made at the first update, when the number of rows is known, and start with the prefix.
    """

    def __init__(self, prefix: DynamicLayer | None, length: int, capacity: int) -> None:
        """Stores where to start.

        Args:
            prefix: Keys and values of a prefix, (1, heads, >= length, dimension); None for none.
            length: How many of the prefix's positions count.
            capacity: Positions of prefix, suffix and completion.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.prefix, self.length, self.capacity = prefix, length, capacity
        self.buffers: list[torch.Tensor] = []

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes new states behind the filled part; gives all filled states."""
        if not self.is_initialized:
            self._make_room(key_states, value_states)
        end = self.length + key_states.shape[-2]
        self.buffers[0][:, :, self.length : end] = key_states
        self.buffers[1][:, :, self.length : end] = value_states
        self.length = end
        self.keys, self.values = (buffer[:, :, :end] for buffer in self.buffers)
        return self.keys, self.values

    def _make_room(self, *states: torch.Tensor) -> None:
        known = (None, None) if self.prefix is None else (self.prefix.keys, self.prefix.values)
        for old, new in zip(known, states, strict=True):
            rows, heads, _, width = new.shape
            buffer = new.new_empty((rows, heads, self.capacity, width))
            if old is not None:
                buffer[:, :, : self.length] = old[:, :, : self.length]
            self.buffers.append(buffer)
        self.dtype, self.device = states[0].dtype, states[0].device
        self.is_initialized = True

    def get_seq_length(self) -> int:
        """How many positions are filled."""
        return self.length

    def keep(self, rows: torch.Tensor) -> None:
        """Drops all rows but those given by index."""
        self.keys = self.values = (
            None  # views that would keep the old buffers until the next update
        )
        self.buffers = [buffer[rows] for buffer in self.buffers]


def window(model: Any) -> int:
    """Most positions (prompt and completion) of rows that `decode` can run; 0 if it cannot at all.

    Sliding attention sees everything while a row is no longer than the window. Caches of other
    kinds (states, chunks) and models that take no positions are left to `transformers`' own loop.
    """
    if not _NEEDED.issubset(inspect.signature(model.forward).parameters):
        return 0
    config = model.config.get_text_config(decoder=True)
    layers = DynamicCache(config=config).layers
    plain = all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)
    if not layers or not plain or getattr(config, "attention_chunk_size", None) is not None:
        return 0
    bounds = [x.sliding_window for x in layers if isinstance(x, DynamicSlidingWindowLayer)]
    return min([*bounds, short_rows(config) or sys.maxsize])


def short_rows(config: Any) -> int | None:
    """Up to which length rotary positions are those of a short row, where they depend on it.

    Such a model (LongRoPE, 2402.13753) turns all keys of a batch by its longest row.
    """
    rope = getattr(config, "rope_parameters", None) or {}
    parts = [part for part in (rope, *rope.values()) if isinstance(part, dict)]
    bounds = [
        part.get("original_max_position_embeddings", 1)
        for part in parts
        if part.get("rope_type") == "longrope"
    ]
    return min(bounds, default=None)


class Repeated:
    """Continues rows in batches; the prefix of the last call is remembered."""

    def __init__(self, model: Any, batch_size: int) -> None:
        """Stores a model that `window` has found fit, and most rows at once."""
        self.model, self.batch_size = model, batch_size
        self._prefix: tuple[list[int], list[DynamicLayer]] = ([], [])

    def run(
        self, rows: Sequence[Row], watcher: Watcher, decoding: Decoding
    ) -> Iterator[tuple[Row, Response]]:
        """Continues rows no longer than the window with their completions, batch by batch.

        Raises:
            UserError: memory does not hold one row.
        """
        shared = list(commonprefix([row.ids[:-1] for row in rows]))
        layers, fresh = self._encoded(shared)
        by_length = sorted(rows, key=lambda row: len(row.ids))
        for row in rows:
            row.depth, row.charged = len(shared), 0
        rows[0].charged = fresh
        by_index = {row.index: row for row in rows}

        def batch(part: Sequence[Row]) -> dict[int, Response]:
            return decode(self.model, part, len(shared), layers, watcher, decoding)

        batches = in_batches(by_length, self.batch_size, batch)
        while True:
            try:
                done = next(batches)
            except StopIteration as end:
                self.batch_size = end.value
                return
            for index, response in done.items():
                row = by_index[index]
                yield row, replace(response, reused_tokens=row.reused)

    def _encoded(self, prefix: list[int]) -> tuple[list[DynamicLayer], int]:
        """Keys and values of a prefix, and how many tokens had to be computed for them."""
        known, layers = self._prefix
        if known[: len(prefix)] == prefix:
            return (layers if prefix else []), 0
        self._prefix = ([], [])  # its memory is free before the next one takes some
        try:
            layers = encode_prefix(self.model, prefix)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise UserError(
                f"memory does not hold one row of {len(prefix)} tokens on {self.model.device}; "
                "use fewer exemplars, a smaller model or dtype"
            ) from error
        self._prefix = (prefix, layers)
        return layers, len(prefix)


def _depth(model: Any) -> int:
    return len(DynamicCache(config=model.config).layers)


def encode_prefix(model: Any, ids: Sequence[int]) -> list[DynamicLayer]:
    """Runs a prefix once; gives its keys and values layer by layer, batch size 1."""
    layers = [DynamicLayer() for _ in range(_depth(model))]
    cache = DynamicCache()
    cache.layers = list(layers)
    tokens = torch.tensor([list(ids)], device=model.device)
    with torch.inference_mode():
        model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return layers


def decode(
    model: Any,
    rows: Sequence[Row],
    shared: int,
    prefix: Sequence[DynamicLayer],
    watcher: Watcher,
    decoding: Decoding,
) -> dict[int, Response]:
    """Continues rows whose first `shared` tokens are in `prefix`, until each has finished.

    Args:
        model: A causal language model in evaluation mode.
        rows: What to continue, none longer than `window` with its completion.
        shared: How many leading tokens of each row the prefix covers, fewer than each row has.
        prefix: Keys and values of these tokens, or of more; empty where shared is 0.
        watcher: Says when a row has finished.
        decoding: How to sample.

    Returns:
        Responses by the rows' indices.
    """
    tokens, positions, mask = _padded(rows, shared, decoding.max_tokens, model.device)
    filled, capacity = shared + tokens.shape[1], mask.shape[1]
    layers = [RoomyLayer(layer, shared, capacity) for layer in prefix] or [
        RoomyLayer(None, 0, capacity) for _ in range(_depth(model))
    ]
    cache = DynamicCache()
    cache.layers = list(layers)
    picker = Picker(decoding, model.device)
    picker.join(rows)
    slots: list[Row | None] = list(rows)
    finished: dict[int, Response] = {}
    with torch.inference_mode():
        while True:
            logits = model(
                input_ids=tokens,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
                attention_mask=mask[:, :filled],
                position_ids=positions,
            ).logits[:, -1]
            chosen = picker(logits)
            for row, token in zip(slots, chosen.tolist(), strict=True):
                if row is not None:
                    row.new.append(token)
            for i, row in enumerate(slots):
                response = None if row is None else watcher(row, decoding.max_tokens)
                if row is not None and response is not None:
                    finished[row.index] = response
                    slots[i] = None
            alive = [i for i, row in enumerate(slots) if row is not None]
            if not alive:
                return finished
            tokens, positions = chosen[:, None], positions[:, -1:] + 1
            filled += 1
            if len(alive) <= _COMPACT_AT * len(slots):
                index = torch.tensor(alive, device=model.device)
                slots = [slots[i] for i in alive]
                tokens, positions, mask = tokens[index], positions[index], mask[index]
                picker.keep(alive)
                for layer in layers:
                    layer.keep(index)


def _padded(
    rows: Sequence[Row], shared: int, room: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Suffixes padded on the left, behind the prefix.

    Returns:
        Tokens and positions, both int64 (rows, widest suffix), and the mask over prefix, padding,
        suffix and completion, int64 (rows, shared + widest suffix + room).
    """
    width = max(len(row.ids) for row in rows) - shared
    tokens = torch.zeros((len(rows), width), dtype=torch.long)
    mask = torch.ones((len(rows), shared + width + room), dtype=torch.long)
    for i, row in enumerate(rows):
        row.new.clear()
        pad = shared + width - len(row.ids)
        tokens[i, pad:] = torch.tensor(row.ids[shared:])
        mask[i, shared : shared + pad] = 0
    positions = shared + mask[:, shared : shared + width].cumsum(1).sub(1).clamp(min=0)
    return tokens.to(device), positions.to(device), mask.to(device)
