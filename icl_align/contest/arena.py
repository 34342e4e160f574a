"""Where the entrants of a contest search, one after the other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from icl_align.assemble import build_goal, build_space
from icl_align.config import Experiment
from icl_align.contest.outcome import Entrant, Handed
from icl_align.contest.rules import DSPY, Rules, Standing
from icl_align.contest.store import Store, entrant_name
from icl_align.errors import UserError
from icl_align.evaluate import EngineEvaluator
from icl_align.evaluation import example_ids
from icl_align.prompt import Prompt
from icl_align.run import warm_starts
from icl_align.search.baselines.dspy_search import dspy_search
from icl_align.search.budget import Budget
from icl_align.search.ranking import Ranked, rank
from icl_align.search.samplers import Task, load_sampler
from icl_align.search.study import TrialRecord, opened_study
from icl_align.search.sweep import Progress, Sweep, run_sweep
from icl_align.types import Example, Score


class _StoppedError(Exception):
    """Ends a search that holds its loop itself."""


@dataclass
class Arena:
    """Where entrants search, one after the other."""

    experiment: Experiment
    rules: Rules
    folder: Path
    url: str
    examples: Sequence[Example]
    evaluator: EngineEvaluator
    stop: threading.Event
    on_progress: Callable[[Standing], None] | None
    on_cancel: Callable[[], None] | None
    done: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.space, self.goal = build_space(self.experiment), build_goal(self.experiment)
        self.store = Store(self.folder / "entrants.json")

    def entrants(self) -> Iterator[Entrant]:
        """Gives entrants as they end, until all have or one is stopped."""
        for seed in range(self.rules.seeds):
            for sampler in self.rules.samplers:
                if self.stop.is_set():
                    return
                found = self.store.get(sampler, seed)
                if found is None or (found.points != self.rules.points and sampler not in DSPY):
                    new = (
                        self._dspy(sampler, seed) if sampler in DSPY else self._sweep(sampler, seed)
                    )
                    if new is None:
                        return
                    if new.thinking is None and found is not None:
                        new = replace(new, thinking=found.thinking)
                    found = new
                    self.store.put(found)
                self.done += 1
                yield found

    def _tell(self, sampler: str, seed: int, share: float) -> None:
        if self.on_progress:
            total = len(self.rules.samplers) * self.rules.seeds
            share = (self.done + min(share, 1.0)) / total
            self.on_progress(Standing(entrant_name(sampler, seed), self.done, total, share))

    def _cancelled(self) -> None:
        self.stop.set()
        if self.on_cancel:
            self.on_cancel()

    def _sweep(self, sampler: str, seed: int) -> Entrant | None:
        """Runs a sampler of ours or Optuna's to the end of its budget; None if it was stopped."""
        search, rules = self.experiment.search, self.rules
        ends: list[tuple[int, float, float]] = []

        def on_trial(now: Progress) -> None:
            batch = now.trial.number // search.batch
            ends.append((batch, now.trial.seconds, time.perf_counter()))
            self._tell(sampler, seed, now.share)

        sweep = run_sweep(
            self.space,
            self.examples,
            self.evaluator,
            url=self.url,
            budget=Budget(generations=rules.generations),
            seed=seed,
            sampler=sampler,
            warm_start=warm_starts(self.experiment) if rules.warm_start else (),
            batch=search.batch,
            embedder=search.embedder,
            goal=self.goal if load_sampler(sampler).goals else None,
            study_name=entrant_name(sampler, seed),
            on_trial=on_trial,
            on_cancel=self._cancelled,
        )
        if sweep.interrupted:
            self.stop.set()
            return None
        if not sweep.ranking:
            raise UserError(
                f"{sampler!r} has no prompt with a verdict after {sweep.spent.generations} of "
                f"{rules.generations} generations; there are {len(self.examples)} development "
                "examples: give a larger --generations, or fewer examples"
            )
        return Entrant(
            sampler,
            seed,
            rules.points,
            sweep.spent.trials,
            sweep.spent.generations,
            sweep.spent.seconds,
            _thinking(ends),
            tuple(self._handed(sampler, seed, sweep)),
        )

    def _handed(self, sampler: str, seed: int, sweep: Sweep) -> Iterator[Handed]:
        """Asks what would have been handed over after each part of the budget."""
        points, budget = self.rules.points, self.rules.generations
        if points > 1:
            task = Task(
                self.space,
                example_ids(self.examples),
                seed,
                budget,
                self.experiment.search.embedder,
                self.goal,
            )
            made = load_sampler(sampler).make(task)
            with opened_study(self.url, entrant_name(sampler, seed), create=False) as study:
                for point in range(1, points):
                    spent, told = 0, list[TrialRecord]()
                    for record in sweep.trials:
                        if (spent + record.measured) * points > budget * point:
                            break
                        spent += record.measured
                        told.append(record)
                    ranking = rank(study, told, made, self.space)
                    if ranking:
                        yield _first(ranking, point / points, spent)
        yield _first(sweep.ranking, 1.0, sweep.spent.generations)

    def _dspy(self, sampler: str, seed: int) -> Entrant | None:
        """Runs one of DSPy's optimisers; None if it was stopped."""
        used: list[float] = []
        prompts: set[str] = set()

        def counted(prompt: Prompt, examples: Sequence[Example]) -> list[Score]:
            if self.stop.is_set():
                raise _StoppedError
            started = time.perf_counter()
            scores = self.evaluator(prompt, examples)
            used.append(time.perf_counter() - started)
            prompts.add(prompt.digest)
            self._tell(sampler, seed, len(used) / self.rules.generations)
            return scores

        started = time.perf_counter()
        try:
            prompt, reported = dspy_search(
                DSPY[sampler],
                self.space,
                self.examples,
                counted,
                evaluations=self.rules.generations,
                seed=seed,
            )
        except _StoppedError:
            return None
        thinking = time.perf_counter() - started - sum(used)
        return Entrant(
            sampler,
            seed,
            1,
            len(prompts),
            len(used),
            sum(used),
            thinking / len(prompts),
            (Handed(1.0, len(used), prompt, reported),),
        )


def _first(ranking: Sequence[Ranked], share: float, spent: int) -> Handed:
    return Handed(share, spent, ranking[0].prompt, ranking[0].estimate)


def _thinking(ends: Sequence[tuple[int, float, float]]) -> float | None:
    """Gives the seconds that a trial took beside measuring, from the end of the first batch on.

    What opening the study takes is not counted; it would weigh on who has few trials.

    Args:
        ends: Of each trial, as it ended: its batch, the seconds it was measured, and the moment.
    """
    later = [seconds for batch, seconds, _ in ends if batch != ends[0][0]]
    if not later:
        return None
    start = max(moment for batch, _, moment in ends if batch == ends[0][0])
    return max(0.0, ends[-1][2] - start - sum(later)) / len(later)
