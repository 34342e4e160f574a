"""A run: one folder with an experiment, its database, and what came out of it.

```
runs/first/
  experiment.json      the experiment as it was started, paths resolved
  run.db               the Optuna study and the ledger
  confirmation.json    the proof, after `prove`
  confirmation-scores.json  what it measured, instruction by instruction
  pack.json, pack.txt  the winner
```
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from icl_align.assemble import (
    build_baselines,
    build_budget,
    build_engine,
    build_goal,
    build_objective,
    build_space,
    load_splits,
)
from icl_align.config import LIMITS, Experiment
from icl_align.errors import UserError
from icl_align.evaluate import EngineEvaluator
from icl_align.ledger import Ledger, sqlite_url
from icl_align.prompt import Prompt
from icl_align.search.budget import Budget
from icl_align.search.ranking import Ranked, front
from icl_align.search.study import TrialRecord, exclusive, read_trials
from icl_align.search.sweep import Progress, Sweep, read_ranking, run_sweep
from icl_align.types import Usage

EXPERIMENT_FILE = "experiment.json"
RUN_VERSION = 1
_EARLIER = 5
"""Prompts that an earlier run hands on."""


@dataclass
class Run:
    """An opened run folder.

    Attributes:
        folder: Where it lives.
        experiment: What it runs.
    """

    folder: Path
    experiment: Experiment
    _evaluator: EngineEvaluator | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """The database of the study and the ledger."""
        return self.experiment.database or sqlite_url((self.folder / "run.db").resolve())

    @property
    def evaluator(self) -> EngineEvaluator:
        """Engine, objective and ledger of the experiment, made at first use."""
        if self._evaluator is None:
            engine, objective = build_engine(self.experiment), build_objective(self.experiment)
            self._evaluator = EngineEvaluator(engine, objective, Ledger(self.url))
        return self._evaluator

    def usage(self) -> Usage:
        """What this process has spent so far, also while it is generating; the engine need not be there."""
        return Usage() if self._evaluator is None else self._evaluator.usage

    def sweep(
        self,
        on_trial: Callable[[Progress], None] | None = None,
        on_cancel: Callable[[], None] | None = None,
        earlier: Sequence[Path] = (),
    ) -> Sweep:
        """Runs the experiment's sweep, what is missing of it."""
        experiment = self.experiment
        search = experiment.search
        self._write_limits()
        return run_sweep(
            build_space(experiment),
            load_splits(experiment)["dev"],
            self.evaluator,
            url=self.url,
            budget=build_budget(experiment),
            seed=experiment.seed,
            sampler=search.sampler,
            warm_start=[*warm_starts(experiment), *self._earlier(earlier)],
            batch=search.batch,
            embedder=search.embedder,
            goal=build_goal(experiment),
            on_trial=on_trial,
            on_cancel=on_cancel,
        )

    def _write_limits(self) -> None:
        """Writes down with which limits the sweep goes on, unless they leave it nothing to do.

        Raises:
            UserError: another process is working on the run.
        """
        file, wanted = self.folder / EXPERIMENT_FILE, self.experiment.to_json()
        if open_run(self.folder).experiment.to_json() == wanted:
            return
        budget = build_budget(self.experiment)
        if budget.share(budget.spent(self._told())) < 1:
            with exclusive(self.url):
                write_json(file, {"version": RUN_VERSION, "experiment": wanted})

    def _told(self) -> tuple[TrialRecord, ...]:
        """The trials so far; none before the first."""
        try:
            return self.trials()
        except UserError:
            return ()

    def random_search(
        self,
        generations: int,
        on_trial: Callable[[Progress], None] | None = None,
        on_cancel: Callable[[], None] | None = None,
    ) -> Sweep:
        """Runs a random search in a study of its own, at so many generations."""
        experiment = self.experiment
        return run_sweep(
            build_space(experiment),
            load_splits(experiment)["dev"],
            self.evaluator,
            url=self.url,
            budget=Budget(generations=generations),
            seed=experiment.seed,
            sampler="random",
            study_name="random-search",
            on_trial=on_trial,
            on_cancel=on_cancel,
        )

    def ranking(self) -> tuple[Ranked, ...]:
        """The measured prompts as the sampler sees them, the one to use first."""
        experiment = self.experiment
        return read_ranking(
            self.url,
            build_space(experiment),
            lambda: load_splits(experiment)["dev"],
            sampler=experiment.search.sampler,
            embedder=experiment.search.embedder,
            goal=build_goal(experiment),
        )

    def _earlier(self, folders: Sequence[Path]) -> list[Prompt]:
        """The best prompts of earlier runs, as far as this run's space holds them."""
        space, found = build_space(self.experiment), list[Prompt]()
        for folder in folders:
            for item in open_run(folder).ranking()[:_EARLIER]:
                was = item.prompt.decoding
                decoding = replace(  # what the space fixes may differ, the seed first of all
                    space.decoding,
                    temperature=was.temperature,
                    repetition_penalty=was.repetition_penalty,
                )
                prompt = replace(item.prompt, decoding=decoding)
                try:
                    space.point(prompt)
                except UserError:
                    continue
                found.append(prompt)
        return list({prompt.digest: prompt for prompt in found}.values())

    def trials(self) -> tuple[TrialRecord, ...]:
        """All trials so far."""
        return read_trials(self.url)


def start(experiment: Experiment, folder: Path) -> Run:
    """Opens a run folder for an experiment, new or to be continued.

    Raises:
        UserError: the folder holds a run of another experiment, or cannot be written.
    """
    file = folder / EXPERIMENT_FILE
    wanted = experiment.to_json()
    if file.exists():
        stored = open_run(folder).experiment.to_json()
        for key, before, now in differences(stored, wanted):
            if key not in {f"search.{name}" for name in LIMITS}:
                raise UserError(
                    f"{folder} holds a run with {key} = {before!r}, now {now!r}; "
                    "continue it with what it was started with, or choose another --out"
                )
        return Run(folder, experiment)  # other limits are written down when the sweep goes on
    if folder.exists() and not folder.is_dir():
        raise UserError(f"the run folder {folder} is a file; choose another --out")
    load_splits(experiment)  # a mistake in a file shows before anything is written
    build_space(experiment)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(file, {"version": RUN_VERSION, "experiment": wanted})
    except OSError as error:
        raise UserError(
            f"cannot write the run folder {folder}: {error.strerror}; choose another --out"
        ) from error
    return Run(folder, experiment)


def open_run(folder: Path) -> Run:
    """Opens an existing run folder.

    Raises:
        UserError: it holds no run, or one of another version.
    """
    file = folder / EXPERIMENT_FILE
    if not file.exists():
        raise UserError(
            f"{folder} is not a run: it has no {EXPERIMENT_FILE}; start one with icl-align run"
        )
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        written = stored["version"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged ({error}); restore it or start a new run") from error
    if written != RUN_VERSION:
        raise UserError(f"{file} has version {written}, this icl_align reads {RUN_VERSION}")
    return Run(folder, Experiment.from_json(stored["experiment"], where=str(file)))


def summary(run: Run, sweep: Sweep) -> dict[str, Any]:
    """What `icl-align run --json` prints."""
    best = sweep.best
    usage = run.evaluator.usage
    budget = build_budget(run.experiment)
    return {
        "run": str(run.folder),
        "seed": sweep.seed,
        "sampler": run.experiment.search.sampler,
        "trials": sweep.spent.trials,
        "budget": budget.to_json(),
        "spent": sweep.spent.to_json(),
        "share": budget.share(sweep.spent),
        "trials_since_proof": _since_proof(run, sweep),
        "interrupted": sweep.interrupted,
        "best": best.to_json() if best else None,
        "generations": {"paid": usage.paid, "cached": usage.cached},
        "tokens": usage.to_json(),
    }


def _since_proof(run: Run, sweep: Sweep) -> int | None:
    """How many trials have been told since the run's proof; None without a proof."""
    try:
        pack = json.loads((run.folder / "pack.json").read_text(encoding="utf-8"))
        known = int(pack["evidence"]["trials"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return max(0, sweep.spent.trials - known)


def ranking(run: Run, count: int, *, pareto: bool = False) -> list[dict[str, Any]]:
    """The best prompts, best first; with `pareto` those that no shorter prompt equals."""
    found = run.ranking()
    rows = front(found) if pareto else found
    return [_row(item) for item in rows[:count]]


def _row(item: Ranked) -> dict[str, Any]:
    prompt = item.prompt
    return {
        **item.to_json(),
        "standard_error": item.evaluation.standard_error,
        "k": len(prompt.exemplars),
        "format": prompt.format.name,
        "temperature": prompt.decoding.temperature,
        "system": prompt.system,
        "exemplars": [exemplar.id or exemplar.query[:20] for exemplar in prompt.exemplars],
    }


def differences(a: Any, b: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two JSON values differ: the key, and both values."""
    if isinstance(a, dict) and isinstance(b, dict):
        for name in sorted({*a, *b}):
            yield from differences(a.get(name), b.get(name), f"{key}.{name}" if key else name)
    elif a != b:
        yield key, a, b


def warm_starts(experiment: Experiment) -> list[Prompt]:
    """The baselines that the space holds: what a sweep measures first."""
    space, found = build_space(experiment), []
    for prompt in build_baselines(experiment).values():
        try:
            space.point(prompt)
        except UserError:
            continue
        found.append(prompt)
    return found


def write_json(path: Path, content: Any) -> None:
    """Writes a file whole or not at all."""
    partial = path.with_name(f"{path.name}.part")
    partial.write_text(
        json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8"
    )
    partial.replace(path)
