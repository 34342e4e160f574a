"""The proof of a run as the dashboard needs it: which prompt won, and by how much."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FILE = "confirmation.json"


@dataclass(frozen=True, slots=True)
class Proved:
    """A winner that was proved.

    Attributes:
        digest: Its prompt's digest.
        told: The proof in a line, with the baseline's name as it is.
    """

    digest: str
    told: str


def stamp(folder: Path) -> tuple[int, int]:
    """Gives what changes when a run's proof does; (0, 0) without one."""
    try:
        found = (folder / _FILE).stat()
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_size)


def proved(folder: Path) -> Proved | None:
    """Reads a run's winner; None before `confirm`, or if the file is damaged (the run's note says so)."""
    try:
        content = json.loads((folder / _FILE).read_text("utf-8"))
        trial = content["tuned"]["trial"]
        digest = next(one["digest"] for one in content["finalists"] if one["trial"] == trial)
        return Proved(str(digest), _told(content))
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return None


def _told(content: dict[str, Any]) -> str:
    tuned, rival, gap = (content[name] for name in ("tuned", "baseline", "difference"))
    low, high = gap["low"], gap["high"]
    ends = "unknown" if low is None or high is None else f"{low:+.3f} to {high:+.3f}"
    return (
        f"mean {tuned['mean']:.3f} on {tuned['n']} untouched instructions, "
        f"{gap['mean']:+.3f} against {rival['name']} "
        f"({gap['level']:.0%} interval of the difference: {ends})"
    )
