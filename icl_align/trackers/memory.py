"""trackers.json in the run folder: which tracked runs a run has, and how far each of them is."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import filelock

from icl_align.errors import UserError
from icl_align.run import write_json
from icl_align.trackers.base import Position

TRACKERS_FILE = "trackers.json"
TRACKERS_VERSION = 1


@dataclass
class Memory:
    """The tracked runs of a run folder; safe to use from several threads.

    Attributes:
        folder: The run folder.
    """

    folder: Path
    _known: list[tuple[str, Position]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def known(self, tracker: str) -> tuple[Position, ...]:
        """Gives a tracker's positions, the latest first."""
        with self._lock:
            return tuple(position for name, position in self._known if name == tracker)

    def keep(self, tracker: str, position: Position) -> None:
        """Writes where a tracked run is, in place of where it was.

        Raises:
            OSError: the file cannot be written.
        """
        with self._lock:
            others = [
                (name, old)
                for name, old in self._known
                if (name, old.place, old.id) != (tracker, position.place, position.id)
            ]
            self._known = [(tracker, position), *others]
            rows = [{"tracker": name, **asdict(one)} for name, one in self._known]
            content = {"version": TRACKERS_VERSION, "runs": rows}
            write_json(self.folder / TRACKERS_FILE, content)


@contextmanager
def remembered(folder: Path) -> Iterator[Memory]:
    """Opens trackers.json, and keeps a second process from telling trackers of the same run.

    Raises:
        UserError: another process does, or the file cannot be read.
    """
    path = folder / TRACKERS_FILE
    lock = filelock.FileLock(f"{path}.lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise UserError(
            f"another process is tracking the run in {folder}; wait for it to end, or leave out --track"
        ) from None
    except OSError as error:
        raise UserError(f"cannot write in {folder}: {error.strerror}; leave out --track") from error
    try:
        yield Memory(folder, _read(path))
    finally:
        lock.release()


def _read(path: Path) -> list[tuple[str, Position]]:
    if not path.exists():
        return []
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        written = content["version"]
        rows = [
            (str(row["tracker"]), Position(str(row["id"]), int(row["next"]), str(row["place"])))
            for row in (content["runs"] if written == TRACKERS_VERSION else ())
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is damaged ({error!r}); remove it to start new tracked runs"
        ) from error
    if written != TRACKERS_VERSION:
        raise UserError(
            f"{path} has version {written}, this icl_align reads {TRACKERS_VERSION}; "
            "remove it to start new tracked runs"
        )
    return rows
