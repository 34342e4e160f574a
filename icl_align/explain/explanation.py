"""The explanation of a run's winner: planned, measured through the run's ledger, and told in one record."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from icl_align.assemble import build_baselines, build_space, load_splits
from icl_align.data import read_text
from icl_align.errors import UserError
from icl_align.evaluate import EngineEvaluator
from icl_align.evaluation import example_ids
from icl_align.explain.games import full
from icl_align.explain.measure import PHRASINGS, Answered, answered, reordered, subset
from icl_align.explain.plan import Plan, make_plan
from icl_align.explain.sections import contributions, curves, factorial, figure, orders
from icl_align.explain.sides import by_tag, regressions
from icl_align.explain.trials import importances, interaction
from icl_align.prompt import Prompt
from icl_align.prove import winner_pack
from icl_align.run import Run, write_json
from icl_align.types import Example

EXPLANATION_FILE = "explanation.json"
EXPLANATION_VERSION = 1
BUDGET = 4000
"""Generations asked for, where nothing else is said."""


def explain(
    run: Run,
    *,
    budget: int = BUDGET,
    out: Path | None = None,
    on_progress: Callable[[float, str], None] | None = None,
) -> dict[str, Any]:
    """Explains a run's winner and writes the explanation into its folder.

    Everything is measured through the run's evaluator and remembered in its ledger, so a killed process
    goes on where it was, and the same command again pays for nothing. The proof's instructions are never
    touched: it measures the confirm instructions where the run has test ones too, else the dev
    instructions, on which the winner was chosen, so that there its exemplars look better than they are.

    Args:
        run: The run.
        budget: Generations asked for in all, from the ledger or not.
        out: The file; explanation.json in the run's folder by default.
        on_progress: Told the share that is done, in [0, 1], and what is being measured.

    Raises:
        UserError: no prompt is measured, or the budget is too small.
    """
    experiment = run.experiment
    splits = load_splits(experiment)
    split = "confirm" if "confirm" in splits and "test" in splits else "dev"
    pack = winner_pack(run)
    prompt, k = pack.prompt, len(pack.prompt.exemplars)
    name, baseline = next(iter(build_baselines(experiment).items()), ("", None))
    bare = replace(prompt, system="") if prompt.system and k else None
    others = int(baseline is not None) + 2 * int(bare is not None)
    plan = make_plan(k, others, len(PHRASINGS), splits[split], budget, experiment.seed)
    work = _work(prompt, plan, baseline, bare)
    before = run.evaluator.usage
    found = _measured(run.evaluator, work, plan, on_progress)
    told = _told(run, plan, prompt, found)
    trials = run.trials()
    usage = run.evaluator.usage - before
    content = {
        "version": EXPLANATION_VERSION,
        "run": str(run.folder),
        "confirmed": bool(pack.evidence.get("confirmed")),
        "digest": prompt.digest,
        "k": k,
        "exemplars": [_label(exemplar) for exemplar in prompt.exemplars],
        "system": prompt.system,
        "split": split,
        "instructions": len(plan.examples),
        "of": len(splits[split]),
        "level": experiment.confirm.level,
        "budget": budget,
        "asked": len(work) * len(plan.examples),
        "baseline": name,
        **told,
        "systems": interaction(prompt, trials),
        "importances": importances(build_space(experiment), trials),
    }
    write_json(out or run.folder / EXPLANATION_FILE, content)
    return {**content, "generations": {"paid": usage.paid, "cached": usage.cached}}


def read_explanation(path: Path) -> dict[str, Any]:
    """Reads an explanation.

    Raises:
        UserError: it cannot be read, or is of another version.
    """
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path} is damaged ({error}); make it anew with icl-align explain"
        ) from error
    version = content.get("version") if isinstance(content, Mapping) else None
    if version != EXPLANATION_VERSION:
        raise UserError(
            f"{path} has version {version!r}, this icl_align reads {EXPLANATION_VERSION}; "
            "make it anew with icl-align explain"
        )
    return dict(content)


Key = tuple[str, Any]


def _work(
    prompt: Prompt, plan: Plan, baseline: Prompt | None, bare: Prompt | None
) -> dict[Key, Prompt]:
    """Names everything that is measured."""
    work: dict[Key, Prompt] = {("subset", mask): subset(prompt, mask) for mask in plan.masks}
    if baseline is not None:
        work["baseline", ""] = baseline
    if bare is not None:
        work["no system", "all"] = bare
        work["no system", "none"] = subset(bare, 0)
    work |= {("order", order): reordered(prompt, order) for order in plan.orders}
    return work | ({("phrasing", name): prompt for name in PHRASINGS} if plan.phrasings else {})


def _measured(
    evaluator: EngineEvaluator,
    work: Mapping[Key, Prompt],
    plan: Plan,
    on_progress: Callable[[float, str], None] | None,
) -> dict[Key, Answered]:
    found: dict[Key, Answered] = {}
    for key, prompt in work.items():
        if on_progress:
            on_progress(len(found) / len(work), f"{len(found)} of {len(work)} prompts")
        phrase = PHRASINGS[key[1]] if key[0] == "phrasing" else None
        found[key] = answered(evaluator, prompt, plan.examples, phrase)
    if on_progress:
        on_progress(1.0, f"{len(work)} prompts")
    return found


def _told(run: Run, plan: Plan, prompt: Prompt, found: Mapping[Key, Answered]) -> dict[str, Any]:
    """The measured sections."""
    level, seed = run.experiment.confirm.level, run.experiment.seed
    k = len(prompt.exemplars)
    subsets = {key[1]: one.values for key, one in found.items() if key[0] == "subset"}
    other_orders = {key[1]: one.values for key, one in found.items() if key[0] == "order"}
    whole, rival = found["subset", full(k)], found.get(("baseline", ""))
    ids = example_ids(plan.examples)
    told = {
        "mean": figure(whole.values, level, seed),
        "missing": int(np.isnan(np.array([one.values for one in found.values()])).sum()),
        "contributions": contributions(subsets, plan, k, level, seed),
        "orders": orders(whole.values, other_orders, level, seed),
        "curves": curves(subsets, k, level, seed),
        "factorial": None,
        "phrasings": {
            key[1]: figure(whole.values - one.values, level, seed)
            for key, one in found.items()
            if key[0] == "phrasing"
        },
        "tags": [],
        "regressions": [],
    }
    if ("no system", "all") in found:
        bare = (found["no system", "none"].values, found["no system", "all"].values)
        told["factorial"] = factorial(subsets, bare, k, level, seed)
    if rival is not None:
        told["difference"] = figure(whole.values - rival.values, level, seed)
        told["tags"] = by_tag(plan.examples, whole.values, rival.values, level, seed)
        told["regressions"] = regressions(plan.examples, ids, whole, rival)
    return told


def _label(exemplar: Example) -> dict[str, str]:
    return {"id": exemplar.id, "query": exemplar.query}
