"""Trials measured: a batch at once, or one block by block under a pruner; told only when recorded."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field

import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, Trial, TrialState

from icl_align.engines import ContextOverflowError
from icl_align.evaluate import Accounted, Batching, Counting, Evaluator
from icl_align.evaluation import Evaluation, example_ids
from icl_align.prompt import Prompt, rough_tokens
from icl_align.search.blocks import Blocks
from icl_align.search.proposing import TRIAL_ATTR
from icl_align.search.racing import RacingPruner
from icl_align.search.study import TrialRecord, record_of
from icl_align.types import Example, Score, Usage

Scores = dict[str, Score]


@dataclass
class Measurer:
    """Measures prompts, and never one on an example where it has a verdict.

    Attributes:
        study: Where trials are told.
        examples: All development examples.
        evaluator: What grades.
    """

    study: optuna.Study
    examples: Sequence[Example]
    evaluator: Evaluator
    _known: dict[str, tuple[int, Scores]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Reads what is measured already."""
        self.ids = example_ids(self.examples)
        self._by_id = dict(zip(self.ids, self.examples, strict=True))
        for trial in self.study.get_trials(deepcopy=False):
            stored = trial.user_attrs.get(TRIAL_ATTR)
            if stored is not None and trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
                self._learn(record_of(trial))

    def missing(self, prompt: Prompt, wanted: Sequence[str]) -> list[str]:
        """Gives the examples among wanted that a prompt has no verdict on."""
        known = self._known.get(prompt.digest, (0, {}))[1]
        return [name for name in wanted if name not in known]

    def batch(
        self, trials: Sequence[tuple[FrozenTrial, Prompt, Sequence[str]]]
    ) -> list[TrialRecord]:
        """Measures trials together, each prompt on the wanted examples, and tells them in order."""
        todo = {
            trial.number: (prompt, self.missing(prompt, wanted))
            for trial, prompt, wanted in trials
            if TRIAL_ATTR
            not in trial.user_attrs  # else it was killed between measuring and telling
        }
        start, before = time.perf_counter(), self._usage()
        rows = [(prompt, [self._by_id[name] for name in names]) for prompt, names in todo.values()]
        found = dict(zip(todo, self._grade(rows), strict=True))
        seconds, usage = time.perf_counter() - start, self._usage() - before
        shares = [len(names) for _, names in todo.values()]
        costs = dict(zip(todo, _split(usage, seconds, shares), strict=True))
        for trial, prompt, _ in trials:
            if trial.number in todo:
                names = todo[trial.number][1]
                new = dict(zip(names, found[trial.number], strict=True))
                self._store(trial, prompt, new, *costs[trial.number])
            self._learn(self._stored(trial))  # a later one of the batch may be of the same prompt
        return [self._tell(trial) for trial, _, _ in trials]

    def race(
        self, trial: Trial, prompt: Prompt, blocks: Blocks, pruner: BasePruner, limit: int | None
    ) -> TrialRecord:
        """Measures one trial block by block, until the pruner stops it or `limit` rows are measured.

        It reports every example's score, its step the example's place in the common order.
        """
        frozen = trial._cached_frozen_trial
        if TRIAL_ATTR in trial.user_attrs:
            return self._tell(frozen)
        start, before = time.perf_counter(), self._usage()
        new: Scores = {}
        step = 0
        known = self._known.get(prompt.digest, (0, {}))[1]
        for names in blocks.ids:
            rest = self.missing(prompt, names)
            if limit is not None and len(new) + len(rest) > limit:
                break
            rows = [(prompt, [self._by_id[name] for name in rest])]
            new |= dict(zip(rest, self._grade(rows)[0], strict=True))
            for name in names:
                value = (known | new)[name].value
                if value is None and isinstance(pruner, RacingPruner):
                    value = math.nan  # Optuna's own pruners want such a step left out
                if value is not None and step not in frozen.intermediate_values:
                    trial.report(value, step)
                step += 1
            current = self.study._storage.get_trial(trial._trial_id)
            if step < len(self.ids) and pruner.prune(self.study, current):
                break
        self._store(
            frozen, prompt, new, self._usage() - before, time.perf_counter() - start, reported=True
        )
        return self._tell(frozen)

    def _grade(self, rows: list[tuple[Prompt, list[Example]]]) -> list[list[Score]]:
        """Grades rows together; a prompt that does not fit the model has no verdicts."""
        full = [row for row in rows if row[1]]
        try:
            if isinstance(self.evaluator, Batching) and len(full) > 1:
                graded = iter(self.evaluator.many(full))
            else:
                graded = iter([self._one(*row) for row in full])
        except ContextOverflowError:
            graded = iter([self._one(*row) for row in full])
        found = []
        for prompt, examples in rows:
            scores = list(next(graded)) if examples else []
            if len(scores) != len(examples):
                raise ValueError(
                    f"the evaluator gave {len(scores)} scores to {len(examples)} examples "
                    f"of prompt {prompt.digest[:12]}"
                )
            found.append(scores)
        return found

    def _one(self, prompt: Prompt, examples: list[Example]) -> list[Score]:
        try:
            return self.evaluator(prompt, examples)
        except ContextOverflowError as error:  # this point cannot be used; the others still can
            return [Score(None, note=str(error)) for _ in examples]

    def _store(
        self,
        trial: FrozenTrial,
        prompt: Prompt,
        new: Scores,
        usage: Usage,
        seconds: float,
        *,
        reported: bool = False,
    ) -> None:
        """Records what a trial has measured, together with what was known of its prompt."""
        earlier = self._known.get(prompt.digest)
        scores = (earlier[1] if earlier else {}) | new
        ids = tuple(name for name in self.ids if name in scores)
        evaluation = Evaluation(prompt, ids, tuple(scores[name] for name in ids))
        record = TrialRecord(
            number=trial.number,
            state="running",
            params=trial.params,
            evaluation=evaluation,
            usage=usage,
            seconds=seconds,
            note=f"same prompt as trial {earlier[0]}" if earlier else "",
            measured=len(new),
            length=self._length(prompt),
        )
        storage, number = self.study._storage, trial._trial_id
        storage.set_trial_user_attr(number, TRIAL_ATTR, record.to_json())
        if not reported and evaluation.mean is not None and evaluation.n < len(self.ids):
            storage.set_trial_intermediate_value(number, evaluation.n, evaluation.mean)

    def _tell(self, trial: FrozenTrial) -> TrialRecord:
        """Tells a recorded trial: complete with all examples measured, else pruned, or failed."""
        stored = self._frozen(trial).user_attrs[TRIAL_ATTR]
        if stored["mean"] is None:
            told = self.study.tell(trial.number, None, TrialState.FAIL)
        elif len(stored["scores"]) == len(self.ids):
            told = self.study.tell(trial.number, stored["mean"], TrialState.COMPLETE)
        else:
            told = self.study.tell(trial.number, None, TrialState.PRUNED)
        record = record_of(told)
        self._learn(record)
        return record

    def _stored(self, trial: FrozenTrial) -> TrialRecord:
        return record_of(self._frozen(trial))

    def _frozen(self, trial: FrozenTrial) -> FrozenTrial:
        return self.study._storage.get_trial(trial._trial_id)

    def _learn(self, record: TrialRecord) -> None:
        if record.evaluation is not None:
            pairs = zip(record.evaluation.ids, record.evaluation.scores, strict=True)
            scores = {name: score for name, score in pairs if score.value is not None}
            if scores:
                before = self._known.get(record.evaluation.prompt.digest, (0, {}))[1]
                self._known[record.evaluation.prompt.digest] = record.number, before | scores

    def _length(self, prompt: Prompt) -> int:
        text = prompt.to_text()
        if isinstance(self.evaluator, Counting):
            return self.evaluator.count_tokens(text)
        return rough_tokens(text)

    def _usage(self) -> Usage:
        return self.evaluator.usage if isinstance(self.evaluator, Accounted) else Usage()


def _split(usage: Usage, seconds: float, shares: Sequence[int]) -> list[tuple[Usage, float]]:
    """Splits a batch's cost among its trials by their rows, so that the parts add up to it."""
    total = sum(shares) or 1
    parts, done = [], 0
    before = Usage()
    for share in shares:
        done += share
        counts = [round(value * done / total) for value in astuple(usage)[:-1]]
        paid, cached, prompted, reused, generated = counts
        now = Usage(paid, cached, prompted, reused, generated, usage.seconds * done / total)
        parts.append((now - before, seconds * share / total))
        before = now
    return parts
