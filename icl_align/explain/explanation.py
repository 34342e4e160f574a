"""The explanation of a run's winner: planned, measured through the run's ledger, and told in one record."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from icl_align.assemble import build_baselines, build_space, load_splits
from icl_align.config import Experiment
from icl_align.data import read_text
from icl_align.errors import UserError
from icl_align.evaluation import example_ids
from icl_align.explain.games import full
from icl_align.explain.measure import Answered, Key, Wanted, measured, reordered, subset
from icl_align.explain.other import (
    beyond,
    paraphrased,
    paraphrases_told,
    phrased_prompts,
    phrasings_told,
    rephrased,
)
from icl_align.explain.plan import Plan, enough, make_plan
from icl_align.explain.sections import contributions, curves, factorial, figure, orders
from icl_align.explain.sides import by_tag, regressions
from icl_align.explain.trials import importances, interaction
from icl_align.explain.wording import Collected, OtherWords, collected
from icl_align.prompt import Prompt
from icl_align.prove import winner_pack
from icl_align.run import Run, write_json
from icl_align.types import Example

EXPLANATION_FILE = "explanation.json"
EXPLANATION_VERSION = 1
_HAS = {"digest", "split", "instructions", "mean", "exemplars", "contributions", "curves", "tags"}
BUDGET = 4200
"""Generations asked for where nothing else is said, if they are enough; else what is enough."""


def explain(
    run: Run,
    *,
    budget: int | None = None,
    out: Path | None = None,
    on_progress: Callable[[float, str], None] | None = None,
    words: OtherWords | None = None,
) -> dict[str, Any]:
    """Explains a run's winner and writes the explanation into its folder.

    Everything is measured through the run's evaluator and remembered in its ledger, so a killed process
    goes on where it was, and the same command again pays for nothing. The proof's instructions are never
    touched: it measures the confirm instructions where the run has test ones too, else the dev
    instructions, on which the winner was chosen, so that there its exemplars look better than they are.

    Args:
        run: The run.
        budget: Generations asked for in all, from the ledger or not. By default enough to measure
            everything on up to 120 instructions, and at least 4,200.
        out: The file; explanation.json in the run's folder by default.
        on_progress: Told the share that is done, in [0, 1], and what is being measured.
        words: The system text and the instructions in words beside those made by rule.

    Raises:
        UserError: no prompt is measured, the budget is too small, or a writer cannot be reached.
    """
    experiment = run.experiment
    split, examples = measured_on(experiment)
    pack = winner_pack(run)
    prompt, k = pack.prompt, len(pack.prompt.exemplars)
    name, baseline = next(iter(build_baselines(experiment).items()), ("", None))
    others = _others(prompt, baseline)
    evaluator = run.evaluator
    notes = evaluator.ledger.notes if evaluator.ledger else {}
    given = words or OtherWords()
    phrasings, seed = phrased_prompts(given), experiment.seed
    if budget is not None and given.writer and prompt.system:  # asked only for what is reached
        least = make_plan(k, len(others), phrasings, examples, budget, seed, len(given.texts) + 1)
        if least.paraphrases <= len(given.texts):
            raise UserError(
                f"a budget of {budget} reaches no paraphrase by the writer; give more, or leave it out"
            )
    texts = collected(prompt.system, given, notes)
    need = enough(k, len(others), phrasings, len(texts.kept), len(examples))
    budget = max(BUDGET, need) if budget is None else budget
    plan = make_plan(k, len(others), phrasings, examples, budget, seed, len(texts.kept))
    before = evaluator.usage
    found = measured(evaluator, _work(prompt, plan, others, texts), on_progress)
    trials = run.trials()
    usage = evaluator.usage - before
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
        "of": len(examples),
        "level": experiment.confirm.level,
        "budget": budget,
        "asked": sum(len(one.scores) for one in found.values()),
        "given": dict(given.options),
        "beyond": beyond(plan, texts, need),
        "baseline": name,
        **_told(run, plan, prompt, found),
        "phrasings": phrasings_told(experiment, plan, texts.given, found),
        "paraphrases": paraphrases_told(experiment, plan, texts, found),
        "systems": interaction(prompt, trials),
        "importances": importances(build_space(experiment), trials),
    }
    write_json(out or run.folder / EXPLANATION_FILE, content)
    return {**content, "generations": {"paid": usage.paid, "cached": usage.cached}}


def _others(prompt: Prompt, baseline: Prompt | None) -> dict[Key, Prompt]:
    """What is measured always: the baseline, and the winner without its system text."""
    found: dict[Key, Prompt] = {} if baseline is None else {("baseline", ""): baseline}
    if prompt.system:
        bare = replace(prompt, system="")
        found["no system", "all"] = bare
        if prompt.exemplars:
            found["no system", "none"] = subset(bare, 0)
    return found


def measured_on(experiment: Experiment) -> tuple[str, Sequence[Example]]:
    """Gives the split on which an experiment's winner is explained, never the proof's."""
    splits = load_splits(experiment)
    split = "confirm" if "confirm" in splits and "test" in splits else "dev"
    return split, splits[split]


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
    if lacking := _HAS - content.keys():
        raise UserError(
            f"{path} is damaged (it lacks {min(lacking)!r}); make it anew with icl-align explain"
        )
    return dict(content)


def _work(
    prompt: Prompt, plan: Plan, others: Mapping[Key, Prompt], texts: Collected
) -> dict[Key, Wanted]:
    """Names everything that is measured."""
    work: dict[Key, Prompt] = {("subset", mask): subset(prompt, mask) for mask in plan.masks}
    work |= others
    work |= {("order", order): reordered(prompt, order) for order in plan.orders}
    usual = {key: Wanted(one, plan.examples, plan.examples) for key, one in work.items()}
    return usual | paraphrased(prompt, plan, texts) | rephrased(prompt, plan, texts.given)


def _told(run: Run, plan: Plan, prompt: Prompt, found: Mapping[Key, Answered]) -> dict[str, Any]:
    """The measured sections but those about other words."""
    level, seed = run.experiment.confirm.level, run.experiment.seed
    k = len(prompt.exemplars)
    subsets = {key[1]: one.values for key, one in found.items() if key[0] == "subset"}
    other_orders = {key[1]: one.values for key, one in found.items() if key[0] == "order"}
    whole, rival = found["subset", full(k)], found.get(("baseline", ""))
    ids = example_ids(plan.examples)
    told = {
        "mean": figure(whole.values, level, seed),
        "missing": sum(int(np.isnan(one.values).sum()) for one in found.values()),
        "contributions": contributions(subsets, plan, k, level, seed),
        "orders": orders(whole.values, other_orders, level, seed),
        "curves": curves(subsets, k, level, seed),
        "factorial": None,
        "tags": [],
        "regressions": [],
    }
    if ("no system", "none") in found:
        bare = (found["no system", "none"].values, found["no system", "all"].values)
        told["factorial"] = factorial(subsets, bare, k, level, seed)
    if rival is not None:
        told["difference"] = figure(whole.values - rival.values, level, seed)
        told["tags"] = by_tag(plan.examples, whole.values, rival.values, level, seed)
        told["regressions"] = regressions(plan.examples, ids, whole, rival)
    return told


def _label(exemplar: Example) -> dict[str, str]:
    return {"id": exemplar.id, "query": exemplar.query}
