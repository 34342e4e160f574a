"""Batches shrink until memory holds them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch

from icl_align.engines._batches import in_batches
from icl_align.engines._memory import free_bytes, out_of_memory
from icl_align.engines._row import Row
from icl_align.errors import UserError
from icl_align.types import Response


def run_all(
    rows: Sequence[Row], size: int, run: Callable[[Sequence[Row]], dict[int, Response]]
) -> tuple[dict[int, Response], int]:
    """All responses, and the size that memory held."""
    found: dict[int, Response] = {}
    batches = in_batches(rows, size, run)
    while True:
        try:
            found |= next(batches)
        except StopIteration as end:
            return found, end.value


@pytest.mark.parametrize("holds", [1, 2, 3, 7, 10])
def test_batches_halve_until_memory_holds_them(holds: int) -> None:
    """Every row has its response, none is run twice with success, and sizes only shrink."""
    sizes: list[int] = []

    def run(part: Sequence[Row]) -> dict[int, Response]:
        if len(part) > holds:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to ...")
        sizes.append(len(part))
        return {row.index: Response(str(row.index), 1, "stop") for row in part}

    found, size = run_all([Row(i, [1], 0) for i in range(10)], 8, run)
    assert [found[i].text for i in range(10)] == [str(i) for i in range(10)]
    assert sum(sizes) == 10
    assert max(sizes) <= holds
    assert size <= min(holds, 8)


def test_one_row_too_large_is_told() -> None:
    """Then nothing can be halved; other errors pass as they are."""

    def full(_part: Sequence[Row]) -> dict[int, Response]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    def wrong(_part: Sequence[Row]) -> dict[int, Response]:
        raise RuntimeError("shapes cannot be multiplied")

    rows = [Row(i, [1, 2, 3], 0) for i in range(4)]
    with pytest.raises(UserError, match="memory does not hold one row of 3 tokens"):
        run_all(rows, 4, full)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        run_all(rows, 4, wrong)


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: not enough memory"
            ),
            True,
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
    ],
    ids=["cuda", "cpu", "cublas", "python", "another"],
)
def test_what_counts_as_out_of_memory(error: BaseException, counts: bool) -> None:
    """Failed allocations do, other memory troubles do not."""
    assert out_of_memory(error) == counts


def test_free_memory_is_known_here() -> None:
    """At least a little, at most all of a machine's."""
    free = free_bytes(torch.device("cpu"))
    assert free is None or 2**20 < free < 2**46
