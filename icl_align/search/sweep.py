"""The loop of a search: a sampler proposes, an evaluator measures, the study remembers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.samplers import BaseSampler

from icl_align.errors import UserError
from icl_align.evaluate import Evaluator
from icl_align.evaluation import example_ids
from icl_align.ledger import shown
from icl_align.prompt import Prompt
from icl_align.search.blocks import Blocks
from icl_align.search.budget import Budget, Spent
from icl_align.search.goal import Goal
from icl_align.search.identity import claim, identity_of, started_with
from icl_align.search.loop import Loop, Progress
from icl_align.search.measure import Measurer
from icl_align.search.patience import patience
from icl_align.search.proposing import BLOCK, ProposingSampler
from icl_align.search.ranking import Ranked, publish, published, rank
from icl_align.search.samplers import (
    DEFAULT_SAMPLER,
    Recipe,
    SamplerFactory,
    Task,
    as_recipe,
)
from icl_align.search.study import (
    DEFAULT_STUDY,
    TrialRecord,
    exclusive,
    opened_study,
    read_trials,
    record_of,
)
from icl_align.space import Space
from icl_align.types import Example

__all__ = ["Progress", "Sweep", "read_ranking", "run_sweep"]

_WARM_ATTR = "warm_start"


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep has found so far.

    Attributes:
        trials: All trials of the study, in order.
        seed: The seed it runs with, also when none was given.
        interrupted: True when it was stopped from the keyboard before its end.
        ranking: The measured prompts, the one to use first.
        spent: What it has cost.
    """

    trials: tuple[TrialRecord, ...]
    seed: int
    interrupted: bool = False
    ranking: tuple[Ranked, ...] = ()
    spent: Spent = Spent()

    @property
    def best(self) -> Ranked | None:
        """The prompt to use, as the sampler sees it; None before any was measured."""
        return self.ranking[0] if self.ranking else None


def run_sweep(  # noqa: PLR0913 (one plain call of named settings)
    space: Space,
    examples: Sequence[Example],
    evaluator: Evaluator,
    *,
    url: str,
    budget: Budget | None = None,
    trials: int | None = None,
    seed: int | None = 0,
    sampler: str | Recipe | SamplerFactory = DEFAULT_SAMPLER,
    warm_start: Sequence[Prompt] = (),
    batch: int = 1,
    embedder: str | None = None,
    goal: Goal | None = None,
    study_name: str = DEFAULT_STUDY,
    on_trial: Callable[[Progress], None] | None = None,
    on_cancel: Callable[[], None] | None = None,
) -> Sweep:
    """Starts a sweep or continues it, until its budget is used up.

    A trial measures one prompt: on a block of examples where the sampler proposes blocks (those of
    ours do), else on all of them. A trial that was cut off is taken up first, with the parameters
    it would have had, so a run that was killed and continued gives the same study as an unbroken one.
    A prompt is never measured twice on an example. A trial without any verdict is recorded as failed,
    never as 0. An interrupt from the keyboard lets the batch in flight end, and then ends the sweep
    with what there is; a second one ends it at once.

    Args:
        space: What may vary.
        examples: The development examples.
        evaluator: Measures a prompt on examples. One that is `Accounted` also has its costs
            recorded; one that is `Batching` measures the trials of a batch together.
        url: The run's database, shared with the ledger.
        budget: When to stop; earlier processes' part included.
        trials: Short for `budget=Budget(trials=...)`.
        seed: Seed of the study; None draws one, or takes up that of the study to be continued.
        sampler: A name (`icl_align.search.samplers.RECIPES`), a recipe, or a factory that makes
            the sampler of a trial from `seed=...`.
        warm_start: Prompts of the space to be measured first.
        batch: Trials proposed and measured together; a GPU is used better, each proposal knows less.
        embedder: Model for the exemplars' embeddings, where the sampler uses them; "none" for none.
        goal: What is wanted besides quality; for samplers that heed it (`Recipe.goals`).
        study_name: Name of the study in the database.
        on_trial: Told of each trial as it ends.
        on_cancel: Told of a first interrupt from the keyboard.

    Raises:
        UserError: a warm start outside the space, a run that was started otherwise or is in use by
            another process, no examples, no budget, a goal that the sampler does not heed, or a
            database that cannot be used.
    """
    if not examples:
        raise UserError("a sweep needs at least one development example, got none")
    if batch < 1:
        raise UserError(f"a batch holds at least one trial, got {batch}")
    limits = budget or Budget(trials=trials)
    recipe, goal = as_recipe(sampler), goal or Goal()
    _check_goal(goal, recipe)
    points = [space.point(prompt) for prompt in warm_start]
    identity = identity_of(
        space,
        examples,
        evaluator,
        sampler=recipe.name,
        batch=batch,
        embedder=embedder,
        goal=goal,
        warm_start=warm_start,
    )
    with exclusive(url), opened_study(url, study_name, create=True) as study:
        seed, planned = claim(study, shown(url), seed, identity, limits.generations)
        ids = example_ids(examples)
        made = recipe.make(Task(space, ids, seed, planned, embedder, goal))
        _enqueue(study, points, made)
        loop = Loop(
            study=study,
            space=space,
            sampler=made,
            budget=limits,
            batch=batch,
            measurer=Measurer(study, examples, evaluator),
            pruner=recipe.pruner(len(ids)) if recipe.pruner else None,
            blocks=Blocks.cut(ids, recipe.block, seed),
            on_trial=on_trial,
        )
        interrupted = _patiently(loop, on_cancel)
        records = tuple(record_of(trial) for trial in study.get_trials())
        ranking = rank(study, records, made, space)
        publish(study, ranking, records)
        return Sweep(records, seed, interrupted, ranking, limits.spent(records))


def read_ranking(
    url: str,
    space: Space,
    examples: Callable[[], Sequence[Example]],
    *,
    sampler: str | Recipe | SamplerFactory = DEFAULT_SAMPLER,
    embedder: str | None = None,
    goal: Goal | None = None,
    study_name: str = DEFAULT_STUDY,
) -> tuple[Ranked, ...]:
    """Reads a run's ranking, whether or not the run is still going on.

    A sweep that has come to its end has published it; before that it is computed anew.

    Raises:
        UserError: there is no such run, or its database cannot be read.
    """
    records = read_trials(url, study_name)
    with opened_study(url, study_name, create=False) as study:
        found = published(study, records)
        if found is not None:
            return found
        seed, planned = started_with(study)
        task = Task(space, example_ids(examples()), seed, planned, embedder, goal or Goal())
        return rank(study, records, as_recipe(sampler).make(task), space)


def _check_goal(goal: Goal, recipe: Recipe) -> None:
    if goal != Goal() and not recipe.goals:
        raise UserError(
            f"the sampler {recipe.name!r} heeds quality alone; use {DEFAULT_SAMPLER!r}, or leave out "
            "the constraint and the objective 'tokens'"
        )


def _patiently(loop: Loop, on_cancel: Callable[[], None] | None) -> bool:
    """Runs the loop; True when it was interrupted from the keyboard."""
    with patience(on_cancel) as stop:
        try:
            loop.run(stop)
        except KeyboardInterrupt:
            stop.set()
    return stop.is_set()


def _enqueue(
    study: optuna.Study, points: Sequence[Mapping[str, Any]], sampler: BaseSampler
) -> None:
    """Queues the warm starts that are not in the study yet, on the first block where there are any."""
    there = {trial.user_attrs.get(_WARM_ATTR) for trial in study.get_trials(deepcopy=False)}
    block = isinstance(sampler, ProposingSampler) and BLOCK in sampler.distributions()
    for number, point in enumerate(points):
        if number not in there:
            whole = {**point, BLOCK: 0} if block else dict(point)
            study.enqueue_trial(whole, user_attrs={_WARM_ATTR: number})
