"""What the verbs share."""

from __future__ import annotations

import json
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
