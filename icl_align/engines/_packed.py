"""Strategy `packed`: rows join and leave one packed batch; each shared prefix is stored once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from icl_align.engines._alone import judged
from icl_align.engines._memory import free_bytes, out_of_memory
from icl_align.engines._pick import Picker
from icl_align.engines._prefixes import Prefixes, joined
from icl_align.engines._row import Row
from icl_align.engines._step import Shared, Slots, Step, running
from icl_align.engines._stop import Watcher
from icl_align.engines._trie import plan
from icl_align.errors import UserError
from icl_align.types import Decoding, Response

_CHUNK = 4096
"""Most tokens of one forward pass; more would only take memory."""

_LOGITS = 2**26
"""Most logits of one pass that scores texts: 256 MiB in float32."""

_JOIN_AT = 8
"""Waiting rows join when an eighth of the batch is free: each joining makes one step slower."""

_FIRST_ROOM = 64
"""Places for generated tokens at the beginning; buffers grow when a row needs more."""

_MEMORY_SHARE = 0.5
"""Share of the free memory that the rows' own keys and values may take."""


@dataclass(slots=True)
class _Batch:
    """Rows in their slots, and those that wait."""

    waiting: deque[Row]
    size: int
    rows: list[Row] = field(default_factory=list)


class Packed:
    """Continues and scores rows with a model whose attention can be computed in parts."""

    def __init__(self, model: Any, prefixes: Prefixes, batch_size: int) -> None:
        """Stores the collaborators.

        Args:
            model: A model that `splits` has found fit.
            prefixes: What is remembered between calls.
            batch_size: Most rows at once; halved when memory runs out.
        """
        self.model, self.prefixes, self.batch_size = model, prefixes, batch_size

    def run(
        self, rows: Sequence[Row], watcher: Watcher, decoding: Decoding
    ) -> Iterator[tuple[Row, Response]]:
        """Continues rows; gives each with its response as soon as it has finished.

        Raises:
            UserError: memory does not hold one row.
        """
        shared = self._encoded(rows)
        longest = max(len(row.ids) - row.depth for row in rows)
        size = self._fitting(rows, longest + decoding.max_tokens)
        batch = _Batch(deque(sorted(rows, key=lambda row: row.order)), size)
        slots = Slots(size, longest + min(decoding.max_tokens, _FIRST_ROOM))
        picker = Picker(decoding, self.model.device)
        while batch.waiting or batch.rows:
            joining = _joining(batch)
            most = max(len(row.ids) - row.depth for row in (*batch.rows, *joining))
            try:
                step, tokens, last = self._step(batch.rows, joining, slots, shared)
                slots.ensure(step.filled, most + decoding.max_tokens)
                logits = self._forward(step, tokens, last)
            except (RuntimeError, MemoryError) as error:
                batch.waiting.extendleft(reversed([*batch.rows, *joining]))
                batch.rows, picker = [], Picker(decoding, self.model.device)
                batch.size = self._less(error, batch, slots)
                slots = Slots(batch.size, slots.room)
                continue
            picker.join(joining)
            batch.rows += joining
            finished = []
            for slot, token in enumerate(picker(logits).tolist()):
                row = batch.rows[slot]
                row.new.append(token)
                response = watcher(row, decoding.max_tokens)
                if response is not None:
                    finished.append((slot, row, replace(response, reused_tokens=row.reused)))
            if finished:
                gone = {slot for slot, _, _ in finished}
                order = _closed_up(len(batch.rows), gone)
                if batch.waiting or order:
                    for target, source in enumerate(order):
                        if target != source:
                            slots.move(source, target)
                    batch.rows = [batch.rows[slot] for slot in order]
                    picker.keep(order)
                else:
                    batch.rows = []
                yield from ((row, response) for _, row, response in finished)
        self.prefixes.trim()

    def score(
        self, rows: Sequence[Row], targets: Sequence[Sequence[int]]
    ) -> Iterator[tuple[Row, list[float], list[int]]]:
        """Gives log-probabilities and ranks of each row's targets, which follow its ids from `first`.

        Raises:
            UserError: memory does not hold one row.
        """
        wanted = dict(zip(rows, targets, strict=True))
        shared = self._encoded(rows)
        vocabulary = self.model.config.get_text_config(decoder=True).vocab_size
        most = min(_CHUNK, max(1, _LOGITS // vocabulary))
        for part in _chunks(sorted(rows, key=lambda row: row.order), most):
            last: list[int] = []
            at = 0
            for row in part:
                assert row.first is not None
                last += range(at + row.first - row.depth, at + len(row.ids) - row.depth)
                at += len(row.ids) - row.depth
            step, tokens, _ = self._step([], part, None, shared)
            logits = self._forward(step, tokens, last).float()
            logprobs, ranks = judged(logits, [token for row in part for token in wanted[row]])
            at = 0
            for row in part:
                end = at + len(wanted[row])
                yield row, logprobs[at:end], ranks[at:end]
                at = end
        self.prefixes.trim()

    def encode(self, ancestors: Sequence[Shared], ids: Sequence[int], start: int) -> Shared:
        """Runs tokens that stand behind ancestors from a position on; see `Prefixes.reach`."""
        pieces: list[Shared] = []
        for at in range(0, len(ids), _CHUNK):
            part = ids[at : at + _CHUNK]
            positions = torch.arange(start + at, start + at + len(part), device=self.model.device)
            step = Step(positions, [*ancestors, *pieces], fresh=[len(part)])
            self._forward(step, part, [len(part) - 1])
            kept = [step.kept[layer] for layer in sorted(step.kept)]
            pieces.append(
                Shared(
                    [k.contiguous() for k, _ in kept], [v.contiguous() for _, v in kept], start + at
                )
            )
        return joined(pieces)

    def _encoded(self, rows: Sequence[Row]) -> list[tuple[Shared, frozenset[int]]]:
        """Encodes what rows share, notes it on them; gives each prefix with its rows' indices."""
        found: list[tuple[Shared, frozenset[int]]] = []
        for row in rows:
            row.depth = row.charged = 0
        places = plan(rows)
        for prefix in places:
            try:
                path, computed = self.prefixes.reach(prefix.rows[0].ids[: prefix.end], self.encode)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                raise UserError(
                    f"memory does not hold one row of {prefix.end} tokens on {self.model.device}; "
                    "use fewer exemplars, a smaller model or dtype"
                ) from error
            state = joined([piece for piece in path if piece.start >= prefix.start])
            found.append((state, frozenset(row.index for row in prefix.rows)))
            prefix.rows[0].charged += computed
            for row in prefix.rows:
                row.depth = prefix.end
        _put_in_order(rows)
        return found

    def _fitting(self, rows: Sequence[Row], longest: int) -> int:
        """How many rows with so many tokens of their own the free memory holds at once."""
        size = min(self.batch_size, len(rows))
        free = free_bytes(self.model.device)
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

    def _step(
        self,
        rows: Sequence[Row],
        joining: Sequence[Row],
        slots: Slots | None,
        shared: Sequence[tuple[Shared, frozenset[int]]],
    ) -> tuple[Step, list[int], list[int]]:
        """What the next forward pass does; its tokens, and which of their logits are wanted."""
        tokens = [row.new[-1] for row in rows]
        places = [len(row.ids) + len(row.new) - 1 - row.depth for row in rows]
        depths, owners = [row.depth for row in rows], [row.index for row in rows]
        which, fresh = list(range(len(rows))), []
        for slot, row in enumerate(joining, start=len(rows)):
            own = row.ids[row.depth :] + row.new
            tokens += own
            fresh.append(len(own))
            places += range(len(own))
            depths += [row.depth] * len(own)
            owners += [row.index] * len(own)
            which += [slot] * len(own)
        place = torch.tensor(places, device=self.model.device)
        seen = []
        for prefix, members in shared:
            index = [i for i, owner in enumerate(owners) if owner in members]
            if index:
                all_of_them = len(index) == len(owners)
                some = None if all_of_them else torch.tensor(index, device=self.model.device)
                seen.append(replace(prefix, tokens=some))
        step = Step(
            place + torch.tensor(depths, device=self.model.device),
            seen,
            running=len(rows),
            fresh=fresh,
            own=slots,
            places=(torch.tensor(which, device=self.model.device), place),
            filled=max(places) + 1,
        )
        last, at = list(range(len(rows))), len(rows)
        for length in fresh:
            at += length
            last.append(at - 1)
        return step, tokens, last

    def _forward(self, step: Step, tokens: Sequence[int], last: Sequence[int]) -> torch.Tensor:
        """Logits (wanted tokens, vocabulary) of a step."""
        device = self.model.device
        with torch.inference_mode(), running(self.model, step):
            logits: torch.Tensor = self.model(
                input_ids=torch.tensor([list(tokens)], device=device),
                position_ids=step.positions[None],
                use_cache=False,
                logits_to_keep=torch.tensor(list(last), device=device),
            ).logits[0]
        return logits


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
    tokens = 0
    while batch.waiting and len(found) < free:
        own = len(batch.waiting[0].ids) - batch.waiting[0].depth + len(batch.waiting[0].new)
        if found and tokens + own > _CHUNK:
            break
        tokens += own
        found.append(batch.waiting.popleft())
    return found


def _closed_up(count: int, gone: set[int]) -> list[int]:
    """Which slot's row each remaining slot holds after gaps are filled from the end."""
    order = list(range(count))
    for slot in sorted(gone, reverse=True):
        last = order.pop()
        if slot < len(order):
            order[slot] = last
    return order


def _put_in_order(rows: Sequence[Row]) -> None:
    """Rows of one prefix together, so that few prefixes are in use at once, the longest first."""
    for place, row in enumerate(sorted(rows, key=lambda r: (r.ids[: r.depth], -len(r.ids)))):
        row.order = place


def _chunks(rows: Sequence[Row], most: int) -> Iterator[list[Row]]:
    """Rows in parts of so many tokens of their own, or one row."""
    part: list[Row] = []
    tokens = 0
    for row in rows:
        own = len(row.ids) - row.depth
        if part and tokens + own > most:
            yield part
            part, tokens = [], 0
        part.append(row)
        tokens += own
    if part:
        yield part
