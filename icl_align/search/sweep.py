"""The loop of a search: a sampler proposes, an evaluator measures, the study remembers."""

from __future__ import annotations

import secrets
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, Trial, TrialState

from icl_align.errors import UserError
from icl_align.evaluate import Accounted, Evaluator, example_ids
from icl_align.ledger import content_digest, example_digest, shown
from icl_align.prompt import Prompt
from icl_align.search.blocks import Blocks
from icl_align.search.budget import Budget, Spent
from icl_align.search.goal import Goal
from icl_align.search.measure import Measurer
from icl_align.search.proposing import BLOCK, TRIAL_ATTR, ProposingSampler
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
    RECORD_VERSION,
    TrialRecord,
    exclusive,
    opened_study,
    read_trials,
    record_of,
)
from icl_align.space import Space
from icl_align.types import Example

_RUN_ATTR = "run"
_WARM_ATTR = "warm_start"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a sweep is.

    Attributes:
        trial: The trial that has just ended.
        share: Share of the budget that is used up, in [0, 1] or a little above.
        spent: What that is.
    """

    trial: TrialRecord
    share: float
    spent: Spent


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
    if goal != Goal() and not recipe.goals:
        raise UserError(
            f"the sampler {recipe.name!r} heeds quality alone; use {DEFAULT_SAMPLER!r}, or leave out "
            "the constraint and the objective 'tokens'"
        )
    points = [space.point(prompt) for prompt in warm_start]
    identity = {
        "space": space.digest,
        "examples": _examples_digest(examples),
        "sampler": recipe.name,
        "batch": str(batch),
        "embedder": embedder or "usual",
        "goal": content_digest(asdict(goal)),
        "warm start": content_digest([prompt.digest for prompt in warm_start]),
        **(evaluator.identity if isinstance(evaluator, Accounted) else {}),
    }
    with exclusive(url), opened_study(url, study_name, create=True) as study:
        seed, planned = _claim(study, shown(url), seed, identity, limits.generations)
        ids = example_ids(examples)
        task = Task(space, ids, seed, planned, embedder, goal)
        made = recipe.make(task)
        _enqueue(study, points, made)
        loop = _Loop(
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
        with patience(on_cancel) as stop:
            try:
                loop.run(stop)
            except KeyboardInterrupt:
                stop.set()
        records = tuple(record_of(trial) for trial in study.get_trials())
        ranking = rank(study, records, made, space)
        publish(study, ranking, records)
        return Sweep(records, seed, stop.is_set(), ranking, limits.spent(records))


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
        run = study.user_attrs[_RUN_ATTR]
        ids = example_ids(examples())
        task = Task(space, ids, int(run["seed"]), run["generations"], embedder, goal or Goal())
        return rank(study, records, as_recipe(sampler).make(task), space)


@dataclass
class _Loop:
    """The state of a sweep while it runs; all of it can be read from the study again."""

    study: optuna.Study
    space: Space
    sampler: BaseSampler
    budget: Budget
    batch: int
    measurer: Measurer
    pruner: BasePruner | None
    blocks: Blocks
    on_trial: Callable[[Progress], None] | None
    told: dict[int, TrialRecord] = field(default_factory=dict)

    def run(self, stop: threading.Event) -> None:
        """Measures batches until the budget is used up."""
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state.is_finished():
                self.told[trial.number] = record_of(trial)
        while not stop.is_set():
            spent = self.budget.spent(self.told.values())
            if isinstance(self.sampler, ProposingSampler):
                self.sampler.spent = self.budget.share(spent)
            members = self._members(spent)
            if not members:
                return
            if self.pruner is not None:
                for trial in members:
                    self._end(self._race(trial))
            else:
                wanted = [self._wanted(trial) for trial in members]
                for record in self.measurer.batch(wanted):
                    self._end(record)

    def _end(self, record: TrialRecord) -> None:
        self.told[record.number] = record
        if self.on_trial:
            spent = self.budget.spent(self.told.values())
            self.on_trial(Progress(record, self.budget.share(spent), spent))

    def _race(self, trial: FrozenTrial) -> TrialRecord:
        assert self.pruner is not None
        spent = self.budget.spent(self.told.values())
        most = self.budget.generations
        limit = None if most is None else most - spent.generations
        prompt = self.space.build(trial.params)
        return self.measurer.race(self._taken_up(trial), prompt, self.blocks, self.pruner, limit)

    def _members(self, spent: Spent) -> list[FrozenTrial]:
        """Gives the trials of the next batch: those cut off first, then new ones.

        A batch is the trials whose numbers have one quotient by its size. All its trials are asked
        before any is told; so a batch that has a told trial is not filled up again.
        """
        there = self.study.get_trials(deepcopy=False)
        open_ = [trial for trial in there if trial.state == TrialState.RUNNING]
        waiting = [trial.number for trial in there if trial.state == TrialState.WAITING]
        coming = min(waiting, default=len(there))
        group = (open_[0].number if open_ else coming) // self.batch
        members = [self._completed(trial) for trial in open_]
        if open_ and any(number // self.batch == group for number in self.told):
            return members
        planned = sum(self._cost(trial) for trial in members)
        while coming // self.batch == group and len(members) < self.batch:
            asked = self._ask(coming, spent, planned, len(members))
            if asked is None:
                break
            planned += self._cost(asked)
            members.append(asked)
            waiting = waiting[1:]
            coming = min(waiting, default=asked.number + 1)
        return members

    def _ask(self, number: int, spent: Spent, planned: int, asked: int) -> FrozenTrial | None:
        """Asks for one more trial, unless the budget does not allow for it."""
        budget = self.budget
        if budget.trials is not None and spent.trials + asked >= budget.trials:
            return None
        if budget.generations is not None:
            left = budget.generations - spent.generations - planned
            if left < self._most():
                return None
        if budget.share(spent) >= 1:
            return None
        self.study.sampler = self.sampler
        trial = self.study.ask()
        if trial.number != number:
            raise RuntimeError(f"expected trial {number}, the study gave {trial.number}")
        return self._drawn(trial)

    def _most(self) -> int:
        """The most examples that a trial may have to be measured on."""
        if self.pruner is not None:
            return max(self.blocks.sizes)
        cut = self._cut()
        return max(cut.sizes) if cut is not None else self.blocks.total

    def _cut(self) -> Blocks | None:
        return self.sampler.blocks if isinstance(self.sampler, ProposingSampler) else None

    def _distributions(self) -> dict[str, optuna.distributions.BaseDistribution]:
        if isinstance(self.sampler, ProposingSampler):
            return self.sampler.distributions()
        return self.space.distributions()

    def _completed(self, trial: FrozenTrial) -> FrozenTrial:
        """Draws what a cut-off trial was about to draw."""
        if all(name in trial.params for name in self._distributions()):
            return trial
        self.study.sampler = self.sampler
        # Optuna has no public way to take up a running trial; this is how Study.ask makes its own.
        return self._drawn(Trial(self.study, trial._trial_id))

    def _drawn(self, trial: Trial) -> FrozenTrial:
        """Draws all dimensions of a trial.

        A trial killed between two dimensions has some recorded. They are drawn again all the same:
        otherwise the random stream would be behind by that many draws, and the others would come out
        differently.
        """
        recorded = trial.params
        frozen = trial._cached_frozen_trial
        frozen.params, frozen.distributions = {}, {}
        for name, distribution in self._distributions().items():
            trial._suggest(name, distribution)
        frozen.params |= recorded
        return frozen

    def _taken_up(self, trial: FrozenTrial) -> Trial:
        """Makes a trial whose parameters are drawn one that can report."""
        self.study.sampler = RandomSampler(seed=0)  # it would not be asked again
        taken = Trial(self.study, trial._trial_id)
        self.study.sampler = self.sampler
        return taken

    def _wanted(self, trial: FrozenTrial) -> tuple[FrozenTrial, Prompt, Sequence[str]]:
        cut = self._cut()
        names = self.measurer.ids if cut is None else cut.ids[trial.params.get(BLOCK, 0)]
        return trial, self.space.build(trial.params), names

    def _cost(self, trial: FrozenTrial) -> int:
        if TRIAL_ATTR in trial.user_attrs:
            return 0
        _, prompt, names = self._wanted(trial)
        return len(self.measurer.missing(prompt, names))


@contextmanager
def patience(on_cancel: Callable[[], None] | None) -> Iterator[threading.Event]:
    """Turns a first SIGINT into a wish to stop; a second one interrupts as usual.

    Args:
        on_cancel: Told of the first one.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.getsignal(signal.SIGINT)

    def on_signal(number: int, frame: Any) -> None:
        del number, frame
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        if on_cancel:
            on_cancel()

    signal.signal(signal.SIGINT, on_signal)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def _claim(
    study: optuna.Study,
    place: str,
    seed: int | None,
    identity: Mapping[str, str],
    generations: int | None,
) -> tuple[int, int | None]:
    """Marks a new study as ours, refuses one that was started otherwise.

    Returns:
        Its seed, and the generations it was started for: what blocks are cut by stays as it was when
        the budget is raised.
    """
    stored = study.user_attrs.get(_RUN_ATTR)
    if stored is None:
        if study.get_trials(deepcopy=False):
            raise UserError(
                f"the study {study.study_name!r} in {place} was not made by icl_align; "
                "use another study name or a new run"
            )
        seed = secrets.randbelow(2**31) if seed is None else seed
        run = {
            "version": RECORD_VERSION,
            "seed": seed,
            "identity": dict(identity),
            "generations": generations,
        }
        study.set_user_attr(_RUN_ATTR, run)
        return seed, generations
    if stored["version"] != RECORD_VERSION:
        raise UserError(
            f"this icl_align reads run version {RECORD_VERSION}, but {place} has version "
            f"{stored['version']}; use the version of icl_align that wrote it, or a new run"
        )
    before: dict[str, Any] = {"seed": stored["seed"], **stored["identity"]}
    now: dict[str, Any] = {"seed": stored["seed"] if seed is None else seed, **identity}
    for name in dict.fromkeys([*before, *now]):
        if before.get(name) != now.get(name):
            raise UserError(
                f"the run in {place} was started with another {name} "
                f"({str(before.get(name))[:16]}, now "
                f"{str(now.get(name))[:16]}); use the same, or start a new run elsewhere"
            )
    return int(stored["seed"]), stored["generations"]


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


def _examples_digest(examples: Sequence[Example]) -> str:
    ids = example_ids(examples)
    return content_digest(
        [[name, example_digest(e)] for name, e in zip(ids, examples, strict=True)]
    )
