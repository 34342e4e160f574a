"""Rows in batches that halve when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

import torch

from icl_align.engines._memory import out_of_memory
from icl_align.engines._row import Row
from icl_align.errors import UserError
from icl_align.types import Response


def in_batches(
    rows: Sequence[Row], size: int, run: Callable[[Sequence[Row]], dict[int, Response]]
) -> Generator[dict[int, Response], None, int]:
    """Runs rows in batches; a batch that memory does not hold is run again in halves.

    Args:
        rows: What to run.
        size: Most rows of a batch, >= 1.
        run: Gives the responses of a batch by the rows' indices.

    Yields:
        The responses of each batch.

    Returns:
        The size that memory held.

    Raises:
        UserError: memory does not hold one row.
    """
    start = 0
    while start < len(rows):
        part = rows[start : start + size]
        done = _attempt(part, run)
        if done is None:
            size = len(part) // 2
            torch.cuda.empty_cache()  # does nothing without CUDA
        else:
            start += len(part)
            yield done
    return size


def _attempt(
    rows: Sequence[Row], run: Callable[[Sequence[Row]], dict[int, Response]]
) -> dict[int, Response] | None:
    """Responses, or None where memory ran out; then the error and what it holds on to are gone."""
    try:
        return run(rows)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        if len(rows) == 1:
            raise UserError(
                f"memory does not hold one row of {len(rows[0].ids)} tokens and its completion; "
                "use a shorter prompt, a lower max_tokens, a smaller model or dtype"
            ) from error
        return None
