"""How likely a model finds given texts, all of a batch in one forward pass, beginnings shared."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from icl_align.engines._alone import judged
from icl_align.engines._forward import CHUNK, Forward
from icl_align.engines._memory import out_of_memory
from icl_align.engines._row import Row
from icl_align.errors import UserError

_LOGITS = 2**26
"""Most logits of one pass: 256 MiB in float32."""


def score(
    forward: Forward, rows: Sequence[Row], targets: Sequence[Sequence[int]]
) -> Iterator[tuple[Row, list[float], list[int]]]:
    """Gives log-probabilities and ranks of each row's targets, which follow its ids from `first`.

    Raises:
        UserError: memory does not hold one of the texts.
    """
    wanted = dict(zip(rows, targets, strict=True))
    shared = forward.shared(rows)
    vocabulary = forward.model.config.get_text_config(decoder=True).vocab_size
    most = min(CHUNK, max(1, _LOGITS // vocabulary))
    waiting = deque(_chunks(sorted(rows, key=lambda row: row.order), most))
    while waiting:
        part = waiting.popleft()
        last: list[int] = []
        at = 0
        for row in part:
            assert row.first is not None
            last += range(at + row.first - row.depth, at + row.own)
            at += row.own
        step, tokens, _ = forward.step([], part, None, shared)
        try:
            logits = forward.logits(step, tokens, last).float()
            logprobs, ranks = judged(logits, [token for row in part for token in wanted[row]])
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if len(part) == 1:
                raise UserError(
                    f"memory does not hold one text of {len(part[0].ids) + 1} tokens; score shorter "
                    "texts, or use a smaller model or dtype"
                ) from error
            waiting.extendleft([part[len(part) // 2 :], part[: len(part) // 2]])
            continue
        at = 0
        for row in part:
            end = at + len(wanted[row])
            yield row, logprobs[at:end], ranks[at:end]
            at = end
    forward.prefixes.trim()


def _chunks(rows: Sequence[Row], most: int) -> Iterator[list[Row]]:
    """Rows in parts of so many tokens of their own, or one row."""
    part: list[Row] = []
    longest = 0
    for row in rows:
        longest = max(longest, row.own)
        if part and longest * (len(part) + 1) > most:  # they will be padded to the longest
            yield part
            part, longest = [], row.own
        part.append(row)
    if part:
        yield part
