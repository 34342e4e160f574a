"""Finds packs by name or by path."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from icl_align.errors import UserError

if TYPE_CHECKING:
    from icl_align.pack import Pack
    from icl_align.retrieval import RetrievalPack

FOLDER = Path(__file__).parent / "packs"
ABOUT: Mapping[str, str] = {
    "baseline": "The hand-written prompt of the bundled model, which a search on it has to beat.",
    "helpful": "General English, three exemplars: code, a letter, an explanation.",
    "k1": "General English, one exemplar.",
    "k3": "General English, three exemplars, one of them a refusal.",
    "k8": "General English, eight exemplars of many kinds; those of k3 come last.",
    "safe": "Careful English, three exemplars: health, a harmless question that sounds bad, a refusal.",
}
"""The shipped packs: what each one is for."""


def shipped(name: str) -> Path:
    """Gives the file of a pack we ship.

    Raises:
        UserError: there is none of that name; the nearest one is named.
    """
    if name not in ABOUT:
        near = get_close_matches(name, ABOUT, 1, 0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"shipped are {', '.join(ABOUT)}"
        raise UserError(f"there is no file and no shipped pack named {name!r}; {hint}")
    path = FOLDER / f"{name}.json"
    if not path.is_file():
        raise UserError(f"the shipped pack {path} is missing; install icl-align again")
    return path


def find_pack(name_or_path: Path | str) -> Path:
    """Gives the file of a pack: a path as it stands, or that of a shipped pack.

    A file in the working folder comes before a shipped pack of the same name; `./NAME` is never a
    shipped one. A path that is not there is given back, for its reader to say so.

    Raises:
        UserError: a plain name that is neither a file nor a shipped pack.
    """
    given = str(name_or_path)
    path = Path(given)
    if path.suffix or "/" in given or path.name != given or path.exists():
        return path
    return shipped(given)


def load_pack(name_or_path: Path | str) -> Pack | RetrievalPack:
    """Reads a pack by name or path; an index (`NAME.index.safetensors`) gives a retrieval pack.

    Raises:
        UserError: there is no such pack, or it cannot be read.
    """
    path = find_pack(name_or_path)
    if path.name.endswith(".index.safetensors"):
        from icl_align import retrieval

        return retrieval.load(path)
    from icl_align.pack import Pack

    return Pack.load(path)
