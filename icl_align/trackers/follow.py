"""Tells one tracker in a thread of its own, so that a slow or broken one costs the sweep nothing."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from icl_align.config.hidden import without_queries
from icl_align.passport.plain import printable
from icl_align.trackers.base import Outcome, Position, Proved, Row, Subject, Tracker
from icl_align.trackers.memory import Memory

_AGAIN_S = 30.0
"""A tracker that has failed is left alone for so long, unless the run ends."""
_CALL_ROWS = 40
"""Trials told in one call: a call that fails is told again whole."""
_SAY_AFTER_S = 5.0
_SHOWN = 200


class Follower:
    """Keeps what one tracker has not been told, and tells it.

    Args:
        name: The tracker's, as in `--track`.
        tracker: The tracker.
        subject: The run.
        memory: Where its position is kept.
        warn: Told of the first failure, and of what is missing in the end; one line each.
    """

    def __init__(
        self,
        name: str,
        tracker: Tracker,
        subject: Subject,
        memory: Memory,
        warn: Callable[[str], None],
    ) -> None:
        self.name = name
        self._tracker, self._memory, self._warn = tracker, memory, warn
        self._subject = replace(subject, known=memory.known(name))
        self._rows: deque[Row] = deque()
        self._last: deque[Outcome | Proved] = deque()
        self._position: Position | None = None
        self._failures = 0
        self._not_before = self._came_back = 0.0
        self._closing = self._failed = self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name=f"tracker {name}", daemon=True)

    def begin(self, rows: Sequence[Row]) -> None:
        """Starts the thread with what earlier processes have measured."""
        self._rows.extend(rows)
        self._thread.start()

    def tell(self, what: Row | Outcome | Proved) -> None:
        """Queues something to be told; comes back at once."""
        with self._changed:
            (self._rows if isinstance(what, Row) else self._last).append(what)  # type: ignore[arg-type]
            self._changed.notify()

    def close(self, *, failed: bool, patience_s: float) -> None:
        """Lets the tracker be told the rest, and says what is missing.

        Args:
            failed: Whether the run raised an error.
            patience_s: How long one of its calls may take, in seconds, before it is given up.
        """
        with self._changed:
            self._closing, self._failed = True, failed
            self._changed.notify()
        self._came_back = started = time.monotonic()
        said = False
        try:
            while self._thread.is_alive() and time.monotonic() - self._came_back < patience_s:
                self._thread.join(0.1)
                if not said and time.monotonic() - started > _SAY_AFTER_S:
                    self._warn(
                        f"waiting for the tracker {self.name}; {len(self._rows)} trials to go; "
                        "Ctrl-C ends the wait"
                    )
                    said = True
        except KeyboardInterrupt:  # of the wait alone: the run has ended
            pass
        self._say()

    def _say(self) -> None:
        """Says what has not gone well, if anything."""
        with self._changed:
            rows, last, closed = len(self._rows), len(self._last), self._closed
        stuck = ", one has not come back" if self._thread.is_alive() else ""
        failures = f"({self._failures} calls failed{stuck})"
        if rows or last:
            self._warn(
                f"the tracker {self.name} lacks {rows} trials{' and the result' if last else ''} "
                f"{failures}; the run is whole; the same command with --track {self.name} "
                "logs what is missing"
            )
        elif not closed:
            self._warn(f"the tracker {self.name} was told all, but did not end well {failures}")
        elif self._failures:
            self._warn(f"the tracker {self.name} was told all in the end {failures}")

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._due, timeout=self._pause())
                closing = self._closing
            if closing or self._due():
                self._tried(self._tell_all)
            if closing:
                break
        if self._position is not None:
            self._tried(self._end)
        else:
            self._closed = True

    def _due(self) -> bool:
        """Whether there is something to do now."""
        waiting = self._position is None or self._rows or self._last
        return self._closing or bool(waiting and time.monotonic() >= self._not_before)

    def _pause(self) -> float | None:
        left = self._not_before - time.monotonic()
        return max(left, 0.01) if left > 0 else None

    def _tried(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001 (whatever it is, the sweep goes on)
            self._failures += 1
            self._not_before = time.monotonic() + _AGAIN_S
            if self._failures == 1:
                said = " ".join(printable(without_queries(f"{error}")).split())[:_SHOWN]
                self._warn(
                    f"the tracker {self.name} failed ({type(error).__name__}: {said}); "
                    "the run goes on, and it is tried again later"
                )

    def _tell_all(self) -> None:
        if self._position is None:
            self._position = self._tracker.start(self._subject)
            self._memory.keep(self.name, self._position)
            self._came_back = time.monotonic()
        while batch := self._batch(self._position.next):
            self._tracker.trials(batch)
            self._position = replace(self._position, next=batch[-1].number + 1)
            self._memory.keep(self.name, self._position)
            self._drop(len(batch))
            self._came_back = time.monotonic()
        while self._last:
            item = self._last[0]
            if isinstance(item, Outcome):
                self._tracker.end(item)
            else:
                self._tracker.proved(item)
            with self._changed:
                self._last.popleft()
            self._came_back = time.monotonic()

    def _batch(self, first: int) -> list[Row]:
        """The next rows; those that the tracked run has are let go."""
        with self._changed:
            while self._rows and self._rows[0].number < first:
                self._rows.popleft()
            return [self._rows[at] for at in range(min(_CALL_ROWS, len(self._rows)))]

    def _drop(self, count: int) -> None:
        with self._changed:
            for _ in range(count):
                self._rows.popleft()

    def _end(self) -> None:
        self._tracker.close(failed=self._failed)
        self._closed = True
