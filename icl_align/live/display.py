"""A share of something with an ETA, and facts beside it."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

PLAIN_EVERY_S = 15.0
_REFRESH_PER_S = 4
_HOUR_S = 3600

Facts = Mapping[str, str]
"""What there is to say, by a short label."""


class Update(Protocol):
    """What is called as something goes on."""

    def __call__(self, share: float, done: str, facts: Facts | None = None, /) -> None:
        """Takes the share that is done, in [0, 1], what is done, and facts beside it."""


@dataclass
class Display:
    """What is shown now.

    Attributes:
        title: What is going on.
        pulse: Gives facts that change between updates; asked at each drawing, from another thread.
    """

    title: str
    pulse: Callable[[], Facts] | None = None
    share: float = 0.0
    done: str = ""
    facts: Facts = field(default_factory=dict)

    def all_facts(self) -> Facts:
        """The facts of the last update, and those of the moment."""
        return {**self.facts, **(self.pulse() if self.pulse else {})}


@contextmanager
def shares(
    title: str,
    *,
    quiet: bool,
    pulse: Callable[[], Facts] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Update]:
    """Shows how far something is, as it is told.

    Args:
        title: What is going on.
        quiet: Show it on a terminal only, and no plain lines (for `--json`).
        pulse: Gives facts that change between updates.
        clock: Seconds, for the plain lines.
    """
    display, console = Display(title, pulse), Console(stderr=True)
    drawn = (
        _drawn(display, console) if console.is_terminal else _lines(display, console, quiet, clock)
    )
    with drawn as draw:

        def update(share: float, done: str, facts: Facts | None = None, /) -> None:
            display.share, display.done, display.facts = min(share, 1.0), done, facts or {}
            draw()

        yield update


@contextmanager
def _drawn(display: Display, console: Console) -> Iterator[Callable[[], None]]:
    """A bar, with the facts under it."""
    bar = Progress(
        SpinnerColumn("line", style="", finished_text=" "),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[done]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )
    task = bar.add_task(display.title, total=1.0, done="")

    def drawing() -> Group:
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim")
        for label, text in display.all_facts().items():
            table.add_row(f"  {label}", Text(text))
        return Group(bar.get_renderable(), table)

    with Live(
        get_renderable=drawing,
        console=console,
        refresh_per_second=_REFRESH_PER_S,
        redirect_stdout=sys.stdout.isatty(),  # data for a file or a pipe must not come to stderr
    ):
        yield lambda: bar.update(task, completed=display.share, done=display.done)


@contextmanager
def _lines(
    display: Display, console: Console, quiet: bool, clock: Callable[[], float]
) -> Iterator[Callable[[], None]]:
    """A line at the first update, now and then, and at the end."""
    started, last = clock(), -math.inf
    first: float | None = None

    def draw() -> None:
        nonlocal first, last
        if first is None:
            first = display.share  # what earlier processes have done
        moment = clock()
        if quiet or (moment - last < PLAIN_EVERY_S and display.share < 1):
            return
        last = moment
        gained = display.share - first
        parts = [f"{display.share:4.0%}", display.done]
        parts += [f"{label} {text}" for label, text in display.all_facts().items()]
        if gained > 0 and display.share < 1:
            parts.append(f"{_clock((moment - started) / gained * (1 - display.share))} left")
        console.print("  ".join(parts), highlight=False, markup=False, soft_wrap=True)

    yield draw


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    whole = round(seconds)
    minutes = f"{whole % _HOUR_S // 60:02d}:{whole % 60:02d}"
    return f"{whole // _HOUR_S}:{minutes}" if whole >= _HOUR_S else minutes


def cancelling() -> None:
    """Says that an interrupt has been heard."""
    Console(stderr=True).print(
        "stopping when the batch in flight is done; once more stops at once", highlight=False
    )
