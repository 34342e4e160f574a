"""How likely a model finds given texts, all of a batch in one forward pass, beginnings shared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from icl_align.engines._alone import judged
from icl_align.engines._forward import CHUNK, Forward
from icl_align.engines._row import Row

_LOGITS = 2**26
"""Most logits of one pass: 256 MiB in float32."""


def score(
    forward: Forward, rows: Sequence[Row], targets: Sequence[Sequence[int]]
) -> Iterator[tuple[Row, list[float], list[int]]]:
    """Gives log-probabilities and ranks of each row's targets, which follow its ids from `first`.

    Raises:
        UserError: memory does not hold one row.
    """
    wanted = dict(zip(rows, targets, strict=True))
    shared = forward.shared(rows)
    vocabulary = forward.model.config.get_text_config(decoder=True).vocab_size
    most = min(CHUNK, max(1, _LOGITS // vocabulary))
    for part in _chunks(sorted(rows, key=lambda row: row.order), most):
        last: list[int] = []
        at = 0
        for row in part:
            assert row.first is not None
            last += range(at + row.first - row.depth, at + len(row.ids) - row.depth)
            at += len(row.ids) - row.depth
        step, tokens, _ = forward.step([], part, None, shared)
        logits = forward.logits(step, tokens, last).float()
        logprobs, ranks = judged(logits, [token for row in part for token in wanted[row]])
        at = 0
        for row in part:
            end = at + len(wanted[row])
            yield row, logprobs[at:end], ranks[at:end]
            at = end
    forward.prefixes.trim()


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
