"""Whether what is claimed of a winner holds: false claims, coverage of intervals, and optimism.

    PYTHONPATH=experiments python -m bench.claims --out claims.json --jobs 2
    PYTHONPATH=experiments python -m bench.claims --aa 40 --coverage 300 --found 0

Each run is a search on a landscape of its own, then `icl_align.search.confirm.confirm` with fresh examples against
another random prompt. Three kinds of runs: "A/A" on a landscape where all prompts are equal, so whatever is claimed
is false; "coverage" on the landscape "mixed" with a short search; "found" there with the sampler that is in use.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from scipy.stats import t as student

from bench.cells import recipe_of
from bench.curves import Mean, markdown
from bench.jobs import Task, gather
from bench.record import header
from bench.worlds import (
    Meter,
    landscapes_digest,
    load_embeddings,
    make_world,
    pool_of,
    save_embeddings,
)
from icl_align.prompt import Prompt
from icl_align.search.budget import Budget
from icl_align.search.choices import Choices
from icl_align.search.confirm import Comparison, confirm
from icl_align.search.ranking import Ranked
from icl_align.search.sweep import run_sweep

VERSION = 1
"""Version of the record's layout."""
LEVEL = 0.95
POOL = 50
CONFIRM = 100
_RESAMPLES = 10_000

Ends = tuple[float, float]


def prove(
    shape: str, seed: int, sampler: str, generations: int, sizes: Sequence[int]
) -> dict[str, Any]:
    """Searches once, then proves the winner on so many test examples, and tells what is true.

    Returns:
        JSON values: the true difference of winner and baseline on new examples; for each size the ends of
        the intervals by name and what the test mean says too much; and what the search believes of its
        first prompt, and that one's plain mean, less what is to be expected on the development examples.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    world = make_world(shape, POOL, seed)
    meter = Meter(world)
    sweep = run_sweep(
        world.space,
        world.examples,
        meter,
        url="sqlite:///:memory:",
        budget=Budget(generations=generations),
        seed=seed,
        sampler=recipe_of(sampler),
    )
    if sweep.interrupted:
        raise KeyboardInterrupt
    first = sweep.ranking[0]
    believed = world.expected(meter.read(first.prompt))
    baseline = _another(meter, sweep.ranking, seed)
    fresh = world.fresh(CONFIRM + max(sizes))
    proofs, truth = {}, 0.0
    for size in sizes:
        done = confirm(
            sweep.ranking,
            meter,
            dev_examples=world.examples,
            confirm_examples=fresh[:CONFIRM],
            test_examples=fresh[CONFIRM : CONFIRM + size],
            baselines={"another": baseline},
            level=LEVEL,
            seed=seed,
        )
        winner = world.population(meter.read(done.prompt))
        truth = winner - world.population(meter.read(baseline))
        proofs[str(size)] = {
            "intervals": intervals(done.comparisons[0], done.tuned.values, seed),
            "optimism": (done.tuned.mean or 0.0) - winner,
        }
    return {
        "truth": truth,
        "proofs": proofs,
        "estimate_optimism": first.estimate - believed,
        "mean_optimism": None if first.mean is None else first.mean - believed,
    }


def intervals(comparison: Comparison, tuned: Sequence[float], seed: int) -> dict[str, Ends]:
    """Gives the ends of the interval that is told, and of others for the same differences.

    "bca" is what `confirm` tells; "percentile" the plain bootstrap; "wide" the same at levels moved
    outwards for small samples (Hesterberg 2015, What teachers should know about the bootstrap, 5.3);
    "t" Student's.
    """
    data = np.array(tuned) - np.array(comparison.baseline.values)
    told = comparison.difference
    n, tail = len(data), (1 - LEVEL) / 2
    rng = np.random.default_rng([seed, 1])
    means = data[rng.integers(n, size=(_RESAMPLES, n))].mean(axis=1)
    reach = float(student.ppf(1 - tail, n - 1))
    outer = float(_normal_cdf(-reach * math.sqrt(n / (n - 1))))
    half = reach * float(data.std(ddof=1)) / math.sqrt(n)
    return {
        "bca": (told.low, told.high),
        "percentile": _ends(means, tail),
        "wide": _ends(means, outer),
        "t": (float(data.mean()) - half, float(data.mean()) + half),
    }


def tell(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Counts by kind of runs, size and interval: claims, and how often the truth was inside."""
    rows = []
    for kind, runs in results.items():
        for size in runs[0]["proofs"] if runs else ():
            for name in runs[0]["proofs"][size]["intervals"]:
                ends = [run["proofs"][size]["intervals"][name] for run in runs]
                pairs = [(run["truth"], *end) for run, end in zip(runs, ends, strict=True)]
                rows.append(
                    {
                        "runs": kind,
                        "n": len(pairs),
                        "test examples": int(size),
                        "interval": name,
                        "above 0, %": _share(low > 0 for _, low, _ in pairs),
                        "below 0, %": _share(high < 0 for _, _, high in pairs),
                        "covers, %": _share(low <= truth <= high for truth, low, high in pairs),
                        "truth below, %": _share(truth < low for truth, low, _ in pairs),
                        "truth above, %": _share(truth > high for truth, _, high in pairs),
                        "width": float(np.mean([high - low for _, low, high in pairs])),
                    }
                )
    return rows


def optimism(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Gives by kind of runs what is said too much, as means over runs."""
    rows: list[dict[str, Any]] = []
    for kind, runs in results.items():
        if not runs:
            continue
        size = max(runs[0]["proofs"], key=int)
        said = {
            f"test mean, {size} examples": [run["proofs"][size]["optimism"] for run in runs],
            "search's estimate": [run["estimate_optimism"] for run in runs],
            "plain mean where measured": [
                run["mean_optimism"] for run in runs if run["mean_optimism"] is not None
            ],
        }
        rows += [
            {"runs": kind, "what": what, "too much": Mean.of(values)}
            for what, values in said.items()
        ]
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs all kinds, prints tables, writes a record."""
    args = parse(arguments)
    begin = None
    if args.out:
        stored = args.out.with_suffix(".npz")
        if stored.exists():
            load_embeddings(stored)
        save_embeddings(stored, [pool_of("mixed", POOL, 0)])
        begin = load_embeddings, (stored,)
    kinds = {
        "A/A": (args.aa, "null", args.sampler, args.generations, (200,)),
        "coverage": (
            args.coverage,
            "mixed",
            args.short_sampler,
            args.short_generations,
            args.sizes,
        ),
        "found": (args.found, "mixed", args.sampler, args.generations, (200,)),
    }
    tasks = [
        Task(
            {
                "runs": kind,
                "seed": seed,
                "sampler": sampler,
                "generations": generations,
                "sizes": list(sizes),
            },
            (shape, seed, sampler, generations, tuple(sizes)),
        )
        for kind, (count, shape, sampler, generations, sizes) in kinds.items()
        for seed in range(args.seed, args.seed + count)
    ]
    about, made = {"landscapes": landscapes_digest()}, header()
    stamp = {"commit": made["commit"]}
    path = args.out.with_suffix(".jsonl") if args.out else None
    done = gather(prove, tasks, path=path, about=about, stamp=stamp, jobs=args.jobs, begin=begin)
    results = {kind: [one for one in done if one["runs"] == kind] for kind in kinds}
    rows, over = tell(results), optimism(results)
    print(markdown(rows), markdown(over), sep="\n\n")
    if args.out:
        record = {
            "version": VERSION,
            **made,
            **about,
            "claims": rows,
            "optimism": [{**row, "too much": asdict(row["too much"])} for row in over],
            "cells": done,
        }
        args.out.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", "utf-8")
        print(args.out, file=sys.stderr)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--aa", type=int, default=200, help="runs where all prompts are equal")
    parser.add_argument("--coverage", type=int, default=300, help="runs with a short search")
    parser.add_argument("--found", type=int, default=100, help="runs with the sampler in use")
    parser.add_argument("--sampler", default="structured")
    parser.add_argument("--generations", type=int, default=400)
    parser.add_argument("--short-sampler", default="random")
    parser.add_argument("--short-generations", type=int, default=200)
    parser.add_argument("--sizes", type=_sizes, default=(60, 120, 240), help="test examples")
    parser.add_argument("--seed", type=int, default=0, help="the first seed of each kind")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--out", type=Path, help="the record, a .json file")
    args = parser.parse_args(arguments)
    if args.out and args.out.suffix != ".json":
        parser.error(f"--out is a .json file, got {args.out}")
    return args


def _another(meter: Meter, ranking: Sequence[Ranked], seed: int) -> Prompt:
    """Draws a prompt that the search has not measured."""
    space, rng = meter.world.space, np.random.default_rng([seed, 0xAA])
    choices, known = Choices(space), {item.prompt.digest for item in ranking}
    while True:
        prompt = space.build(choices.write(choices.random(rng)))
        if prompt.digest not in known:
            return prompt


def _ends(means: NDArray[np.float64], tail: float) -> Ends:
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def _normal_cdf(value: float) -> float:
    return 0.5 * math.erfc(-value / math.sqrt(2))


def _share(found: Any) -> float:
    return float(np.mean(list(found)))


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(int(part) for part in text.split(","))
    if min(sizes) < 2:
        raise argparse.ArgumentTypeError(f"an interval needs two examples, got {text!r}")
    return sizes


if __name__ == "__main__":
    main()
