"""What a confirmation has measured, instruction by instruction, kept beside the proof of a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from icl_align.data import read_text
from icl_align.errors import UserError
from icl_align.evaluation import Evaluation
from icl_align.run import write_json
from icl_align.search.confirm import Confirmation

SCORES_FILE = "confirmation-scores.json"
SCORES_VERSION = 1


@dataclass(frozen=True, slots=True)
class Measured:
    """One prompt on one split.

    Attributes:
        split: "test", "confirm" or "dev".
        role: "winner", a baseline's name, or "" for another finalist.
        trial: The finalist's trial; None for a baseline.
        evaluation: Its scores.
    """

    split: str
    role: str
    trial: int | None
    evaluation: Evaluation


def measured(confirmation: Confirmation) -> list[Measured]:
    """Gives all that a confirmation has measured: the proof first, then what its winner was chosen by."""
    best, proof = confirmation.winner, confirmation.proof
    found = [Measured(proof, "winner", best.trial, confirmation.tuned)]
    found += [
        Measured(proof, other.name, None, other.baseline) for other in confirmation.comparisons
    ]
    for finalist in confirmation.finalists:
        role = "winner" if finalist is best else ""
        if finalist.fresh is not None:
            found.append(Measured("confirm", role, finalist.trial, finalist.fresh))
        found.append(Measured("dev", role, finalist.trial, finalist.dev))
    return found


def write_scores(folder: Path, rows: Sequence[Measured]) -> None:
    """Writes them into a run's folder, whole or not at all."""
    content = [
        {
            "split": row.split,
            "role": row.role,
            "trial": row.trial,
            "evaluation": row.evaluation.to_json(),
        }
        for row in rows
    ]
    write_json(folder / SCORES_FILE, {"version": SCORES_VERSION, "measured": content})


def read_scores(folder: Path) -> list[Measured]:
    """Reads them; none where the run is not confirmed, or was by an icl_align that did not keep them.

    Raises:
        UserError: the file is damaged, or of another version.
    """
    path = folder / SCORES_FILE
    if not path.exists():
        return []
    try:
        content = json.loads(read_text(path))
        written = content["version"]
        rows = content["measured"] if written == SCORES_VERSION else ()
        found = [
            Measured(
                row["split"], row["role"], row["trial"], Evaluation.from_json(row["evaluation"])
            )
            for row in rows
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged ({error}); make it anew with icl-align confirm"
        ) from error
    if written != SCORES_VERSION:
        raise UserError(f"{path} has version {written}, this icl_align reads {SCORES_VERSION}")
    return found
