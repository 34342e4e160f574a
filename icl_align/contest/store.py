"""A contest's own files: what it is about, and which entrants have ended."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from icl_align.assemble import build_space
from icl_align.config import Experiment
from icl_align.contest.outcome import Entrant, Handed
from icl_align.contest.rules import Rules
from icl_align.errors import UserError
from icl_align.ledger import content_digest, example_digest
from icl_align.prompt import Prompt
from icl_align.run import differences, write_json
from icl_align.types import Example

CONTEST_VERSION = 1
_SEARCH_KEYS = ("batch", "embedder", "objectives", "constraint")
"""What of [search] all entrants share."""
_DIGEST_SHOWN = 16


class Store:
    """The entrants that have ended, in a file that is written whole at each end."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rows: dict[str, Any] = _read(file)["entrants"] if file.exists() else {}

    def get(self, sampler: str, seed: int) -> Entrant | None:
        """Reads one, None before its end."""
        row = self.rows.get(entrant_name(sampler, seed))
        if row is None:
            return None
        handed = [
            Handed(**{**one, "prompt": Prompt.from_json(one["prompt"])}) for one in row["handed"]
        ]
        return Entrant(**{**row, "handed": tuple(handed)})

    def put(self, entrant: Entrant) -> None:
        """Adds one."""
        row = {**vars(entrant), "handed": [_stored(one) for one in entrant.handed]}
        self.rows[entrant_name(entrant.sampler, entrant.seed)] = row
        write_json(self.file, {"version": CONTEST_VERSION, "entrants": self.rows})


def _stored(handed: Handed) -> dict[str, Any]:
    row = {**vars(handed), "prompt": handed.prompt.to_json()}
    del row["values"]  # the ledger has them
    return row


def entrant_name(sampler: str, seed: int) -> str:
    """Names an entrant, and its study."""
    return f"{sampler}-{seed}"


def make_folder(folder: Path) -> None:
    """Makes a contest's folder where it is not there yet.

    Raises:
        UserError: it cannot be made.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"the contest's folder {folder} is a file; choose another --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make the contest's folder {folder}: {error.strerror}; choose another --out"
        ) from error


def claim(
    experiment: Experiment,
    rules: Rules,
    folder: Path,
    examples: Sequence[Example],
    identity: Mapping[str, str],
) -> None:
    """Writes down what a contest is about, or refuses to continue one that was about something else.

    Args:
        experiment: What is searched.
        rules: Who takes part; of them the budget and the warm start are the contest's.
        folder: The contest's.
        examples: The development examples.
        identity: Fingerprints of the engine and the scorer.

    Raises:
        UserError: the folder holds another contest.
    """
    whole = experiment.to_json()
    wanted = {
        "experiment": {
            name: whole[name] for name in ("seed", "model", "data", "space", "objective")
        },
        "search": {name: whole["search"][name] for name in _SEARCH_KEYS},
        "generations": rules.generations,
        "warm_start": rules.warm_start,
        "digests": {
            "space": build_space(experiment).digest,
            "dev": content_digest([example_digest(example) for example in examples]),
            **identity,
        },
    }
    file = folder / "contest.json"
    if not file.exists():
        write_json(file, {"version": CONTEST_VERSION, **wanted})
        return
    stored = {name: value for name, value in _read(file).items() if name != "version"}
    for key, before, now in differences(stored, wanted):
        raise UserError(
            f"{folder} holds a contest with {key} = {str(before)[:_DIGEST_SHOWN]}, now "
            f"{str(now)[:_DIGEST_SHOWN]}; continue it with what it was started with, or choose "
            "another --out"
        )


def _read(file: Path) -> dict[str, Any]:
    """Reads a file of a contest.

    Raises:
        UserError: it is damaged, or of another version.
    """
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        written = content["version"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged ({error}); restore it or use another --out") from error
    if written != CONTEST_VERSION:
        raise UserError(f"{file} has version {written}, this icl_align reads {CONTEST_VERSION}")
    return content
