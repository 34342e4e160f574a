"""One cell of the search benchmark: a sampler on a landscape at a budget, and what came of it."""

from __future__ import annotations

import importlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import TrialState, create_trial

from bench.landscapes import embed
from bench.worlds import Meter, World, make_world
from icl_align.search.baselines import dspy_search
from icl_align.search.budget import Budget
from icl_align.search.choices import Choice
from icl_align.search.proposing import TRIAL_ATTR, ProposingSampler
from icl_align.search.ranking import rank
from icl_align.search.samplers import Recipe, Task, load_sampler
from icl_align.search.structured import StructuredSampler
from icl_align.search.study import TrialRecord
from icl_align.search.sweep import Sweep, run_sweep
from icl_align.space import Space

DSPY: dict[str, Literal["mipro", "random"]] = {"dspy-mipro": "mipro", "dspy-random": "random"}
"""DSPy's optimisers, which hold the loop themselves and are no samplers."""
CHECKPOINTS = 10
_STATES = {
    "complete": TrialState.COMPLETE,
    "partial": TrialState.PRUNED,
    "fail": TrialState.FAIL,
}
_FLAT = 1e-9


@dataclass(frozen=True, slots=True)
class Cell:
    """What is run.

    Attributes:
        shape: Name of the landscape.
        pool: Its exemplars.
        budget: Prompts on examples that may be measured.
        batch: Trials in flight.
        seed: Seed of landscape and search.
        sampler: As `load_sampler` takes it, or one of `DSPY`.
    """

    shape: str
    pool: int
    budget: int
    batch: int
    seed: int
    sampler: str

    @property
    def key(self) -> dict[str, Any]:
        """What tells it from other cells."""
        return asdict(self)


def run_cell(cell: Cell, oracle: float) -> dict[str, Any]:
    """Runs one search, and judges what it recommends by the truth.

    Returns:
        JSON values. "closed": share of the way from a random prompt to the best one, null where all
        prompts are equal; "regret": 1 less that at each tenth of the budget, null before anything was
        measured, and [] where it is not known; "optimism": what the search believes of its prompt's mean
        over the development examples, less what is to be expected there; "own_seconds": time per trial
        without the evaluator's.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    world = make_world(cell.shape, cell.pool, cell.seed)
    embed(world.space.pool)  # neither this nor an import is a part of the search's time
    if cell.sampler in DSPY:
        importlib.import_module("dspy")
    meter = Meter(world)
    start = time.perf_counter()
    if cell.sampler in DSPY:
        prompt, estimate = dspy_search(
            DSPY[cell.sampler],
            world.space,
            world.examples,
            meter,
            evaluations=cell.budget,
            seed=cell.seed,
        )
        seconds, trials = time.perf_counter() - start, meter.prompts
        curve: list[float | None] = []
    else:
        recipe = recipe_of(cell.sampler)
        sweep = run_sweep(
            world.space,
            world.examples,
            meter,
            url="sqlite:///:memory:",
            budget=Budget(generations=cell.budget),
            seed=cell.seed,
            sampler=recipe,
            batch=cell.batch,
        )
        seconds, trials = time.perf_counter() - start, len(sweep.trials)
        if sweep.interrupted:
            raise KeyboardInterrupt
        prompt, estimate = sweep.ranking[0].prompt, sweep.ranking[0].estimate
        curve = regrets(sweep, recipe, cell, meter, oracle)
    choice = meter.read(prompt)
    return {
        "closed": closed(world, choice, oracle),
        "optimism": estimate - world.expected(choice),
        "estimate": estimate,
        "quality": world.quality(choice),
        "oracle": oracle,
        "random_mean": world.random_mean,
        "k": len(choice.exemplars),
        "trials": trials,
        "paid": meter.paid,
        "repeated": meter.repeated,
        "seconds": seconds,
        "own_seconds": (seconds - meter.seconds) / max(trials, 1),
        "regret": curve,
    }


def closed(world: World, choice: Choice, oracle: float) -> float | None:
    """Gives the share of the way from a random prompt to the best one; None where all are equal."""
    gap = oracle - world.random_mean
    return (world.quality(choice) - world.random_mean) / gap if gap > _FLAT else None


def recipe_of(name: str) -> Recipe:
    """Finds a recipe; ours takes the embeddings that are there instead of loading a model."""
    if name != "structured":
        return load_sampler(name)

    def make(task: Task) -> BaseSampler:
        return StructuredSampler(
            task.space,
            ids=task.ids,
            seed=task.seed,
            generations=task.generations,
            embeddings=embed(task.space.pool),
            goal=task.goal,
        )

    return Recipe(name, make)


def regrets(
    sweep: Sweep, recipe: Recipe, cell: Cell, meter: Meter, oracle: float
) -> list[float | None]:
    """Gives the regret of what would have been recommended at each tenth of the budget."""
    world = meter.world
    ids = tuple(str(example.id) for example in world.examples)
    sampler = recipe.make(Task(world.space, ids, cell.seed, cell.budget))
    study = optuna.create_study(direction="maximize")
    found: list[float | None] = []
    told, measured = 0, 0
    for tenth in range(1, CHECKPOINTS + 1):
        limit = cell.budget * tenth / CHECKPOINTS
        while told < len(sweep.trials) and measured + sweep.trials[told].measured <= limit:
            measured += sweep.trials[told].measured
            _replay(study, sweep.trials[told], sampler, world.space)
            told += 1
        ranking = rank(study, sweep.trials[:told], sampler, world.space)
        share = closed(world, meter.read(ranking[0].prompt), oracle) if ranking else None
        found.append(None if share is None else 1 - share)
    return found


def _replay(study: optuna.Study, record: TrialRecord, sampler: BaseSampler, space: Space) -> None:
    """Adds a trial to a study as the sweep has told it."""
    dimensions = (
        sampler.distributions() if isinstance(sampler, ProposingSampler) else space.distributions()
    )
    study.add_trial(
        create_trial(
            state=_STATES[record.state],
            value=record.mean,
            params=dict(record.params),
            distributions=dict(dimensions),
            user_attrs={TRIAL_ATTR: record.to_json()},
        )
    )


def cells(
    shapes: Sequence[str],
    budgets: dict[int, Sequence[int]],
    batches: Sequence[int],
    seeds: Sequence[int],
    samplers: Sequence[str],
) -> list[Cell]:
    """Lists the cells of a grid, seed by seed, so that what is done so far compares all samplers.

    Args:
        shapes: Names of landscapes.
        budgets: Budgets by the size of the pool.
        batches: Trials in flight; DSPy's optimisers take one at a time, so they are run once.
        seeds: Seeds.
        samplers: Names of samplers.
    """
    return [
        Cell(shape, pool, budget, batch, seed, sampler)
        for seed in seeds
        for shape in shapes
        for pool, several in budgets.items()
        for budget in several
        for batch in batches
        for sampler in samplers
        if sampler not in DSPY or batch == batches[0]
    ]
