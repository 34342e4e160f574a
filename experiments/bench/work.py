"""How much arithmetic and memory traffic a cell needs at the least; shares of a machine are taken of it."""

from __future__ import annotations

from dataclasses import dataclass

from bench.shapes import Cell, Shape


@dataclass(frozen=True, slots=True)
class Machine:
    """What was measured of a machine in the same run, with the same threads: its best of all rounds.

    Attributes:
        gemm: Floating-point operations per second of a large matrix product.
        copy: Bytes per second, read and written, of a large copy.
    """

    gemm: float
    copy: float


def attention_flops(shape: Shape, keys: int) -> int:
    """Operations of attention for queries that see `keys` keys, all queries' keys added up."""
    return 4 * shape.layers * shape.heads * shape.head_dim * keys


def keys_seen(start: int, count: int) -> int:
    """Keys that `count` tokens see from position `start` on, each those before it and itself."""
    return count * start + count * (count + 1) // 2


def prefill_flops(shape: Shape, cell: Cell) -> int:
    """The prefix once, each suffix behind it, and logits of each row's last token."""
    own = cell.suffixes()
    keys = keys_seen(0, cell.prefix) + sum(keys_seen(cell.prefix, length) for length in own)
    tokens = cell.prefix + sum(own)
    return 2 * shape.body * tokens + 2 * shape.head * cell.batch + attention_flops(shape, keys)


def decode_flops(shape: Shape, cell: Cell) -> int:
    """All tokens after each row's first: the last one is not fed back, the first came of prefill."""
    steps = cell.new - 1
    keys = sum(keys_seen(cell.prefix + length, steps) for length in cell.suffixes())
    return 2 * (shape.body + shape.head) * cell.batch * steps + attention_flops(shape, keys)


def flops(shape: Shape, cell: Cell) -> int:
    """The least work of a cell: every shared token once; 2 per parameter of a matrix and token.

    Logits count only where a token is chosen from them. A contestant that computes the prefix for
    every row does more than this, and its share of the peak is low for that reason.
    """
    return prefill_flops(shape, cell) + decode_flops(shape, cell)


def prefill_floor(shape: Shape, cell: Cell, machine: Machine) -> float:
    """Seconds that a machine needs for prefill at the least: arithmetic at its peak."""
    return prefill_flops(shape, cell) / machine.gemm


def decode_floor(shape: Shape, cell: Cell, machine: Machine, width: int) -> float:
    """Seconds of the decoding steps at the least: the slower of arithmetic and reading.

    A step reads all weights once, the prefix's keys and values once and each row's own; they are
    taken at the middle step.

    Args:
        shape: The model.
        cell: The rows.
        machine: What it can do.
        width: Bytes per number.
    """
    steps = cell.new - 1
    if not steps:
        return 0.0
    own = sum(cell.suffixes()) + cell.batch * cell.new / 2
    read = (shape.body + shape.head + shape.kv_values * (cell.prefix + own)) * width
    return max(steps * read / machine.copy, decode_flops(shape, cell) / machine.gemm)
