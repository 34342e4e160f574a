"""The decoding loop of engine `hf`: rows behind one shared prefix, each finishing by itself."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from icl_align.types import Decoding, Finish, Response

_COMPACT_AT = 0.8
"""Share of rows still alive at which finished ones leave the batch; moving the cache costs time."""


@dataclass
class Row:
    """One prompt being continued.

    Attributes:
        index: Its place in the request.
        ids: Its prompt's token ids.
        stream: Seed of its own random stream.
        new: Generated token ids so far.
    """

    index: int
    ids: list[int]
    stream: int
    new: list[int] = field(default_factory=list)


class RoomyLayer(DynamicLayer):
    """Keys and values of one layer in buffers that already have room for what will be generated.

    Shapes: (rows, key-value heads, capacity, head dimension), filled up to `length`.
    """

    def __init__(
        self, keys: torch.Tensor, values: torch.Tensor, rows: int, length: int, room: int
    ) -> None:
        """Repeats a prefix's keys and values, (1, heads, >= length, dim), for a number of rows."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.dtype, self.device = keys.dtype, keys.device
        self.buffers = []
        for states in (keys, values):
            _, heads, _, width = states.shape
            buffer = states.new_empty((rows, heads, length + room, width))
            buffer[:, :, :length] = states[:, :, :length]
            self.buffers.append(buffer)
        self.length = length
        self.is_initialized = True
        self._show()

    def _show(self) -> None:
        self.keys, self.values = (buffer[:, :, : self.length] for buffer in self.buffers)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes new states behind the filled part; gives all filled states."""
        end = self.length + key_states.shape[-2]
        self.buffers[0][:, :, self.length : end] = key_states
        self.buffers[1][:, :, self.length : end] = value_states
        self.length = end
        self._show()
        assert self.keys is not None
        assert self.values is not None
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """How many positions are filled."""
        return self.length

    def keep(self, rows: torch.Tensor) -> None:
        """Drops all rows but those given by index."""
        self.buffers = [buffer[rows] for buffer in self.buffers]
        self._show()


def shareable(model: Any) -> bool:
    """Whether rows of a model may share a prefix: plain attention caches, and positions that can be given."""
    layers = DynamicCache(config=model.config).layers
    plain = bool(layers) and all(type(layer) is DynamicLayer for layer in layers)
    return plain and "position_ids" in inspect.signature(model.forward).parameters


def encode_prefix(model: Any, ids: Sequence[int]) -> DynamicCache:
    """Runs a prefix once; gives its keys and values, batch size 1."""
    cache = DynamicCache(config=model.config)
    tokens = torch.tensor([list(ids)], device=model.device)
    model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return cache


def decode(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    shared: int,
    prefix: DynamicCache | None,
    stop: Sequence[str],
    decoding: Decoding,
) -> dict[int, Response]:
    """Continues rows whose first `shared` tokens are in `prefix`, until each has finished.

    Args:
        model: A causal language model in evaluation mode.
        tokenizer: Its tokenizer.
        rows: What to continue; a model that is not `shareable` takes one row at a time.
        shared: How many leading tokens of each row the prefix covers.
        prefix: Keys and values of these tokens, or of more; None when shared is 0.
        stop: Stop strings.
        decoding: How to sample.
    """
    for row in rows:
        row.new = []
    suffixes = [row.ids[shared:] for row in rows]
    width = max(len(suffix) for suffix in suffixes)
    device = model.device
    tokens = torch.zeros((len(rows), width), dtype=torch.long)
    mask = torch.ones((len(rows), shared + width + decoding.max_tokens), dtype=torch.long)
    for i, suffix in enumerate(suffixes):
        tokens[i, width - len(suffix) :] = torch.tensor(suffix)
        mask[i, shared : shared + width - len(suffix)] = 0
    tokens, mask = tokens.to(device), mask.to(device)
    positions = shared + mask[:, shared : shared + width].cumsum(1).sub(1).clamp(min=0)
    cache: Cache = DynamicCache(config=model.config)
    if prefix is not None:
        room = width + decoding.max_tokens
        cache.layers = [
            RoomyLayer(*_states(layer), len(rows), shared, room) for layer in prefix.layers
        ]
    picker, watcher = Picker(rows, decoding, device), Watcher(tokenizer, stop, model)
    slots: list[Row | None] = list(rows)
    finished: dict[int, Response] = {}
    filled = shared + width
    plain = len(rows) == 1 and prefix is None and not shareable(model)
    while True:
        extra = {} if plain else {"attention_mask": mask[:, :filled], "position_ids": positions}
        logits = model(
            input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1, **extra
        ).logits[:, -1]
        chosen = picker(logits)
        for i, token in enumerate(chosen.tolist()):
            slot = slots[i]
            if slot is None:
                continue
            slot.new.append(token)
            response = watcher(slot, decoding.max_tokens)
            if response is not None:
                slots[i] = None
                finished[slot.index] = replace(
                    response, prompt_tokens=len(slot.ids), reused_tokens=shared
                )
        alive = [i for i, row in enumerate(slots) if row is not None]
        if not alive:
            return finished
        tokens, positions = chosen[:, None], positions[:, -1:] + 1
        filled += 1
        if len(alive) <= _COMPACT_AT * len(
            slots
        ):  # finished rows leave, but not for every single one
            index = torch.tensor(alive, device=device)
            slots = [slots[i] for i in alive]
            tokens, positions, mask = tokens[index], positions[index], mask[index]
            picker.keep(alive)
            for layer in cache.layers:
                if isinstance(layer, RoomyLayer):
                    layer.keep(index)
                elif isinstance(layer, DynamicLayer):
                    layer.batch_select_indices(index)


def _states(layer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return layer.keys, layer.values


class Picker:
    """Chooses the next token of each row; rows do not depend on one another."""

    def __init__(self, rows: Sequence[Row], decoding: Decoding, device: torch.device) -> None:
        self.decoding, self.device = decoding, device
        self.rows = list(rows)
        self.streams = [np.random.default_rng(row.stream) for row in rows]
        self.seen: torch.Tensor | None = None

    def keep(self, rows: Sequence[int]) -> None:
        """Drops all rows but those given by index."""
        self.rows = [self.rows[i] for i in rows]
        self.streams = [self.streams[i] for i in rows]
        if self.seen is not None:
            self.seen = self.seen[torch.tensor(list(rows), device=self.seen.device)]

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
        """CTRL's repetition penalty (1909.05858): seen tokens' logits shrink."""
        if self.seen is None:
            self.seen = torch.zeros(logits.shape, dtype=torch.bool, device=logits.device)
            if self.decoding.repetition_scope == "all":
                for i, row in enumerate(self.rows):
                    self.seen[i, torch.tensor(row.ids, device=logits.device)] = True
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


class Watcher:
    """Sees when a row has finished: end of sequence, stop string, or the token bound."""

    def __init__(self, tokenizer: Any, stop: Sequence[str], model: Any) -> None:
        self.tokenizer, self.stop = tokenizer, tuple(stop)
        self.ends = _end_tokens(tokenizer, model)
        self._may_end: dict[int, bool] = {}

    def __call__(self, row: Row, bound: int) -> Response | None:
        """Gives the response of a row that has finished, None while it goes on."""
        last = row.new[-1]
        if last in self.ends:
            return self._response(row, self._text(row, row.new[:-1]), "stop")
        if self.stop and self._may_complete(last):
            text = self._text(row, row.new)
            if any(stop in text for stop in self.stop):
                return self._response(row, text, "stop")
        if len(row.new) >= bound:
            return self._response(row, self._text(row, row.new), "length")
        return None

    def _response(self, row: Row, text: str, finish: Finish) -> Response:
        cuts = [text.index(stop) for stop in self.stop if stop in text]
        return Response(
            text[: min(cuts)] if cuts else text, len(row.new), "stop" if cuts else finish
        )

    def _may_complete(self, token: int) -> bool:
        """Whether a token's text can hold the last character of a stop string; decoding waits for that."""
        if token not in self._may_end:
            piece = self._decoded([token])
            last = {stop[-1] for stop in self.stop}
            # A part of a character, or a space that a tokenizer strips from a token by itself, may be it.
            unclear = not piece or "\ufffd" in piece or " " in last
            self._may_end[token] = unclear or any(end in piece for end in last)
        return self._may_end[token]

    def _text(self, row: Row, new: Sequence[int]) -> str:
        """The generated text; decoded behind the prompt's last token, where tokenizers keep a leading space."""
        head = row.ids[-1:]
        before = self._decoded(head)
        whole = self._decoded([*head, *new])
        return whole[len(before) :] if whole.startswith(before) else self._decoded(list(new))

    def _decoded(self, ids: Sequence[int]) -> str:
        text = self.tokenizer.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return str(text)


def _end_tokens(tokenizer: Any, model: Any) -> set[int]:
    """All end-of-sequence tokens that model, generation configuration or tokenizer name."""
    found: set[int] = set()
    config = getattr(model, "generation_config", None)
    for value in (
        getattr(config, "eos_token_id", None),
        model.config.eos_token_id,
        tokenizer.eos_token_id,
    ):
        found |= (
            set(value)
            if isinstance(value, list | tuple)
            else {value}
            if value is not None
            else set()
        )
    return found
