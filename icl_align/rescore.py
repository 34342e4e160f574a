"""Scores an old run's responses by another objective; nothing is generated again."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl_align.assemble import build_objective, load_splits
from icl_align.config import Experiment
from icl_align.errors import UserError
from icl_align.evaluate import EngineEvaluator
from icl_align.ledger import Ledger
from icl_align.run import Run, start
from icl_align.search.retell import engine_of, retell
from icl_align.search.study import TrialRecord
from icl_align.types import Decoding, Response


@dataclass(frozen=True, slots=True)
class RecordedEngine:
    """Stands for an engine whose responses are in a ledger, those left out that it failed to give.

    Attributes:
        fingerprint: The engine's.
    """

    fingerprint: str

    @property
    def name(self) -> str:
        """That it only remembers."""
        return "recorded"

    def generate(
        self, prompts: Sequence[str], *, stop: Sequence[str], decoding: Decoding
    ) -> list[Response]:
        """Generates nothing: what the run has no response to stays without one, and without a verdict."""
        del stop, decoding
        missing = "the run has no response here, and rescoring generates none"
        return [Response("", 0, "error", error=missing) for _ in prompts]


def rescore(
    run: Run,
    objective: Path,
    out: Path,
    *,
    on_progress: Callable[[float, str], None] | None = None,
) -> dict[str, Any]:
    """Makes a new run of an old one's responses, scored by another objective.

    The new run can be ranked, confirmed, exported and continued like any other. Judgements are
    remembered in both databases, so that rescoring again asks no judge twice.

    Args:
        run: The old run.
        objective: A TOML file with [objective.NAME] tables; other tables are not looked at.
        out: Folder of the new run.
        on_progress: Told the share that is scored, in [0, 1], and what that is.

    Returns:
        JSON values: "trials", "prompts" with their old and new means, "spearman" of the two over
        the prompts (None with fewer than three), "missing" verdicts, "best" before and after.

    Raises:
        UserError: a file, a folder or an objective that cannot be used.
    """
    experiment = with_objective(run.experiment, objective)
    ledger = Ledger(run.url)
    evaluator = EngineEvaluator(
        RecordedEngine(engine_of(run.url)), build_objective(experiment), ledger
    )
    new = start(experiment, out)
    dev = load_splits(experiment)["dev"]
    pairs = retell(run.url, new.url, evaluator, dev, on_progress=on_progress)
    copied = Ledger(new.url)
    ledger.copy_to(copied)
    for one in (ledger, copied):
        one.close()
    return _told(run, new, pairs)


def with_objective(experiment: Experiment, file: Path) -> Experiment:
    """Gives an experiment with the objective of a TOML file, and a database of its own.

    Raises:
        UserError: the file cannot be read, or its objective cannot be used.
    """
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the objective {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: the objective is no TOML: {error}") from error
    if not isinstance(content.get("objective"), dict):
        raise UserError(f"{file} has no [objective.NAME] tables")
    whole = {**experiment.to_json(), "objective": content["objective"], "database": None}
    return Experiment.from_json(whole, where=str(file), base=file.parent)


def _told(run: Run, new: Run, pairs: Sequence[tuple[TrialRecord, TrialRecord]]) -> dict[str, Any]:
    latest: dict[str, dict[str, Any]] = {}
    missing = 0
    for before, after in pairs:
        assert before.evaluation is not None
        assert after.evaluation is not None
        digest = after.evaluation.prompt.digest
        latest[digest] = {
            "digest": digest,
            "n": after.evaluation.n,
            "missing": after.evaluation.missing,
            "before": before.evaluation.mean,
            "after": after.evaluation.mean,
            "complete": after.state == "complete",
        }
    missing = sum(row["missing"] for row in latest.values())
    both = [
        (row["before"], row["after"])
        for row in latest.values()
        if row["before"] is not None and row["after"] is not None
    ]
    old, now = run.ranking(), new.ranking()
    return {
        "run": str(new.folder),
        "trials": len(pairs),
        "missing": missing,
        "spearman": _spearman(both),
        "best": {
            "before": old[0].prompt.digest if old else None,
            "after": now[0].prompt.digest if now else None,
        },
        "prompts": sorted(latest.values(), key=lambda row: -(row["after"] or 0.0)),
    }


def _spearman(pairs: Sequence[tuple[float, float]]) -> float | None:
    if len(pairs) < 3:  # noqa: PLR2004 (two points are always in line)
        return None
    from scipy.stats import pearsonr, rankdata

    old, new = (rankdata(column) for column in zip(*pairs, strict=True))
    if len(set(old)) == 1 or len(set(new)) == 1:
        return None
    value = float(pearsonr(old, new).statistic)
    return value if math.isfinite(value) else None
