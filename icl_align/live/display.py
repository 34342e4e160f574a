"""A share of something with an ETA, and facts beside it."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

PLAIN_EVERY_S = 15.0
_REFRESH_PER_S = 4
_NARROWEST, _WIDEST, _BESIDE = 5, 40, 72
"""Columns of the bar, and of what stands beside it."""

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


class _Console(Console):
    """Stderr; whoever stops reading it does not stop the work."""

    def on_broken_pipe(self) -> None:
        """Says nothing more; Rich would end the process, and what it has to say on stdout with it."""
        self.quiet = True

    @property
    def redraws(self) -> bool:
        """Whether it is a terminal that can be drawn over, whatever FORCE_COLOR says of colours."""
        return self.is_terminal and not self.is_dumb_terminal and self.file.isatty()


@dataclass(frozen=True)
class Shown:
    """What is called as something goes on."""

    display: Display
    clock: Callable[[], float]
    draw: Callable[[], None]

    def __call__(self, share: float, done: str, facts: Facts | None = None, /) -> None:
        """Takes the share that is done, in [0, 1], what is done, and facts beside it."""
        display = self.display
        display.share, display.done, display.facts = min(share, 1.0), done, facts or {}
        display.updated = self.clock()
        if display.first is None:
            display.first = display.share
        self.draw()

    def cancelling(self) -> None:
        """Says that an interrupt has been heard."""
        self.display.note = "stopping when the batch in flight is done; once more stops at once"
        self.draw()


@contextmanager
def shares(
    title: str,
    *,
    quiet: bool,
    pulse: Callable[[], Facts] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Shown]:
    """Shows how far something is, as it is told.

    Args:
        title: What is going on.
        quiet: Show it on a terminal only, and no plain lines (for `--json`).
        pulse: Gives facts that change between updates.
        clock: Seconds, for the plain lines.
    """
    display, console = Display(title, pulse, started=clock()), _Console(stderr=True)
    drawn = _drawn(display, console, clock) if console.redraws else _lines(display, console, quiet)
    with drawn as draw:
        yield Shown(display, clock, draw)


@contextmanager
def _drawn(
    display: Display, console: Console, clock: Callable[[], float]
) -> Iterator[Callable[[], None]]:
    """A bar, with the facts under it."""
    bar = Progress(
        SpinnerColumn("line", style="", finished_text=" "),
        TextColumn("{task.description}"),
        BarColumn(max(_NARROWEST, min(_WIDEST, console.width - _BESIDE))),
        TaskProgressColumn(),
        TextColumn("{task.fields[done]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left {task.fields[left]}", markup=False),
        console=console,
    )
    task = bar.add_task(display.title, total=1.0, done="", left=_clock(None))

    def drawing() -> Group:
        bar.update(task, left=_clock(display.left(clock())))
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim")
        for label, text in display.all_facts().items():
            table.add_row(f"  {label}", Text(text))
        if display.note:
            table.add_row("", Text(display.note))
        return Group(bar.get_renderable(), table)

    with Live(
        get_renderable=drawing,
        console=console,
        refresh_per_second=_REFRESH_PER_S,
        redirect_stdout=sys.stdout is not None
        and sys.stdout.isatty(),  # data for a file or a pipe must not come to stderr
    ):
        yield lambda: bar.update(task, completed=display.share, done=display.done)


@contextmanager
def _lines(display: Display, console: Console, quiet: bool) -> Iterator[Callable[[], None]]:
    """A line at the first update, now and then, and at the end."""
    last, untold, whole, noted = -math.inf, False, False, False

    def say(*more: str) -> None:
        nonlocal last, untold
        last, untold = display.updated, False
        parts = [f"{display.share:4.0%}", display.done]
        parts += [f"{label} {text}" for label, text in display.all_facts().items()]
        with contextlib.suppress(OSError):  # a full disk, a terminal that is gone
            console.print(
                "  ".join([*parts, *more]),
                style=None, highlight=False, markup=False, emoji=False, soft_wrap=True,
            )  # fmt: skip

    def draw() -> None:
        nonlocal untold, whole, noted
        if display.note and not noted:
            noted = True
            with contextlib.suppress(OSError):
                console.print(display.note, highlight=False)
            return
        untold = not quiet
        first_whole, whole = display.share >= 1 and not whole, display.share >= 1
        if quiet or (display.updated - last < PLAIN_EVERY_S and not first_whole):
            return
        left = display.left(display.updated)
        say(*([f"{_clock(left)} left"] if left else []))

    try:
        yield draw
    finally:
        if untold:
            say()


def _clock(seconds: float | None) -> str:
    """Hours, minutes and seconds."""
    return "-:--:--" if seconds is None else str(timedelta(seconds=round(seconds)))
