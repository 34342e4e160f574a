"""The end of a run: its winner proved, and written as a pack with the evidence."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from icl_align.assemble import build_baselines, build_space, load_splits
from icl_align.errors import UserError
from icl_align.evaluate import Usage
from icl_align.ledger import content_digest, example_digest
from icl_align.pack import Pack
from icl_align.run import RUN_VERSION, Run, write_json
from icl_align.search.confirm import Confirmation, confirm
from icl_align.search.study import TrialRecord
from icl_align.search.sweep import Sweep
from icl_align.types import Example

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
        usage: What the trials, since each was last started, and the confirmation have cost.
        seconds: Wall time of this process's work on the run.
    """

    confirmation: Confirmation
    pack: Pack
    path: Path
    paid: int
    cached: int
    usage: Usage
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The confirmation's numbers with "pack", "generations", "tokens" and "seconds"."""
        return {
            **self.confirmation.to_json(),
            "pack": str(self.path),
            "generations": {"paid": self.paid, "cached": self.cached},
            "tokens": self.usage.to_json(),
            "seconds": round(self.seconds, 2),
        }


def prove(run: Run, against: Iterable[Path] = ()) -> Proof:
    """Confirms a run's winner and writes confirmation.json, pack.json and pack.txt into its folder."""
    started = time.perf_counter()
    experiment = run.experiment
    splits = load_splits(experiment)
    baselines = build_baselines(experiment)
    for path in against:
        baselines[path.stem if path.stem not in baselines else str(path)] = Pack.load(path).prompt
    trials = run.trials()
    confirmation = confirm(
        trials,
        run.evaluator,
        confirm_examples=splits.get("confirm", []),
        test_examples=splits.get("test", []),
        baselines=baselines,
        finalists=experiment.confirm.finalists,
        level=experiment.confirm.level,
        seed=experiment.seed,
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
        usage=sum((trial.usage for trial in trials), confirmation.usage),
        seconds=time.perf_counter() - started + sum(trial.seconds for trial in trials),
    )
    write_json(run.folder / "confirmation.json", {"version": RUN_VERSION, **proof.to_json()})
    return proof


def winner_pack(run: Run) -> Pack:
    """The confirmed winner's pack, or the best dev prompt without a proof when there is none yet.

    Raises:
        UserError: no trial is complete.
    """
    path = run.folder / PACK_FILE
    if path.exists():
        return Pack.load(path)
    best = Sweep(run.trials(), run.experiment.seed).best
    if best is None or best.evaluation is None:
        raise UserError(f"{run.folder} has no complete trial to export; run the sweep first")
    evidence = {
        "confirmed": False,
        "experiment": run.experiment.name,
        "seed": run.experiment.seed,
        "trial": best.number,
        "dev": {"mean": best.mean, "n": best.evaluation.n},
        "versions": _versions(),
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
        "versions": _versions(),
    }


def _model(run: Run) -> dict[str, Any]:
    table = run.experiment.model
    return {"id": table.id, "engine": table.engine, "fingerprint": run.evaluator.engine.fingerprint}


def _versions() -> dict[str, str]:
    packages = ("icl-align", "torch", "transformers", "optuna", "sentence-transformers")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
