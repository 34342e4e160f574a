"""One forward pass over packed tokens: which of them see which keys, layer by layer.

The tokens of all rows stand behind one another, without padding. A prefix that several rows share has
its keys and values stored once, and all of these rows' tokens attend to it together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from icl_align.engines._attention import Rule, attention, mask_of, merged


@dataclass(slots=True)
class Shared:
    """Keys and values that several packed tokens see, all of them before any of these tokens.

    Attributes:
        keys: One tensor a layer, (1, key-value heads, length, head dimension).
        values: Likewise.
        start: Position of the first key.
        tokens: Which of the packed tokens see them, int64; None for all.
    """

    keys: Sequence[torch.Tensor]
    values: Sequence[torch.Tensor]
    start: int
    tokens: torch.Tensor | None = None


class Slots:
    """What rows have of their own: keys and values of the tokens behind their shared prefix.

    Buffers of each layer are (slots, key-value heads, room, head dimension), made when the first
    token comes, when the shapes are known.
    """

    def __init__(self, slots: int, room: int) -> None:
        self.slots, self.room = slots, room
        self.keys: dict[int, torch.Tensor] = {}
        self.values: dict[int, torch.Tensor] = {}

    def write(
        self,
        layer: int,
        at: tuple[torch.Tensor, torch.Tensor],
        key: torch.Tensor,
        value: torch.Tensor,
    ) -> None:
        """Stores keys and values, (tokens, heads, dimension), at (slot, place) of each token."""
        for buffers, new in ((self.keys, key), (self.values, value)):
            if layer not in buffers:
                _, heads, width = new.shape
                buffers[layer] = new.new_zeros((self.slots, heads, self.room, width))
            buffers[layer][at[0], :, at[1]] = new

    @torch.inference_mode()
    def ensure(self, room: int, most: int) -> None:
        """Makes room for at least so many tokens a row, growing by half but not beyond `most`."""
        if room <= self.room:
            return
        self.room = min(max(room, self.room * 3 // 2), max(room, most))
        for buffers in (self.keys, self.values):
            for layer, old in buffers.items():
                slots, heads, length, width = old.shape
                buffers[layer] = old.new_zeros((slots, heads, self.room, width))
                buffers[layer][:, :, :length] = old

    @torch.inference_mode()
    def move(self, source: int, target: int) -> None:
        """Copies what one slot holds to another."""
        for buffers in (self.keys, self.values):
            for buffer in buffers.values():
                buffer[target] = buffer[source]


@dataclass(slots=True)
class Step:
    """One forward pass over packed tokens: first one token of each running row, then new rows.

    Attributes:
        positions: Position of each token, int64 (tokens,).
        shared: Prefixes, in the order of their positions.
        running: How many of the leading tokens belong to running rows, which are those of slots
            0, 1, 2, ...
        fresh: Numbers of tokens of the new rows behind them; each sees its shared prefixes and itself.
        own: The rows' own keys and values; None where nothing is stored in slots.
        places: Slot and place of each token there.
        filled: Places that the fullest of the running rows uses, this step's included.
        kept: Keys and values of all tokens by layer where there are no slots, as `Shared` has them.
        windows: The window that each layer asked for.
    """

    positions: torch.Tensor
    shared: Sequence[Shared] = ()
    running: int = 0
    fresh: Sequence[int] = ()
    own: Slots | None = None
    places: tuple[torch.Tensor, torch.Tensor] | None = None
    filled: int = 0
    kept: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    windows: dict[int, int | None] = field(default_factory=dict)
    _masks: dict[object, torch.Tensor] = field(default_factory=dict)
    _padding: tuple[torch.Tensor, torch.Tensor] | None = None

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rule: Rule
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Attention of one layer.

        Args:
            layer: The layer's index.
            query: (1, heads, tokens, dimension).
            key: (1, key-value heads, tokens, dimension); those of the packed tokens only.
            value: Likewise.
            rule: What else the layer asks for.

        Returns:
            Outputs (tokens, heads, value dimension) and their log-sum-exp, float32 (tokens, heads).
        """
        self.windows[layer] = rule.window
        if self.own is None:
            self.kept[layer] = (key, value)
        else:
            assert self.places is not None
            self.own.write(layer, self.places, key[0].transpose(0, 1), value[0].transpose(0, 1))
        parts = []
        if self.running:
            parts.append(self._running(layer, query, rule))
        if self.fresh:
            behind = slice(self.running, None)
            parts.append(
                self._fresh(query[:, :, behind], key[:, :, behind], value[:, :, behind], rule)
            )
        found, total = (
            parts[0]
            if len(parts) == 1
            else tuple(torch.cat(both) for both in zip(*parts, strict=True))
        )
        for prefix in self.shared:
            found, total = self._join(layer, query, rule, prefix, found, total)
        return found, total

    def _running(
        self, layer: int, query: torch.Tensor, rule: Rule
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The running rows' tokens on what is in their own slots."""
        assert self.own is not None
        assert self.places is not None
        count, length = self.running, self.filled
        keys = self.own.keys[layer][:count, :, :length]
        values = self.own.values[layer][:count, :, :length]
        heads, width = query.shape[1], query.shape[-1]
        queries = query[0, :, :count].transpose(0, 1).reshape(count, keys.shape[1], -1, width)
        mask = self._masks.get(rule.window)
        if mask is None:
            place, column = self.places[1][:count, None], torch.arange(length, device=query.device)
            visible = column <= place
            if rule.window is not None:
                visible &= place - column < rule.window
            mask = mask_of(visible[:, None, None], query.dtype)
            self._masks[rule.window] = mask
        out, total = attention(queries, keys, values, rule, mask=mask)
        return out.reshape(count, heads, -1), total.reshape(count, heads)

    def _fresh(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rule: Rule
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The new rows' tokens on themselves, causally; rows padded behind to the longest."""
        rows, longest, heads = len(self.fresh), max(self.fresh), query.shape[1]
        ragged = rows * longest != sum(self.fresh)
        if ragged and self._padding is None:
            lengths = torch.tensor(self.fresh)
            column = torch.arange(longest)
            within = column < lengths[:, None]
            first = lengths.cumsum(0) - lengths
            grid = (first[:, None] + column.clamp(max=longest - 1)).clamp(
                max=int(lengths.sum()) - 1
            )
            flat = within.flatten().nonzero()[:, 0]
            self._padding = (grid.flatten().to(query.device), flat.to(query.device))

        def blocks(states: torch.Tensor) -> torch.Tensor:
            packed = states[0].transpose(0, 1)  # (tokens, heads, dimension)
            if ragged:
                assert self._padding is not None
                packed = packed[self._padding[0]]
            return packed.reshape(rows, longest, *packed.shape[1:]).transpose(1, 2)

        mask = None
        if rule.window is not None and longest > rule.window:
            place = torch.arange(longest, device=query.device)
            behind = place[:, None] - place
            mask = mask_of(((behind >= 0) & (behind < rule.window))[None, None], query.dtype)
        queries, keys, values = blocks(query), blocks(key), blocks(value)
        groups = heads // keys.shape[1]
        if groups > 1:
            keys, values = keys.repeat_interleave(groups, 1), values.repeat_interleave(groups, 1)
        out, total = attention(queries, keys, values, rule, mask=mask, causal=mask is None)
        out = out.transpose(1, 2).reshape(rows * longest, heads, -1)
        total = total.transpose(1, 2).reshape(rows * longest, heads)
        if ragged:
            assert self._padding is not None
            out, total = out[self._padding[1]], total[self._padding[1]]
        return out, total

    def _join(
        self,
        layer: int,
        query: torch.Tensor,
        rule: Rule,
        prefix: Shared,
        found: torch.Tensor,
        total: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Adds what a shared prefix contributes."""
        keys, values, positions, start = (
            prefix.keys[layer],
            prefix.values[layer],
            self.positions,
            prefix.start,
        )
        if prefix.tokens is not None:
            query, positions = query[:, :, prefix.tokens], positions[prefix.tokens]
        mask = None
        if rule.window is not None:
            hidden = max(0, int(positions.min()) - rule.window + 1 - start)
            keys, values, start = keys[:, :, hidden:], values[:, :, hidden:], start + hidden
            if not keys.shape[2]:
                return found, total
            if int(positions.max()) - start >= rule.window:
                column = start + torch.arange(keys.shape[2], device=query.device)
                mask = mask_of((positions[:, None] - column < rule.window)[None, None], query.dtype)
        heads, tokens, width = query.shape[1:]
        groups = heads // keys.shape[1]
        queries = query.reshape(1, keys.shape[1], groups * tokens, width)
        if mask is not None and groups > 1:
            mask = mask.repeat(1, 1, groups, 1)
        out, log_sum = attention(queries, keys, values, rule, mask=mask)
        out = out.reshape(heads, tokens, -1).transpose(0, 1)
        log_sum = log_sum.reshape(heads, tokens).transpose(0, 1)
        if prefix.tokens is None:
            return merged(found, total, out, log_sum)
        some, their_total = merged(found[prefix.tokens], total[prefix.tokens], out, log_sum)
        return found.index_copy(0, prefix.tokens, some), total.index_copy(
            0, prefix.tokens, their_total
        )
