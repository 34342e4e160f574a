"""Runs programs that render: conversations as JSON in, texts as JSON out."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from icl_align.errors import UserError
from icl_align.types import Example

RENDER_SECONDS = 300
"""How long a target's code may take to render."""


def as_rows(conversations: Sequence[Example]) -> list[dict[str, Any]]:
    """Conversations as JSON values: "query" and "turns"."""
    return [
        {
            "query": item.query,
            "turns": [{"query": turn.query, "answer": turn.answer} for turn in item.turns],
        }
        for item in conversations
    ]


def rendered_by(command: Sequence[str], conversations: Sequence[Example], cwd: Path) -> list[str]:
    """Lets a program render: rows as JSON on its stdin, a JSON list of texts on its stdout.

    Raises:
        UserError: it fails or prints something else; its last words are told.
    """
    try:
        done = subprocess.run(  # noqa: S603 (the program is our own, the data is on stdin)
            list(command),
            input=json.dumps(as_rows(conversations)).encode("ascii"),
            capture_output=True,
            cwd=cwd,
            timeout=RENDER_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{command[0]} did not render within {RENDER_SECONDS} seconds") from error
    if done.returncode:
        last = done.stderr.decode("utf-8", "replace").strip().split("\n")[-1]
        raise UserError(f"the target's code failed: {ascii(last)[:300]}")
    texts: list[str] = json.loads(done.stdout.decode("ascii").rsplit("\n\x1e", 1)[-1])
    return texts
