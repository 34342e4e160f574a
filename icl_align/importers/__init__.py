"""Importers: prompts that other tools have written, read as packs.

Each module here reads one kind of file. `urial` also reads icl-alignment's prompt files, which are of
the same grammar.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from icl_align.errors import UserError

if TYPE_CHECKING:
    from icl_align.pack import Pack

IMPORTS: Mapping[str, str] = {
    "urial": "icl_align.importers.urial:read",
    "drpo": "icl_align.importers.drpo:read",
    "dspy": "icl_align.importers.dspy_saved:read",
}
"""Where each format's reader stands, as `module:attr`; imported at first use."""
AUTO = "auto"


def import_pack(path: Path | str, form: str = AUTO) -> Pack:
    """Reads a file as a pack.

    Args:
        path: The file.
        form: A name in `IMPORTS`, or "auto" to tell by the file.

    Raises:
        UserError: no such format, or the file cannot be read as one; the message names the place.
    """
    place = Path(path)
    name = detect(place) if form == AUTO else form
    if name not in IMPORTS:
        near = get_close_matches(name, [*IMPORTS, AUTO], 1, 0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {AUTO}, {', '.join(IMPORTS)}"
        raise UserError(f"there is no import format {name!r}; {hint}")
    module, _, attribute = IMPORTS[name].partition(":")
    reader = cast("Callable[[Path], Pack]", getattr(import_module(module), attribute))
    return reader(place)


def detect(path: Path) -> str:
    """Tells which format a file has, by its suffix and its keys.

    Raises:
        UserError: none of them, or it is a pack already.
    """
    from icl_align.importers.files import read_json

    if path.suffix == ".jsonl":
        return "drpo"
    if path.suffix != ".json":
        return "urial"
    content = read_json(path)
    if isinstance(content, Mapping):
        if {"prompt", "digest", "version"} <= set(content):
            raise UserError(f"{path} is a pack already; use it as it is")
        values = [content, *content.values()]
        if any(isinstance(v, Mapping) and {"signature", "demos"} <= set(v) for v in values):
            return "dspy"
    return "drpo"
