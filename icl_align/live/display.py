"""A share of something with an ETA, and facts beside it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

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

from icl_align.live.lines import lines
from icl_align.live.state import Display, Facts, clock_text

_REFRESH_PER_S = 4
_NARROWEST, _WIDEST, _BESIDE = 5, 40, 72
"""Columns of the bar, and of what stands beside it."""


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
    beat_s: float = 60.0,
) -> Iterator[Shown]:
    """Shows how far something is, as it is told.

    Args:
        title: What is going on.
        quiet: Show it on a terminal only, and no plain lines (for `--json`).
        pulse: Gives facts that change between updates.
        clock: Seconds, for the plain lines.
        beat_s: Without a terminal, say so often that it is still going on where nothing is told.
    """
    display, console = Display(title, pulse, started=clock()), _Console(stderr=True)
    drawn = (
        _drawn(display, console, clock)
        if console.redraws
        else lines(display, console, quiet, beat_s)
    )
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
    task = bar.add_task(display.title, total=1.0, done="", left=clock_text(None))

    def drawing() -> Group:
        bar.update(task, left=clock_text(display.left(clock())))
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
