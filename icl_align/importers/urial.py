"""Reads prompt texts of URIAL and of icl-alignment, byte for byte, in the dialect they are written in."""

from __future__ import annotations

from pathlib import Path

from icl_align.data import read_text
from icl_align.pack import Pack
from icl_align.prompt import Prompt


def read(path: Path) -> Pack:
    """Reads a prompt text; saved as .txt, the pack is the same file again.

    Raises:
        UserError: it is none, or is malformed, as some published ones are; the message names lines.
    """
    return Pack(Prompt.from_text(read_text(path), where=str(path)))
