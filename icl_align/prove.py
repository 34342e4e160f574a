"""The end of a run: its winner proved, and written as a pack with the evidence."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from icl_align.assemble import build_baselines, build_space, load_splits
from icl_align.errors import UserError
from icl_align.ledger import content_digest, example_digest
from icl_align.pack import Pack
from icl_align.proof_scores import measured, write_scores
from icl_align.run import RUN_VERSION, Run, write_json
from icl_align.search.confirm import Confirmation, choose, confirm
from icl_align.search.ranking import front
from icl_align.search.study import TrialRecord
from icl_align.search.sweep import Progress
from icl_align.types import Example, Usage

PACK_FILE = "pack.json"


@dataclass(frozen=True)
class Proof:
    """A confirmation with the pack it has been written to.

    Attributes:
        confirmation: Winner, baselines and intervals.
        pack: The winner as a pack.
        path: The pack's file.
        paid: Generations the run has paid for so far, all its processes together.
        cached: Generations this process read from the ledger.
        now: Generations this process has paid for.
        usage: What the trials, since each was last started, and the confirmation have cost.
        seconds: Wall time of this process's work on the run.
    """

    confirmation: Confirmation
    pack: Pack
    path: Path
    paid: int
    cached: int
    now: int
    usage: Usage
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The confirmation's numbers with "pack", "generations", "tokens" and "seconds"."""
        return {
            **self.confirmation.to_json(),
            "pack": str(self.path),
            "generations": {"paid": self.paid, "cached": self.cached},
            "now": {"paid": self.now, "cached": self.cached},
            "tokens": self.usage.to_json(),
            "seconds": round(self.seconds, 2),
        }


def prove(
    run: Run,
    against: Iterable[Path] = (),
    *,
    random_search: bool | None = None,
    on_trial: Callable[[Progress], None] | None = None,
    on_progress: Callable[[float, str], None] | None = None,
    on_cancel: Callable[[], None] | None = None,
) -> Proof:
    """Confirms a run's winner and writes the proof, its scores and the pack into the run's folder.

    Args:
        run: The run.
        against: Packs or URIAL texts to compare with, besides the experiment's baselines.
        random_search: Whether to run a random search at the same number of generations, and compare
            with its winner; None as the experiment says.
        on_trial: Told of each trial of that search.
        on_progress: Told the share of the confirmation that is done, in [0, 1], and what is measured.
        on_cancel: Told of a first interrupt from the keyboard during that search.

    Raises:
        KeyboardInterrupt: that search was interrupted: a rival with fewer generations proves nothing.
    """
    started = time.perf_counter()
    experiment = run.experiment
    splits = load_splits(experiment)
    baselines = build_baselines(experiment)
    for path in against:
        taken = {*baselines, "winner", "random search"}
        baselines[path.stem if path.stem not in taken else str(path)] = Pack.load(path).prompt
    trials = run.trials()
    if experiment.confirm.random_search if random_search is None else random_search:
        spent = sum(trial.measured for trial in trials)
        rival = run.random_search(max(spent, len(splits["dev"])), on_trial, on_cancel)
        if rival.interrupted:
            raise KeyboardInterrupt
        best = choose(
            rival.ranking[: experiment.confirm.finalists],
            run.evaluator,
            splits["dev"],
            splits["confirm"] if "test" in splits and "confirm" in splits else (),
        )[0]
        baselines["random search"] = best.dev.prompt
    confirmation = confirm(
        run.ranking(),
        run.evaluator,
        dev_examples=splits["dev"],
        confirm_examples=splits.get("confirm", []),
        test_examples=splits.get("test", []),
        baselines=baselines,
        finalists=experiment.confirm.finalists,
        level=experiment.confirm.level,
        seed=experiment.seed,
        on_progress=on_progress,
    )
    pack = Pack(confirmation.prompt, _model(run), _evidence(run, confirmation, trials, splits))
    path = run.folder / PACK_FILE
    pack.save(path)
    pack.save(path.with_suffix(".txt"))
    ledger = run.evaluator.ledger
    proof = Proof(
        confirmation,
        pack,
        path,
        paid=ledger.counts()[0] if ledger else run.evaluator.paid,
        cached=run.evaluator.cached,
        now=run.evaluator.paid,
        usage=sum((trial.usage for trial in trials), confirmation.usage),
        seconds=time.perf_counter() - started + sum(trial.seconds for trial in trials),
    )
    write_scores(run.folder, measured(confirmation))
    write_json(run.folder / "confirmation.json", {"version": RUN_VERSION, **proof.to_json()})
    return proof


def winner_pack(run: Run, max_tokens: int | None = None) -> Pack:
    """The confirmed winner's pack, or the best dev prompt without a proof when there is none yet.

    Args:
        run: The run.
        max_tokens: Give the best prompt of at most so many tokens instead, from the run's front.

    Raises:
        UserError: no prompt is measured, or none is so short.
    """
    path = run.folder / PACK_FILE
    if max_tokens is None and path.exists():
        return Pack.load(path)
    ranking = run.ranking()
    best = next(iter(ranking), None)
    if max_tokens is not None and ranking:
        best = next((item for item in front(ranking) if item.length <= max_tokens), None)
        if best is None:
            shortest = min(item.length for item in ranking)
            raise UserError(
                f"no measured prompt has at most {max_tokens} tokens; the shortest has {shortest}"
            )
    if best is None:
        raise UserError(f"{run.folder} has no measured prompt to export; run the sweep first")
    evidence = {
        "confirmed": False,
        "experiment": run.experiment.name,
        "seed": run.experiment.seed,
        "trial": best.number,
        "dev": {
            "mean": best.mean,
            "n": best.evaluation.n,
            "estimate": best.estimate,
            "sd": best.sd,
        },
        "versions": versions(),
    }
    return Pack(best.evaluation.prompt, _model(run), evidence)


def _evidence(
    run: Run,
    confirmation: Confirmation,
    trials: Sequence[TrialRecord],
    splits: dict[str, list[Example]],
) -> dict[str, Any]:
    """What a proved pack says about itself; nothing in it differs between two runs with one seed."""
    found = confirmation.to_json()
    del found["generations"]
    experiment = run.experiment
    return {
        **found,
        "confirmed": True,
        "experiment": experiment.name,
        "seed": experiment.seed,
        "trial": confirmation.winner.trial,
        "trials": len(trials),
        "objective": {
            "terms": {name: term.weight for name, term in sorted(experiment.objective.items())},
            "fingerprint": run.evaluator.scorer.fingerprint,
        },
        "examples": {
            name: content_digest([example_digest(example) for example in examples])
            for name, examples in splits.items()
        },
        "digests": {"space": build_space(experiment).digest},
        "versions": versions(),
    }


def _model(run: Run) -> dict[str, Any]:
    table = run.experiment.model
    return {"id": table.id, "engine": table.engine, "fingerprint": run.evaluator.engine.fingerprint}


def versions() -> dict[str, str]:
    """The versions that a result may depend on, by package."""
    packages = ("icl-align", "torch", "transformers", "optuna", "sentence-transformers")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
