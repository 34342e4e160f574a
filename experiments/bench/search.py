"""How much of the way from a random prompt to the best one a search goes, at what cost.

    PYTHONPATH=experiments python -m bench.search --out search.json                # the grid: hours
    PYTHONPATH=experiments python -m bench.search --shapes mixed --pools 50 --budgets 500 --seeds 0:5
    PYTHONPATH=experiments python -m bench.search --peer --samplers structured --out peer.json

Each cell is one search on one landscape; beside --out stand the finished cells (`.jsonl`), the best qualities
(`.oracles.jsonl`), the embeddings (`.npz`) and the plots. A run that was killed goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.cells import DSPY, Cell, cells, run_cell
from bench.curves import Mean, plots, summary, table
from bench.jobs import Task, gather
from bench.landscapes import SHAPES
from bench.record import header
from bench.worlds import (
    PEERS,
    landscapes_digest,
    load_embeddings,
    make_world,
    pool_of,
    save_embeddings,
)
from icl_align.errors import UserError
from icl_align.search.samplers import load_sampler

VERSION = 1
"""Version of the record's layout."""
BUDGETS = {50: (500, 1800, 5600), 300: (500, 1500, 5600)}
"""Prompts on examples by the size of the pool, where nothing else is asked for."""
PEER_POOL = 50
SAMPLERS = ("structured", "tpe", "tpe-wilcoxon", "evolution", "halving", "greedy", "random")
_PLAIN = (500, 1800, 5600)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a grid, prints a table, writes a record and plots."""
    args = parse(arguments)
    grid = cells(args.shapes, args.budgets, args.batch, args.seeds, args.samplers)
    about, made = {"landscapes": landscapes_digest(args.shapes)}, header()
    begin = None
    if args.out:
        pools = {
            (shape if shape in PEERS else "", pool)
            for shape in args.shapes
            for pool in args.budgets
        }
        stored = args.out.with_suffix(".npz")
        if stored.exists():
            load_embeddings(stored)
        seeds = {shape: args.seeds if shape else [0] for shape, _ in pools}
        wanted = [pool_of(shape, pool, seed) for shape, pool in pools for seed in seeds[shape]]
        save_embeddings(stored, wanted)
        begin = load_embeddings, (stored,)
    oracles = find_oracles(grid, args, about, begin)
    results = gather(
        run_cell,
        [Task(cell.key, (cell, oracles[_place(cell)])) for cell in grid],
        path=args.out.with_suffix(".jsonl") if args.out else None,
        about=about,
        stamp={"commit": made["commit"]},
        again=lambda key: key["sampler"] in args.again,
        jobs=args.jobs,
        begin=begin,
    )
    commits = sorted({one["commit"] for one in results})
    if len(commits) > 1:
        print(f"cells of several commits: {', '.join(commits)}", file=sys.stderr)
    rows = summary(results, args.samplers)
    print(table(rows))
    if args.out:
        record = {
            "version": VERSION,
            **made,
            **about,
            "commits": commits,
            "summary": [_plain(row) for row in rows],
            "cells": results,
        }
        args.out.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", "utf-8")
        drawn = plots(results, args.samplers, args.out.with_suffix(""))
        print(*[args.out, *drawn], sep=", ", file=sys.stderr)


def find_oracles(
    grid: Sequence[Cell], args: argparse.Namespace, about: dict[str, Any], begin: Any
) -> dict[tuple[str, int, int], float]:
    """Finds the best quality on each landscape of a grid."""
    places = dict.fromkeys(_place(cell) for cell in grid)
    found = gather(
        best_quality,
        [Task(dict(zip(("shape", "pool", "seed"), place, strict=True)), place) for place in places],
        path=args.out.with_suffix(".oracles.jsonl") if args.out else None,
        about=about,
        jobs=args.jobs,
        begin=begin,
    )
    return dict(zip(places, (one["quality"] for one in found), strict=True))


def best_quality(shape: str, pool: int, seed: int) -> dict[str, Any]:
    """Finds the best quality on a landscape."""
    return {"quality": make_world(shape, pool, seed).find_oracle()}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line; a name or a range that means nothing is refused."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", type=_names, help=f"of {', '.join([*SHAPES, *PEERS])}")
    parser.add_argument("--pools", type=_numbers, help="exemplars, as 50,300")
    parser.add_argument("--budgets", type=_numbers, help="prompts on examples, for all pools")
    parser.add_argument("--seeds", type=_range, default=list(range(10)), help="from:to, as 0:10")
    parser.add_argument(
        "--samplers", type=_names, default=list(SAMPLERS), help="the first is compared with"
    )
    parser.add_argument("--batch", type=_numbers, default=[1], help="trials in flight, as 1,4,16")
    parser.add_argument(
        "--again", type=_names, default=[], help="samplers whose cells are forgotten"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument(
        "--peer", action="store_true", help="the peers' landscapes, from $ICL_ALIGN_SHARED"
    )
    parser.add_argument("--out", type=Path, help="the record, a .json file")
    args = parser.parse_args(arguments)
    args.shapes = args.shapes or list(PEERS if args.peer else SHAPES)
    pools = args.pools or ([PEER_POOL] if args.peer else list(BUDGETS))
    args.budgets = {pool: args.budgets or BUDGETS.get(pool, _PLAIN) for pool in pools}
    for shape in args.shapes:
        if shape not in (*SHAPES, *PEERS):
            parser.error(f"a shape is one of {', '.join([*SHAPES, *PEERS])}, got {shape!r}")
        if shape in PEERS and pools != [PEER_POOL]:
            parser.error(f"{shape!r} has a pool of {PEER_POOL}, got {pools}")
    for name in args.samplers:
        if name not in DSPY:
            try:
                load_sampler(name)
            except UserError as error:
                parser.error(str(error))
    if args.out and args.out.suffix != ".json":
        parser.error(f"--out is a .json file, got {args.out}")
    return args


def _place(cell: Cell) -> tuple[str, int, int]:
    return cell.shape, cell.pool, cell.seed


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: asdict(value) if isinstance(value, Mean) else value for name, value in row.items()
    }


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _numbers(text: str) -> list[int]:
    numbers = [int(part) for part in text.split(",")]
    if min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"numbers here are at least 1, got {text!r}")
    return numbers


def _range(text: str) -> list[int]:
    first, colon, last = text.partition(":")
    found = list(range(int(first), int(last))) if colon else [int(first)]
    if not found:
        raise argparse.ArgumentTypeError(f"there is no seed in {text!r}")
    return found


if __name__ == "__main__":
    main()
