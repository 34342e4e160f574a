"""The bundled model organism: a tiny base model, its aligned sibling, and all that a sweep on it needs."""

from __future__ import annotations

from pathlib import Path

from icl_align.errors import UserError

FOLDER = Path(__file__).parent / "organism"


def bundled(name: str) -> Path:
    """Gives the path of a bundled file or folder.

    Args:
        name: "base" or "aligned" (Hugging Face folders), "pool.jsonl", "systems.json", "dev.jsonl",
            "confirm.jsonl", "test.jsonl" or "baseline.txt".

    Raises:
        UserError: there is no such file, as in an incomplete installation.
    """
    path = FOLDER / name
    if not path.exists():
        there = ", ".join(sorted(p.name for p in FOLDER.glob("*"))) or "nothing"
        raise UserError(
            f"there is no bundled {name!r} in {FOLDER} (there is {there}); install icl-align again"
        )
    return path
