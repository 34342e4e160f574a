"""What is known of how far something is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

Facts = Mapping[str, str]
"""What there is to say, by a short label."""


@dataclass
class Display:
    """What is shown now.

    Attributes:
        title: What is going on.
        pulse: Gives facts that change between updates; asked at each drawing, from another thread.
        started: When it began, in seconds.
        updated: When it was last told anything.
        first: The share at the first update: mostly what earlier processes have done.
    """

    title: str
    pulse: Callable[[], Facts] | None = None
    started: float = 0.0
    updated: float = 0.0
    first: float | None = None
    share: float = 0.0
    done: str = ""
    note: str = ""
    facts: Facts = field(default_factory=dict)

    def all_facts(self) -> Facts:
        """The facts of the last update, and those of the moment."""
        return {**self.facts, **(self.pulse() if self.pulse else {})}

    def left(self, moment: float) -> float | None:
        """Seconds to go, by all that has been done since the start; None before anything is known.

        Not by what has just come: the trials of a batch come in one moment, minutes after the last.
        """
        gained = self.share - (self.first or 0.0)
        if self.share >= 1 or gained <= 0:
            return 0.0 if self.share >= 1 else None
        whole = (self.updated - self.started) / gained * (1 - self.share)
        return max(0.0, whole - (moment - self.updated))


def clock_text(seconds: float | None) -> str:
    """Hours, minutes and seconds."""
    return "-:--:--" if seconds is None else str(timedelta(seconds=round(seconds)))
