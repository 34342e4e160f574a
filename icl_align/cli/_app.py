"""What the verbs share."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Folder = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")]
PackFile = Annotated[
    Path,
    typer.Argument(
        metavar="PACK", help="A pack (JSON), a URIAL prompt text, or a shipped pack's name."
    ),
]


def as_text(value: Any) -> str:
    """Gives a value as `--json` prints it."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)


@contextlib.contextmanager
def until_stopped() -> Iterator[None]:
    """Makes signals that end a process end the block instead, quietly, so that it can clean up."""
    ending = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.default_int_handler) for number in ending}
    try:
        with contextlib.suppress(KeyboardInterrupt):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
