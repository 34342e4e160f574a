"""Loads a part of one's own, a sampler, engine or scorer, from `module:attr` or `file.py:attr`."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from difflib import get_close_matches
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


def call_part(
    factory: Callable[..., Any], where: str, options: Mapping[str, Any], *arguments: object
) -> Any:
    """Calls a part's factory with options from an experiment file.

    Args:
        factory: What is called.
        where: Where the options stand, for messages.
        options: Keyword arguments.
        *arguments: Positional ones, which no option may name.

    Raises:
        UserError: an option that the factory does not take, or one that it lacks.
    """
    signature = inspect.signature(factory)
    known = list(signature.parameters)[len(arguments) :]
    if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.parameters.values()):
        for key in options:
            if key not in known:
                near = get_close_matches(key, known, 1, 0.5)
                hint = (
                    f"did you mean {near[0]!r}?"
                    if near
                    else f"known are {', '.join(known) or 'none'}"
                )
                raise UserError(f"{where}: unknown option {key!r}; {hint}")
    try:
        signature.bind(*arguments, **options)
    except TypeError as error:
        raise UserError(f"{where} cannot be called so: {error}") from error
    return factory(*arguments, **options)


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
