"""Generation engines and strategies side by side, in one run.

    PYTHONPATH=experiments python -m bench.generation --models 30M --prefix 1500 --batch 32 --json out.json

Every contestant continues the same prompts by the same number of tokens. They take turns: each round times
every contestant once, so that a busy moment of the machine meets all of them, and ratios are taken within a
round. A matrix product and a copy are measured in each round too, with as many threads. docs/performance.md
tells the method and holds the results.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers.utils import logging as hf_logging

from bench.child import Children, Place
from bench.contestants import CONTESTANTS, ONE_BY_ONE, OURS
from bench.machine import Peaks
from bench.record import record, summary
from bench.report import Entry, Sheet, split, table
from bench.shapes import BUNDLED, SHAPES, Cell, Shape, save_checkpoint
from icl_align.engines._memory import free_bytes

MEMORY_SHARE = 0.8
"""Share of the free memory that a contestant's keys and values may be expected to take."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the cells asked for; gives the exit code."""
    args = parse(arguments)
    log = Console(stderr=True)
    if args.device == "cuda" and not torch.cuda.is_available():
        log.print("no CUDA device here: the GPU part is skipped")
        return 0
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # for the children
    hf_logging.disable_progress_bar()
    sheets: list[Sheet] = []
    peaks: list[Peaks] = []
    for model in args.models:
        with tempfile.TemporaryDirectory() as name:
            place = Place(Path(name), args.device, args.dtype, args.threads)
            shape = save_checkpoint(model, place.folder, device=args.device, dtype=args.dtype)
            with contextlib.closing(Children(place)) as children:
                for cell in cells(args):
                    sheet, found = run_cell(args, model, shape, cell, children, log)
                    sheets.append(sheet)
                    peaks += found
                    done = record(args, sheets, peaks)
                    if args.json:
                        args.json.write_text(json.dumps(done, indent=1, allow_nan=False) + "\n")
    out = Console(width=None if sys.stdout.isatty() else 200)
    out.print(table(done["cells"], cuda=args.device == "cuda"))
    for line in [*split(done["cells"]), summary(done)]:
        out.print(line, highlight=False, soft_wrap=True)
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; without options, a small set of sizes that ends within ten minutes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--models", type=_names([BUNDLED, *SHAPES]), help=f"of {BUNDLED}, {', '.join(SHAPES)}"
    )
    parser.add_argument("--prefix", type=_numbers, help="shared tokens, as 512,1500,3000")
    parser.add_argument("--batch", type=_numbers, help="prompts, as 8,32,128")
    parser.add_argument("--new", type=_numbers, help="new tokens, as 64,256; with 1, prefill alone")
    parser.add_argument(
        "--contestants", type=_names([*CONTESTANTS]), help=f"of {', '.join(CONTESTANTS)}"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--rows", type=int, default=4, help="rows that one-by-one is timed on, at most"
    )
    parser.add_argument(
        "--limit", type=float, default=300, help="seconds after which a call is given up"
    )
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--json", type=Path, help="where the record goes; it is written after each size"
    )
    args = parser.parse_args(arguments)
    cuda = args.device == "cuda"
    args.dtype = "bfloat16" if cuda else "float32"
    args.models = args.models or (["8B"] if cuda else [BUNDLED, "30M"])
    args.prefix = args.prefix or ([1500] if cuda else [512, 1500])
    args.batch = args.batch or ([200] if cuda else [8, 32])
    args.new = args.new or ([1, 300] if cuda else [64])
    usual = (
        ["generate_batch", OURS] if cuda else [ONE_BY_ONE, "left-padded", "generate_batch", OURS]
    )
    args.contestants = args.contestants or usual
    return args


def _names(known: Sequence[str]) -> Any:
    def read(text: str) -> list[str]:
        found = text.split(",")
        for name in found:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return found

    return read


def _numbers(text: str) -> list[int]:
    found = [int(part) for part in text.split(",")]
    if min(found) < 1:
        raise argparse.ArgumentTypeError(f"numbers must be >= 1, got {text}")
    return found


def cells(args: argparse.Namespace) -> Iterator[Cell]:
    """All sizes asked for, small ones first."""
    for prefix in sorted(args.prefix):
        for batch in sorted(args.batch):
            for new in sorted(args.new):
                yield Cell(prefix, batch, new)


def run_cell(
    args: argparse.Namespace, model: str, shape: Shape, cell: Cell, children: Children, log: Console
) -> tuple[Sheet, list[Peaks]]:
    """Times all contestants in one cell, in turns, and the machine before each round."""
    entries = [
        Entry(name, min(args.rows, cell.batch) if name == ONE_BY_ONE else cell.batch)
        for name in args.contestants
    ]
    for entry in entries:
        entry.skipped = too_large(entry, shape, cell, children.place)
    what = f"{model} {cell.prefix} x {cell.batch} x {cell.new}"
    peaks = []
    for number in range(args.rounds):
        peaks.append(children.peaks())
        first = number % len(entries)  # nobody is always the one after the slowest
        for entry in entries[first:] + entries[:first]:
            if entry.error:
                log.print(f"{what}: {entry.contestant} left out: {entry.error}", highlight=False)
                continue
            timing = children.ask(entry.contestant, cell, shape.vocabulary, entry.rows, args.limit)
            entry.timings.append(timing)
            told = timing.error or f"{timing.seconds:.2f} s"
            told = f"round {number + 1} of {args.rounds}: {entry.contestant} {told}"
            log.print(f"{what}, {told}", highlight=False)
    return Sheet(model, shape, cell, entries), peaks


def too_large(entry: Entry, shape: Shape, cell: Cell, place: Place) -> str:
    """Why a contestant cannot run a cell here; empty if it can."""
    if cell.longest > shape.context:
        return f"rows of {cell.longest} tokens, the context is {shape.context}"
    free = free_bytes(torch.device(place.device))
    if entry.contestant != "left-padded" or free is None:
        return ""
    width = getattr(torch, place.dtype).itemsize
    needed = 1.2 * cell.batch * cell.longest * shape.kv_values * width
    if needed > MEMORY_SHARE * free:
        return f"needs about {needed / 2**30:.0f} GiB, {free / 2**30:.0f} GiB are free"
    return ""


if __name__ == "__main__":
    sys.exit(main())
