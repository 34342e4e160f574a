"""Loads a part of one's own, a sampler, engine or scorer, from `module:attr` or `file.py:attr`."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from icl_align.errors import UserError


def load_part(what: str, name: str) -> Callable[..., Any]:
    """Finds a callable by name.

    Args:
        what: What it is, for messages: "sampler", "engine", "scorer".
        name: `package.module:attr` or `path/to/file.py:attr`.

    Raises:
        UserError: no such module, file or attribute, or it cannot be called.
    """
    place, colon, attribute = name.rpartition(":")
    if not colon or not place or not attribute:
        raise UserError(f"{what} {name!r} must be written as 'module:attr' or 'file.py:attr'")
    part = getattr(_module(what, place), attribute, None)
    if not callable(part):
        raise UserError(f"{what} {name!r}: {place} has no callable {attribute!r}")
    found: Callable[..., Any] = part
    return found


def _module(what: str, place: str) -> Any:
    if not place.endswith(".py"):
        try:
            return importlib.import_module(place)
        except ModuleNotFoundError as error:
            raise UserError(f"cannot import the {what} module {place!r}: {error}") from error
    path = Path(place)
    if not path.is_file():
        raise UserError(f"the {what} file {place} does not exist")
    unique = hashlib.sha256(str(path.resolve()).encode("utf-8", "surrogatepass")).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(f"icl_align_part_{unique}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"the {what} file {place} cannot be loaded as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module
