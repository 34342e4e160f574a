"""Rows in batches that halve when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from icl_align.engines._row import Row
from icl_align.errors import UserError
from icl_align.types import Response

_SIGNS = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "alloc_failed",
)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that an allocation failed, on a GPU or in main memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(sign in str(error).lower() for sign in _SIGNS)


def in_batches(
    rows: Sequence[Row], size: int, run: Callable[[Sequence[Row]], dict[int, Response]]
) -> tuple[dict[int, Response], int]:
    """Runs rows in batches; a batch that memory does not hold is run again in halves.

    Args:
        rows: What to run.
        size: Most rows of a batch, >= 1.
        run: Gives the responses of a batch by the rows' indices.

    Returns:
        All responses, and the size that memory held.

    Raises:
        UserError: memory does not hold one row.
    """
    found: dict[int, Response] = {}
    start = 0
    while start < len(rows):
        part = rows[start : start + size]
        done = _attempt(part, run)
        if done is None:
            size = len(part) // 2
            torch.cuda.empty_cache()  # does nothing without CUDA
        else:
            found |= done
            start += len(part)
    return found, size


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
