"""How far something is, line by line, for logs."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console

from icl_align.live.state import Display, clock_text

PLAIN_EVERY_S = 15.0


@contextmanager
def lines(
    display: Display, console: Console, quiet: bool, beat_s: float
) -> Iterator[Callable[[], None]]:
    """A line at the first update, now and then, and at the end."""
    teller = _Lines(display, console, quiet)
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(beat_s):
            teller.beat(beat_s)

    thread = threading.Thread(target=beat, name="still going on", daemon=True)
    if not quiet:
        thread.start()
    try:
        yield teller.draw
    finally:
        ended.set()
        if not quiet:
            thread.join()
        teller.end()


@dataclass
class _Lines:
    """What is said line by line."""

    display: Display
    console: Console
    quiet: bool
    last: float = -math.inf
    said: float = field(default_factory=time.monotonic)
    untold: bool = False
    whole: bool = False
    noted: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock)

    def draw(self) -> None:
        """Says what was told, if it is time; an interrupt at once."""
        display = self.display
        with self.lock:
            if display.note and not self.noted:
                self.noted = True
                self._print(display.note)
                return
            self.untold = not self.quiet
            first_whole = display.share >= 1 and not self.whole
            self.whole = display.share >= 1
            due = display.updated - self.last >= PLAIN_EVERY_S or first_whole
            if due and not self.quiet:
                left = display.left(display.updated)
                self._say(*([f"{clock_text(left)} left"] if left else []))

    def beat(self, beat_s: float) -> None:
        """Says that it is still going on, where nothing else was said for so long."""
        with self.lock:
            if time.monotonic() - self.said >= beat_s * 0.9:
                self._say("still going on")

    def end(self) -> None:
        """Says what was told last."""
        if self.untold:
            self._say()

    def _say(self, *more: str) -> None:
        display = self.display
        self.last, self.untold = display.updated, False
        parts = [f"{display.share:4.0%}", display.done or display.title]
        parts += [f"{label} {text}" for label, text in display.all_facts().items()]
        self._print("  ".join([*parts, *more]))

    def _print(self, line: str) -> None:
        self.said = time.monotonic()
        with contextlib.suppress(OSError):  # a full disk, a terminal that is gone
            self.console.print(
                line, style=None, highlight=False, markup=False, emoji=False, soft_wrap=True
            )
