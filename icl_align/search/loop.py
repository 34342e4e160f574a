"""The turns of a sweep: which trials come next, their drawing, and when there is no budget for more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, Trial, TrialState

from icl_align.prompt import Prompt
from icl_align.search.blocks import Blocks
from icl_align.search.budget import Budget, Spent
from icl_align.search.measure import Measurer
from icl_align.search.proposing import BLOCK, TRIAL_ATTR, ProposingSampler
from icl_align.search.ranking import Ranked, rank
from icl_align.search.study import TrialRecord, record_of
from icl_align.space import Space
from icl_align.types import Usage


@dataclass(frozen=True)
class Progress:
    """How far a sweep is.

    Attributes:
        trial: The trial that has just ended.
        share: Share of the budget that is used up, in [0, 1] or a little above.
        spent: What that is.
        budget: What may be spent.
        usage: What the told trials have cost, each since it was last started.
        prompts: Prompts measured so far.
        half: Those of them that are measured on half of the development examples or more.
        whole: Those that are measured on all.
        examples: How many development examples there are.
    """

    trial: TrialRecord
    share: float
    spent: Spent
    budget: Budget
    usage: Usage
    prompts: int
    half: int
    whole: int
    examples: int
    _lead: Callable[[], Ranked | None] = field(repr=False, compare=False)

    @property
    def dropped(self) -> int:
        """Prompts that have been left, so far, before they were measured on half of the examples."""
        return self.prompts - self.half

    @cached_property
    def best(self) -> Ranked | None:
        """The prompt that the sampler would have one use now; None before any verdict.

        It is worked out at the first look, which takes the sampler as long as a proposal.
        """
        return self._lead()


@dataclass
class Loop:
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
    _usage: Usage = field(default=Usage(), init=False)
    _measured: dict[str, int] = field(default_factory=dict, init=False)
    """The measured prompts, and on how many examples."""

    def run(self, stop: threading.Event) -> None:
        """Measures batches until the budget is used up."""
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state.is_finished():
                self._count(record_of(trial))
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
        self._count(record)
        if self.on_trial:
            spent = self.budget.spent(self.told.values())
            total, counts = len(self.measurer.ids), self._measured.values()
            self.on_trial(
                Progress(
                    record,
                    self.budget.share(spent),
                    spent,
                    self.budget,
                    self._usage,
                    len(counts),
                    sum(2 * count >= total for count in counts),
                    sum(count >= total for count in counts),
                    total,
                    self._lead,
                )
            )

    def _count(self, record: TrialRecord) -> None:
        self.told[record.number] = record
        self._usage += record.usage
        if record.evaluation is not None:
            digest = record.evaluation.prompt.digest
            known = self._measured.get(digest, 0)
            self._measured[digest] = max(known, len(record.evaluation.ids))

    def _lead(self) -> Ranked | None:
        records = [self.told[number] for number in sorted(self.told)]
        return next(iter(rank(self.study, records, self.sampler, self.space)), None)

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
