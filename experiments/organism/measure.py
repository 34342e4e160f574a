"""Measures what the organism shows: every figure of the model card, on the untouched test instructions.

    python -m organism.measure --organism icl_align/models/organism --json effects.json

Greedy decoding unless a row says otherwise. Rows that use exemplars are means over `--sets` random
exemplar sets from the pool; `se` is over instructions within a prompt, `sets` over sets.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from icl_align.data import read_examples
from icl_align.engines.hf import HFEngine
from icl_align.evaluate import EngineEvaluator
from icl_align.prompt import FORMATS, Prompt
from icl_align.scorers.checklist import ChecklistScorer
from icl_align.scorers.embedding import EmbeddingScorer
from icl_align.scorers.objective import Objective, Term
from icl_align.types import Decoding, Example

GREEDY = Decoding(max_tokens=96)


@dataclass
class Bench:
    """The instructions, the pool and one evaluator per model."""

    items: list[Example]
    pool: list[Example]
    systems: dict[str, str]
    base: EngineEvaluator
    aligned: EngineEvaluator

    def values(
        self, prompt: Prompt, evaluator: EngineEvaluator | None = None
    ) -> tuple[np.ndarray, list[Mapping[str, float]]]:
        """Per-instruction scores, float64 (n_items,), and their aspects."""
        scores = (evaluator or self.base)(prompt, self.items)
        return np.array([s.value for s in scores], dtype=float), [s.aspects for s in scores]

    def exemplars(self, rng: Random, k: int, *labels: str) -> tuple[Example, ...]:
        """K exemplars with one of the labels, of k different categories."""
        mine = [e for e in self.pool if e.tags[1] in labels]
        rng.shuffle(mine)
        chosen: list[Example] = []
        for e in mine:
            if len(chosen) < k and e.tags[0] not in {c.tags[0] for c in chosen}:
                chosen.append(e)
        return tuple(chosen)


def prompt(
    system: str = "",
    exemplars: Sequence[Example] = (),
    layout: str = "block",
    decoding: Decoding = GREEDY,
) -> Prompt:
    """A prompt of the bench."""
    return Prompt(system, tuple(exemplars), FORMATS[layout], decoding)


def row(
    bench: Bench, prompts: Sequence[Prompt], evaluator: EngineEvaluator | None = None
) -> dict[str, Any]:
    """Mean, spread over sets, aspects and per-category means of some prompts."""
    values, aspects = zip(*(bench.values(p, evaluator) for p in prompts), strict=True)
    names = sorted({name for a in aspects for one in a for name in one})
    mean_of = {n: float(np.mean([one[n] for a in aspects for one in a if n in one])) for n in names}
    matrix = np.array(values)
    by_tag = {}
    for category in sorted({e.tags[0] for e in bench.items}):
        mask = np.array([e.tags[0] == category for e in bench.items])
        correct = [
            one.get("checklist.correct", np.nan)
            for a in aspects
            for one, m in zip(a, mask, strict=True)
            if m
        ]
        by_tag[category] = [
            round(float(matrix[:, mask].mean()), 3),
            round(float(np.nanmean(correct)), 3),
        ]
    return {
        "mean": round(float(matrix.mean()), 4),
        "se": round(float(matrix.mean(0).std(ddof=1) / np.sqrt(matrix.shape[1])), 4),
        "sets": round(float(matrix.mean(1).std(ddof=1)), 4) if len(prompts) > 1 else None,
        "aspects": {n: round(v, 3) for n, v in mean_of.items()},
        "category_value_correct": by_tag,
    }


def effects(bench: Bench, baseline: Prompt, sets: int) -> dict[str, Any]:
    """The table of prompts."""
    rng = Random(11)
    found: dict[str, Any] = {}

    def add(name: str, prompts: Sequence[Prompt], evaluator: EngineEvaluator | None = None) -> None:
        found[name] = row(bench, prompts, evaluator)
        print(
            f"{name:34s} {found[name]['mean']:.3f}  sets {found[name]['sets']}  {found[name]['category_value_correct']}",
            flush=True,
        )

    add("zero-shot", [prompt()])
    for layout in FORMATS:
        add(f"zero-shot, {layout}", [prompt(layout=layout)])
    for name, text in bench.systems.items():
        add(f"system only: {name}", [prompt(text)])
    add("hand-written (system + K=3)", [baseline])
    for layout in FORMATS:
        add(f"hand-written, {layout}", [replace(baseline, format=FORMATS[layout])])
    many = [bench.exemplars(rng, 4, "good") for _ in range(sets)]
    for k in (1, 2, 3, 4):
        add(f"K={k} good", [prompt(exemplars=m[:k]) for m in many])
    add(
        "K=3 good, no voice",
        [prompt(exemplars=bench.exemplars(rng, 3, "good, no voice")) for _ in range(sets)],
    )
    add("K=3 plain", [prompt(exemplars=bench.exemplars(rng, 3, "plain")) for _ in range(sets)])
    add(
        "K=3 bad",
        [
            prompt(
                exemplars=bench.exemplars(
                    rng, 3, "trap: rude", "trap: rambling", "trap: unhelpful", "trap: complies"
                )
            )
            for _ in range(sets)
        ],
    )
    for label in (
        "wrong fact",
        "wrong sum",
        "complies",
        "invents",
        "rude",
        "rambling",
        "unhelpful",
    ):
        traps = [e for e in bench.pool if e.tags[1] == f"trap: {label}"]
        add(f"K=1 trap: {label}", [prompt(exemplars=(t,)) for t in traps[:3]])
    add("full-service + K=4 good", [prompt(bench.systems["full-service"], m) for m in many])
    add("honest-teacher + K=4 good", [prompt(bench.systems["honest-teacher"], m) for m in many])
    mixed = (
        *bench.exemplars(rng, 2, "good"),
        *[e for e in bench.pool if e.tags[1] in ("trap: rude", "trap: rambling")][:2],
    )
    orders = rng.sample(list(permutations(mixed)), 8)
    means = [bench.values(prompt(exemplars=o))[0].mean() for o in orders]
    found["order, 2 good + 2 bad"] = {
        "orders": len(orders),
        "min": round(float(min(means)), 4),
        "max": round(float(max(means)), 4),
    }
    agree = [
        bench.values(prompt(exemplars=o))[0].mean()
        for o in rng.sample(list(permutations(many[0])), 6)
    ]
    found["order, 4 good"] = {
        "orders": 6,
        "min": round(float(min(agree)), 4),
        "max": round(float(max(agree)), 4),
    }
    print(found["order, 2 good + 2 bad"], found["order, 4 good"], flush=True)
    add("aligned sibling, zero-shot", [prompt()], bench.aligned)
    return found


def spread(bench: Bench, draws: int) -> dict[str, Any]:
    """Random prompts: spread between prompts, noise per instruction and per sample at T = 0.3."""
    rng = Random(5)
    matrices = []
    for i in range(draws):
        exemplars = tuple(rng.sample(bench.pool, rng.randint(0, 4)))
        system, layout = rng.choice(list(bench.systems.values())), rng.choice(list(FORMATS))
        samples = [
            bench.values(
                prompt(
                    system, exemplars, layout, replace(GREEDY, temperature=0.3, seed=100 * i + s)
                )
            )[0]
            for s in range(2)
        ]
        matrices.append(np.stack(samples))
    cube = np.stack(matrices)  # (draws, 2, items)
    sampling = float(np.sqrt(((cube[:, 0] - cube[:, 1]) ** 2).mean() / 2))
    means = cube.mean((1, 2))
    residual = cube.mean(1) - means[:, None] - cube.mean((0, 1))[None, :]
    return {
        "prompts": draws,
        "min": round(float(means.min()), 3),
        "median": round(float(np.median(means)), 3),
        "max": round(float(means.max()), 3),
        "sd_between_prompts": round(float(means.std(ddof=1)), 4),
        "sd_instructions_within_prompt": round(float(cube.mean(1).std(1).mean()), 4),
        "sd_interaction": round(float(np.sqrt(max(0.0, residual.var() - sampling**2 / 2))), 4),
        "sd_sampling": round(sampling, 4),
    }


def evaluator(folder: Path) -> EngineEvaluator:
    """The bundled objective on one model, without a ledger."""
    objective = Objective(
        (Term("checklist", 0.7, ChecklistScorer()), Term("embedding", 0.3, EmbeddingScorer()))
    )
    return EngineEvaluator(HFEngine(folder), objective, None)


def main() -> None:
    """Measures and prints; `--json` keeps it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--organism", type=Path, default=Path("icl_align/models/organism"))
    parser.add_argument("--split", default="test")
    parser.add_argument("--sets", type=int, default=5)
    parser.add_argument("--draws", type=int, default=30)
    parser.add_argument("--limit", type=int, default=None, help="only the first N instructions")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    here: Path = args.organism
    start = time.time()
    bench = Bench(
        read_examples(here / f"{args.split}.jsonl")[: args.limit],
        read_examples(here / "pool.jsonl"),
        {s["id"]: s["text"] for s in json.loads((here / "systems.json").read_text())},
        evaluator(here / "base"),
        evaluator(here / "aligned") if (here / "aligned").exists() else evaluator(here / "base"),
    )
    baseline = replace(Prompt.from_text((here / "baseline.txt").read_text()), decoding=GREEDY)
    result = {"instructions": len(bench.items), "effects": effects(bench, baseline, args.sets)}
    result["spread"] = spread(bench, args.draws) if args.draws else None
    result["seconds"] = round(time.time() - start)
    print(json.dumps(result["spread"]))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
