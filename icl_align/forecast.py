"""What a sweep and its proof will cost, before anything is generated."""

from __future__ import annotations

from typing import Any

import numpy as np

from icl_align.assemble import build_baselines, build_budget, build_space, load_splits
from icl_align.config import Experiment
from icl_align.prompt import rough_tokens
from icl_align.run import Run
from icl_align.search.choices import Choices

_SAMPLE = 200


def forecast(experiment: Experiment, run: Run | None = None) -> dict[str, Any]:
    """Estimates generations, tokens, money and time of an experiment.

    Prompt tokens are guessed from 200 random prompts of the space, four bytes to a token. Generated
    tokens are an upper bound: every answer as long as may be. Money is an upper bound too: without
    any reuse of prefixes. Time is known only where the run has measured something already.

    Args:
        experiment: What is to be run.
        run: The run as far as it is, for its speed and for what it has spent; None for a new one.

    Raises:
        UserError: pool, systems or examples cannot be read.
    """
    space, splits, budget = (
        build_space(experiment),
        load_splits(experiment),
        build_budget(experiment),
    )
    rng = np.random.default_rng(experiment.seed)
    choices = Choices(space)
    dev = splits["dev"]
    texts = []
    for _ in range(_SAMPLE):
        prompt = space.build(choices.write(choices.random(rng)))
        texts.append(rough_tokens(prompt.render(dev[int(rng.integers(len(dev)))])))
    prompt_tokens = float(np.mean(texts))
    notes = ["tokens are guessed at four bytes each; answers are counted at their longest"]
    per_generation = space.decoding.max_tokens
    wanted = _generations(experiment, len(dev), prompt_tokens, notes)
    trials = run.trials() if run else ()
    spent = budget.spent(trials)
    if spent.generations:
        notes.append(f"{spent.generations:,} generations of the sweep are done and not counted")
    seconds = spent.seconds / spent.generations if spent.generations and spent.seconds else None
    if seconds is None:
        notes.append("time is known once a first batch is measured: run it, or ask again then")
    sweep = max(0, wanted - spent.generations)
    finalists = experiment.confirm.finalists
    chosen = len(splits.get("confirm", ())) if "test" in splits else 0
    proof = len(splits.get("test") or splits["confirm"])
    rivals = len(build_baselines(experiment)) + experiment.confirm.random_search
    confirm = finalists * chosen + (1 + rivals) * proof
    if experiment.confirm.random_search:
        confirm += wanted + finalists * chosen
        notes.append("confirm includes a random search at the sweep's number of generations")

    def part(generations: int) -> dict[str, Any]:
        prompted, generated = round(generations * prompt_tokens), generations * per_generation
        price = budget.prices
        return {
            "generations": generations,
            "prompt_tokens": prompted,
            "generated_tokens": generated,
            "money": (prompted * price.prompt + generated * price.generated) / 1_000_000,
            "seconds": None if seconds is None else generations * seconds,
        }

    return {
        "experiment": experiment.name,
        "sweep": part(sweep),
        "confirm": part(confirm),
        "total": part(sweep + confirm),
        "priced": price_given(experiment),
        "notes": notes,
    }


def price_given(experiment: Experiment) -> bool:
    """Says whether the experiment has prices."""
    price = experiment.search.price
    return bool(price.prompt or price.reused or price.generated)


def _generations(experiment: Experiment, dev: int, prompt_tokens: float, notes: list[str]) -> int:
    """Gives how many generations the sweep's limits allow at most."""
    search = experiment.search
    bounds = []
    if search.generations is not None:
        bounds.append(search.generations)
    if search.trials is not None:
        bounds.append(search.trials * dev)
        notes.append(
            "a trial is counted as if it measured all dev examples; it may measure a block"
        )
    if search.tokens is not None:
        bounds.append(-(-search.tokens // experiment.space.max_tokens))
        notes.append("a limit on tokens allows for more generations where answers are shorter")
    if search.money is not None:
        price = search.price
        each = prompt_tokens * price.prompt + experiment.space.max_tokens * price.generated
        bounds.append(int(search.money * 1_000_000 / each) if each else 0)
        notes.append("a limit on money allows for more generations where prefixes are reused")
    if not bounds:
        notes.append("the sweep is limited by time alone; its generations are not known before")
    return min(bounds, default=0)
