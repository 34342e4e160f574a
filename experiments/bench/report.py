"""Medians, ratios and spreads of what was timed, as a table for people and a record for machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from rich.markup import escape
from rich.table import Table

from bench.child import Timing
from bench.contestants import ONE_BY_ONE, OURS
from bench.shapes import Cell, Shape
from bench.work import Machine, decode_floor, decode_flops, flops, prefill_floor, prefill_flops


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, least and greatest of some values."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """The spread of values, None of none."""
        return cls(median(values), min(values), max(values)) if values else None

    def __str__(self) -> str:
        """Like `4.21 [3.9-5.0]`."""
        return f"{_short(self.median)} [{_short(self.min)}-{_short(self.max)}]"


@dataclass(slots=True)
class Entry:
    """A contestant in a cell, its timings by rounds.

    Attributes:
        rows: How many rows of the batch were timed; seconds are then multiplied up to all.
        skipped: Why it did not run at all.
    """

    contestant: str
    rows: int
    timings: list[Timing] = field(default_factory=list)
    skipped: str = ""

    @property
    def error(self) -> str:
        """Why there are no figures, or not of every round."""
        return self.skipped or next((t.error for t in self.timings if t.error), "")


@dataclass(slots=True)
class Sheet:
    """All that was timed for one cell of one model."""

    model: str
    shape: Shape
    cell: Cell
    entries: list[Entry]

    def seconds(self, entry: Entry) -> dict[int, float]:
        """Wall seconds of the whole batch by round."""
        scale = self.cell.batch / entry.rows
        return {n: t.seconds * scale for n, t in enumerate(entry.timings) if not t.error}

    def faster(self, entry: Entry, than: str) -> Spread | None:
        """How many times faster an entry was than another contestant, by rounds."""
        other = next((e for e in self.entries if e.contestant == than), None)
        if other is None:
            return None
        own, theirs = self.seconds(entry), self.seconds(other)
        return Spread.of([theirs[n] / own[n] for n in own if n in theirs])

    def equal(self, entry: Entry) -> float | None:
        """Share of rows with the text of one-by-one, of the rows both timed, over all rounds."""
        reference = next((e for e in self.entries if e.contestant == ONE_BY_ONE), None)
        if reference is None:
            return None
        pairs = [
            (own, other)
            for one, two in zip(entry.timings, reference.timings, strict=False)
            for own, other in zip(one.words, two.words, strict=False)
        ]
        return sum(own == other for own, other in pairs) / len(pairs) if pairs else None

    def record(self, machine: Machine, width: int) -> dict[str, Any]:
        """One cell as JSON values."""
        return {
            "model": self.model,
            "parameters": self.shape.parameters,
            **asdict(self.cell),
            "gflop": flops(self.shape, self.cell) / 1e9,
            "gflop_prefill": prefill_flops(self.shape, self.cell) / 1e9,
            "gflop_decode": decode_flops(self.shape, self.cell) / 1e9,
            "floor_prefill_seconds": prefill_floor(self.shape, self.cell, machine),
            "floor_decode_seconds": decode_floor(self.shape, self.cell, machine, width),
            "contestants": [self.entry(entry, machine, width) for entry in self.entries],
        }

    def entry(self, entry: Entry, machine: Machine, width: int) -> dict[str, Any]:
        """One contestant as JSON values; figures are None where it has none."""
        seconds = Spread.of(list(self.seconds(entry).values()))
        done = [timing for timing in entry.timings if not timing.error]
        found: dict[str, Any] = {
            "contestant": entry.contestant,
            "rows_timed": entry.rows,
            "rounds": len(done),
            "error": entry.error or None,
        }
        if seconds is None:
            return found
        floor = prefill_floor(self.shape, self.cell, machine)
        floor += decode_floor(self.shape, self.cell, machine, width)
        scale = self.cell.batch / entry.rows
        return found | {
            "seconds": asdict(seconds),
            "cpu_seconds": asdict(_spread([t.cpu_seconds * scale for t in done])),
            "tokens_per_second": self.cell.batch * self.cell.new / seconds.median,
            "share_of_gemm_peak": flops(self.shape, self.cell) / seconds.median / machine.gemm,
            "share_of_roofline": floor / seconds.median,
            "peak_mib": max(t.peak_mib for t in done),
            "extra_mib": max(t.extra_mib for t in done),
            "device_mib": max(t.device_mib for t in done),
            "other_processes": max(t.others for t in done),
            "equal_text": self.equal(entry),
            "faster_than_one_by_one": _dict(self.faster(entry, ONE_BY_ONE)),
            "slower_than_icl_align": _dict(self._slower(entry)),
        }

    def _slower(self, entry: Entry) -> Spread | None:
        """How many times as long as this project's engine an entry took."""
        ours = next((e for e in self.entries if e.contestant == OURS), None)
        return None if ours is None else self.faster(ours, entry.contestant)


def table(records: Sequence[Mapping[str, Any]], *, cuda: bool) -> Table:
    """All cells in one table, the contestants of a cell below each other."""
    shown = Table(title=r"Same work, one run; median \[min-max] over rounds")
    for name in ("model", "prefix x batch x new", "contestant"):
        shown.add_column(name, no_wrap=True)
    right = ("seconds", "tokens/s", "x faster than\none-by-one", "icl_align is\nx faster")
    for name in (*right, "of GEMM\npeak", "of\nroofline", "peak MiB\n(extra)", "equal\ntext"):
        shown.add_column(name, justify="right", no_wrap=True)
    for record in records:
        size = f"{record['prefix']} x {record['batch']} x {record['new']}"
        for place, one in enumerate(record["contestants"]):
            first = (record["model"], size) if place == 0 else ("", "")
            shown.add_row(*first, *_cells(one, record["batch"], cuda=cuda))
        shown.add_section()
    return shown


def _cells(one: Mapping[str, Any], batch: int, *, cuda: bool) -> list[str]:
    name = one["contestant"]
    if one["rows_timed"] < batch:
        name += f" ({one['rows_timed']} rows timed)"
    if "seconds" not in one:
        return [name, one["error"] or "no round"]
    memory = one["device_mib"] if cuda else one["peak_mib"]
    equal = one["equal_text"]
    return [
        name,
        _text(one["seconds"]) + (f" ({one['error']})" if one["error"] else ""),
        f"{one['tokens_per_second']:,.0f}",
        _text(one["faster_than_one_by_one"]),
        _text(one["slower_than_icl_align"]),
        f"{one['share_of_gemm_peak']:.0%}",
        f"{one['share_of_roofline']:.0%}",
        f"{memory:,.0f}" + ("" if cuda else f" ({one['extra_mib']:,.0f})"),
        "" if equal is None else f"{equal:.0%}",
    ]


def split(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Prefill and step times where a size was run with 1 new token and with more, one line each.

    With 1 new token a call is prefill alone; the rest of a longer call is its decoding steps.
    """
    lines = []
    for long in records:
        for short in records:
            same = all(long[key] == short[key] for key in ("model", "prefix", "batch", "seed"))
            if not same or short["new"] != 1 or long["new"] == 1:
                continue
            steps = long["new"] - 1
            floor, floor_step = long["floor_prefill_seconds"], long["floor_decode_seconds"] / steps
            for one, two in zip(short["contestants"], long["contestants"], strict=True):
                if "seconds" not in one or "seconds" not in two:
                    continue
                prefill = one["seconds"]["median"]
                step = (two["seconds"]["median"] - prefill) / steps
                what = f"{long['model']} {long['prefix']} x {long['batch']} {one['contestant']}"
                if step <= 0:
                    lines.append(f"{what}: steps too short to be told from noise")
                    continue
                lines.append(
                    f"{what}: "
                    f"prefill {prefill:.3f} s ({floor / prefill:.0%} of the roofline's speed), "
                    f"step {1000 * step:.2f} ms ({floor_step / step:.0%})"
                )
    return lines


def _spread(values: Sequence[float]) -> Spread:
    return Spread(median(values), min(values), max(values))


def _dict(spread: Spread | None) -> dict[str, float] | None:
    return None if spread is None else asdict(spread)


def _text(spread: Mapping[str, float] | None) -> str:
    return "" if spread is None else escape(str(Spread(**spread)))


def _short(value: float) -> str:
    """Three digits that tell something."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
