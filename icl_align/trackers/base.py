"""What a tracker is told, and what one has to be; a tracker of one's own needs this file alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Position:
    """How far a tracked run is.

    Attributes:
        id: The tracked run's name at its tracker.
        next: The number of the first trial that it does not have.
        place: Which server, project or file it is in, without logins.
    """

    id: str
    next: int = 0
    place: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """The run that is to be tracked.

    Attributes:
        name: The experiment's name and the run folder's.
        folder: The run folder.
        params: The experiment's settings by dotted name, with versions; no secrets are in it.
        known: Where earlier processes of the same run left off with this tracker, latest first.
    """

    name: str
    folder: Path
    params: Mapping[str, str | int | float | bool]
    known: tuple[Position, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """What is told of one trial.

    Attributes:
        number: The trial's, ascending from 0.
        step: Generations spent up to its end: by this, sweeps with other blocks can be compared.
        state: "complete", "partial" or "fail", as in `TrialRecord`.
        values: Finite numbers by name, such as "trial/mean" and "spent/generations".
    """

    number: int
    step: int
    state: str
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a sweep has found so far, when it ends or is interrupted.

    Attributes:
        values: Finite numbers by name, such as "final/estimate".
        summary: What `icl-align run --json` prints.
        top: The best prompts, best first, each with the same keys.
        winner: The first one as a URIAL prompt text; empty where no prompt has a verdict.
    """

    values: Mapping[str, float]
    summary: Mapping[str, Any]
    top: Sequence[Mapping[str, Any]]
    winner: str


@dataclass(frozen=True, slots=True)
class Proved:
    """What a proof has found.

    Attributes:
        values: Finite numbers by name, such as "proof/difference".
        files: Pack, evidence and report, as far as the run folder has them.
    """

    values: Mapping[str, float]
    files: Sequence[Path]


class Tracker(Protocol):
    """Sends a run somewhere. Made without arguments; all calls come from one thread, not the main one.

    It may raise whatever it likes: the sweep goes on, and what failed is tried again later, so a call
    may come a second time with the same rows. `trials` is told each trial from `Position.next` on.
    """

    def start(self, run: Subject) -> Position:
        """Starts a tracked run, or continues one of `run.known`; gives where it is."""
        ...

    def trials(self, rows: Sequence[Row]) -> None:
        """Logs trials, in their order; when it comes back they are logged."""
        ...

    def end(self, outcome: Outcome) -> None:
        """Logs what the sweep has found; again after each continuation."""
        ...

    def proved(self, proof: Proved) -> None:
        """Logs a proof."""
        ...

    def close(self, *, failed: bool) -> None:
        """Ends this process's part of the tracked run; `failed` where the sweep raised an error."""
        ...
