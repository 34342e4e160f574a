"""What an interrupt from the keyboard means while something long is measured."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def patience(on_cancel: Callable[[], None] | None) -> Iterator[threading.Event]:
    """Turns a first SIGINT into a wish to stop; a second one interrupts as usual.

    Args:
        on_cancel: Told of the first one.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.getsignal(signal.SIGINT)

    def on_signal(number: int, frame: Any) -> None:
        del number, frame
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        if on_cancel:
            on_cancel()

    signal.signal(signal.SIGINT, on_signal)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
