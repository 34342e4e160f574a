"""The course of a contest: everyone searches, then what each handed over is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from icl_align.assemble import (
    build_baselines,
    build_engine,
    build_objective,
    load_splits,
)
from icl_align.config import Experiment
from icl_align.contest.arena import Arena
from icl_align.contest.figure import plot_contest
from icl_align.contest.outcome import Entrant, Outcome, Values
from icl_align.contest.rules import Rules, Standing
from icl_align.contest.store import CONTEST_VERSION, claim, make_folder
from icl_align.errors import UserError
from icl_align.evaluate import EngineEvaluator, Evaluator, evaluate
from icl_align.ledger import Ledger, sqlite_url
from icl_align.prompt import Prompt
from icl_align.run import write_json
from icl_align.search.patience import patience
from icl_align.search.study import exclusive
from icl_align.types import Example


def compete(
    experiment: Experiment,
    rules: Rules,
    folder: Path,
    *,
    on_progress: Callable[[Standing], None] | None = None,
    on_cancel: Callable[[], None] | None = None,
) -> Outcome:
    """Starts a contest, or continues the one in the folder.

    Every sampler searches with every seed, on the same space and development examples, with the same
    budget of generations. The ledger is common: a pair that an earlier entrant has paid for is free,
    but counts as a generation of each that measures it. What each hands over, the first of its
    ranking, is then measured on the untouched examples, confirm and test together; so are the
    experiment's baselines. Splits, decoding and all else stay those of the experiment's own seed. Of
    its limits only the one on generations counts.

    An interrupt from the keyboard lets the batch in flight end. Samplers, seeds and points can be
    changed when a contest is continued; what it has is not run again.

    Args:
        experiment: What is searched.
        rules: Who takes part.
        folder: Where everything is kept.
        on_progress: Told of how far it is, at each trial.
        on_cancel: Told of a first interrupt from the keyboard.

    Raises:
        UserError: a folder that holds another contest or is in use by another process, or an entrant
            that can measure no prompt with such a budget.
    """
    splits = load_splits(experiment)
    untouched = _untouched(splits)
    engine, objective = build_engine(experiment), build_objective(experiment)
    make_folder(folder)
    url = sqlite_url((folder / "contest.db").resolve())
    ledger = Ledger(url)
    evaluator = EngineEvaluator(engine, objective, ledger)
    judged = _Judged(evaluator, untouched)
    try:
        with exclusive(sqlite_url((folder / "contest").resolve())), patience(on_cancel) as stop:
            dev = splits["dev"]
            claim(experiment, rules, folder, dev, evaluator.identity)
            arena = Arena(
                experiment, rules, folder, url, dev, evaluator, stop, on_progress, on_cancel
            )
            try:
                judged.take(build_baselines(experiment), arena.entrants())
            except KeyboardInterrupt:
                stop.set()
    finally:
        ledger.close()
    return Outcome(
        folder=folder,
        samplers=rules.samplers,
        seeds=rules.seeds,
        generations=rules.generations,
        warm_start=rules.warm_start,
        entrants=tuple(judged.entrants),
        baselines=judged.baselines,
        held_out={name: len(examples) for name, examples in untouched.items()},
        level=experiment.confirm.level,
        interrupted=len(judged.entrants) < len(rules.samplers) * rules.seeds,
        usage=evaluator.usage,
    )


def recorded(outcome: Outcome) -> dict[str, Any]:
    """Writes result.json and the figure into the contest's folder, and gives the object."""
    found = outcome.to_json()
    places = plot_contest(found, outcome.folder) if outcome.entrants else []
    found["figures"] = [str(place) for place in places]
    write_json(outcome.folder / "result.json", {"version": CONTEST_VERSION, **found})
    return found


def _untouched(splits: Mapping[str, list[Example]]) -> dict[str, list[Example]]:
    """Gives the splits that no search sees.

    Raises:
        UserError: there are none.
    """
    found = {name: splits[name] for name in ("confirm", "test") if name in splits}
    if not found:
        raise UserError("a contest is judged on untouched examples: give confirm or test in [data]")
    return found


@dataclass
class _Judged:
    """What has been measured on the untouched examples so far; an interrupt leaves what there is."""

    evaluator: Evaluator
    untouched: Mapping[str, Sequence[Example]]
    baselines: dict[str, Values] = field(default_factory=dict)
    entrants: list[Entrant] = field(default_factory=list)

    def take(self, baselines: Mapping[str, Prompt], entrants: Iterable[Entrant]) -> None:
        """Measures the baselines, then what each entrant hands over as it ends."""
        for name, prompt in baselines.items():
            self.baselines[name] = self._values(prompt)
        for entrant in entrants:
            handed = [replace(one, values=self._values(one.prompt)) for one in entrant.handed]
            self.entrants.append(replace(entrant, handed=tuple(handed)))

    def _values(self, prompt: Prompt) -> Values:
        """Measures a prompt split by split: their ids may be alike."""
        found = [evaluate(prompt, examples, self.evaluator) for examples in self.untouched.values()]
        return tuple(score.value for one in found for score in one.scores)
