"""A model's forward pass over packed rows: encodes what they share, then runs what is their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from icl_align.engines._interface import running
from icl_align.engines._memory import out_of_memory
from icl_align.engines._prefixes import Prefixes, joined
from icl_align.engines._row import Row
from icl_align.engines._step import Shared, Slots, Step
from icl_align.engines._trie import plan
from icl_align.errors import UserError

CHUNK = 4096
"""Most tokens of one forward pass; more would only take memory."""

Prefixed = tuple[Shared, frozenset[int]]
"""A shared prefix, and the indices of the rows that see it."""


class Forward:
    """Runs a model whose attention can be computed in parts."""

    def __init__(self, model: Any, prefixes: Prefixes) -> None:
        """Stores the collaborators.

        Args:
            model: A model that `unsplittable` has found fit.
            prefixes: What is remembered between calls.
        """
        self.model, self.prefixes = model, prefixes

    def encode(self, ancestors: Sequence[Shared], ids: Sequence[int], start: int) -> Shared:
        """Runs tokens that stand behind ancestors from a position on; see `Prefixes.reach`."""
        pieces: list[Shared] = []
        for at in range(0, len(ids), CHUNK):
            part = ids[at : at + CHUNK]
            positions = torch.arange(start + at, start + at + len(part), device=self.model.device)
            step = Step(positions, [*ancestors, *pieces], fresh=[len(part)])
            self.logits(step, part, [len(part) - 1])
            kept = [step.kept[layer] for layer in sorted(step.kept)]
            pieces.append(
                Shared(
                    [k.contiguous() for k, _ in kept], [v.contiguous() for _, v in kept], start + at
                )
            )
        return joined(pieces)

    def shared(self, rows: Sequence[Row]) -> list[Prefixed]:
        """Encodes what rows share, notes it on them; gives each prefix with its rows' indices."""
        found: list[Prefixed] = []
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

    def step(
        self,
        rows: Sequence[Row],
        joining: Sequence[Row],
        slots: Slots | None,
        shared: Sequence[Prefixed],
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

    def logits(self, step: Step, tokens: Sequence[int], last: Sequence[int]) -> torch.Tensor:
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


def _put_in_order(rows: Sequence[Row]) -> None:
    """Rows of one prefix together, so that few prefixes are in use at once, the longest first."""
    for place, row in enumerate(sorted(rows, key=lambda r: (r.ids[: r.depth], -len(r.ids)))):
        row.order = place
