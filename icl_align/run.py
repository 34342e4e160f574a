"""A run: one folder with an experiment, its database, and what came out of it.

```
runs/first/
  experiment.json      the experiment as it was started, paths resolved
  run.db               the Optuna study and the ledger
  confirmation.json    the proof, after `prove`
  pack.json, pack.txt  the winner
```
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from icl_align.assemble import (
    build_baselines,
    build_engine,
    build_objective,
    build_space,
    load_splits,
)
from icl_align.config import Experiment
from icl_align.data import read_examples, read_text
from icl_align.engines import Tokenizing
from icl_align.errors import UserError
from icl_align.evaluate import EngineEvaluator
from icl_align.ledger import Ledger, content_digest, example_digest, sqlite_url
from icl_align.lint import lint, lint_text
from icl_align.pack import Pack
from icl_align.prompt import Prompt
from icl_align.search.confirm import Confirmation, confirm
from icl_align.search.samplers import load_sampler
from icl_align.search.study import TrialRecord, read_trials
from icl_align.search.sweep import Sweep, run_sweep
from icl_align.types import Example

EXPERIMENT_FILE = "experiment.json"
PACK_FILE = "pack.json"
RUN_VERSION = 1


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

    def sweep(self, on_trial: Callable[[TrialRecord], None] | None = None) -> Sweep:
        """Runs the experiment's trials, those that are missing."""
        experiment = self.experiment
        return run_sweep(
            build_space(experiment),
            load_splits(experiment)["dev"],
            self.evaluator,
            url=self.url,
            trials=experiment.search.trials,
            seed=experiment.seed,
            sampler=load_sampler(experiment.search.sampler),
            warm_start=_inside(experiment),
            on_trial=on_trial,
        )

    def trials(self) -> tuple[TrialRecord, ...]:
        """All trials so far."""
        return read_trials(self.url)


@dataclass(frozen=True)
class Proof:
    """A confirmation with the pack it has been written to.

    Attributes:
        confirmation: Winner, baselines and intervals.
        pack: The winner as a pack.
        path: The pack's file.
        paid: Generations the run has paid for so far, all its processes together.
        cached: Generations this process read from the ledger.
        seconds: Wall time of this process's work on the run.
    """

    confirmation: Confirmation
    pack: Pack
    path: Path
    paid: int
    cached: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The confirmation's numbers with "pack", "generations" and "seconds"."""
        return {
            **self.confirmation.to_json(),
            "pack": str(self.path),
            "generations": {"paid": self.paid, "cached": self.cached},
            "seconds": round(self.seconds, 2),
        }


def start(experiment: Experiment, folder: Path) -> Run:
    """Opens a run folder for an experiment, new or to be continued.

    Raises:
        UserError: the folder holds a run of another experiment, or cannot be written.
    """
    file = folder / EXPERIMENT_FILE
    wanted = experiment.to_json()
    if file.exists():
        stored = open_run(folder).experiment.to_json()
        for key, before, now in _differences(stored, wanted):
            if key != "search.trials":
                raise UserError(
                    f"{folder} holds a run with {key} = {before!r}, now {now!r}; "
                    "continue it with what it was started with, or choose another --out"
                )
        if stored == wanted:
            return Run(folder, experiment)
    elif folder.exists() and not folder.is_dir():
        raise UserError(f"the run folder {folder} is a file; choose another --out")
    load_splits(experiment)  # a mistake in a file shows before anything is written
    build_space(experiment)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_json(file, {"version": RUN_VERSION, "experiment": wanted})
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
    return {
        "run": str(run.folder),
        "seed": sweep.seed,
        "trials": sum(trial.state in ("complete", "fail") for trial in sweep.trials),
        "wanted": run.experiment.search.trials,
        "interrupted": sweep.interrupted,
        "best": {"trial": best.number, "mean": best.mean} if best else None,
        "generations": {"paid": usage.paid, "cached": usage.cached},
        "tokens": {
            "prompt": usage.prompt_tokens,
            "reused": usage.reused_tokens,
            "generated": usage.generated_tokens,
        },
    }


def ranking(run: Run, count: int) -> list[dict[str, Any]]:
    """The best distinct prompts by dev mean, best first."""
    measured = [
        (t.mean, t) for t in run.trials() if t.mean is not None and t.evaluation is not None
    ]
    measured.sort(key=lambda pair: (-pair[0], pair[1].number))
    rows: dict[str, dict[str, Any]] = {}
    for mean, trial in measured:
        evaluation = trial.evaluation
        if evaluation is None or evaluation.prompt.digest in rows:
            continue
        prompt = evaluation.prompt
        rows[prompt.digest] = {
            "trial": trial.number,
            "mean": mean,
            "standard_error": evaluation.standard_error,
            "n": evaluation.n,
            "missing": evaluation.missing,
            "k": len(prompt.exemplars),
            "format": prompt.format.name,
            "temperature": prompt.decoding.temperature,
            "system": prompt.system,
            "exemplars": [exemplar.id or exemplar.query[:20] for exemplar in prompt.exemplars],
            "digest": prompt.digest,
        }
    return list(rows.values())[:count]


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
        seconds=time.perf_counter() - started + sum(trial.seconds for trial in trials),
    )
    _write_json(run.folder / "confirmation.json", {"version": RUN_VERSION, **proof.to_json()})
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


def answers(pack: Pack, examples: Sequence[Example], model: str | None) -> list[dict[str, Any]]:
    """Answers examples with a pack's prompt and its model, or another one.

    Raises:
        UserError: the pack names no model and none is given, or it cannot be loaded.
    """
    name = model or pack.model.get("id")
    if not name:
        raise UserError("this pack names no model; give one with --model FOLDER or a Hub id")
    engine = build_engine(Experiment.for_model(str(name)))
    texts = [pack.prompt.render(example) for example in examples]
    responses = engine.generate(texts, stop=pack.prompt.stop, decoding=pack.prompt.decoding)
    return [
        {
            "id": example.id,
            "query": example.query,
            "answer": pack.prompt.parse(response.text),
            "tokens": response.tokens,
            "finish": response.finish,
        }
        for example, response in zip(examples, responses, strict=True)
    ]


def lint_file(path: Path, items: Path | None, model: str | None) -> list[dict[str, Any]]:
    """Lints a pack or a URIAL text, against evaluation items and a model's context where given."""
    known = read_examples(items) if items else []
    engine = build_engine(Experiment.for_model(model)) if model else None
    sized = engine if isinstance(engine, Tokenizing) else None
    look = partial(
        lint if path.suffix == ".json" else lint_text,
        items=known,
        longest_query=max((item.query for item in known), key=len, default=""),
        count_tokens=sized.count_tokens if sized else None,
        context_length=sized.context_length if sized else None,
    )
    found = (
        look(Pack.load(path).prompt) if path.suffix == ".json" else look(read_text(path), str(path))
    )
    return [asdict(finding) for finding in found]


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


def _differences(a: Any, b: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two JSON values differ: the key, and both values."""
    if isinstance(a, dict) and isinstance(b, dict):
        for name in sorted({*a, *b}):
            yield from _differences(a.get(name), b.get(name), f"{key}.{name}" if key else name)
    elif a != b:
        yield key, a, b


def _inside(experiment: Experiment) -> list[Prompt]:
    """The baselines that the space holds: what a sweep measures first."""
    space, found = build_space(experiment), []
    for prompt in build_baselines(experiment).values():
        try:
            space.point(prompt)
        except UserError:
            continue
        found.append(prompt)
    return found


def _write_json(path: Path, content: Any) -> None:
    """Writes a file whole or not at all."""
    partial = path.with_name(f"{path.name}.part")
    partial.write_text(
        json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8"
    )
    partial.replace(path)
