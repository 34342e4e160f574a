"""What is wrong with an experiment file, in a line that names the place and the remedy."""

from __future__ import annotations

from difflib import get_close_matches
from typing import get_args

from pydantic import BaseModel, ValidationError

from icl_align.config.aims import TermTable


def told(error: ValidationError, top: type[BaseModel]) -> str:
    """Tells the first mistake in a line, and how many more there are.

    Args:
        error: What was found.
        top: The table that was read.
    """
    mistakes = error.errors(include_url=False)
    # A misspelt key also shows as a missing one: the misspelling is the better news.
    first = next((m for m in mistakes if m["type"] == "extra_forbidden"), mistakes[0])
    loc = [str(part) for part in first["loc"] if part not in ("texts", "file")]
    if first["type"] == "extra_forbidden":
        known = _known_keys(loc[:-1], top)
        near = get_close_matches(loc[-1], known, 1, 0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
        message = f"{_table(loc[:-1])} has an unknown key {loc[-1]!r}; {hint}"
    elif first["type"] == "missing":
        message = f"{_table(loc[:-1])} lacks the key {loc[-1]!r}"
    else:
        reason = first["msg"].removeprefix("Value error, ")
        reason = reason[0].lower() + reason[1:]
        given = first["input"]
        shown = "" if isinstance(given, dict | list) else f", got {given!r}"
        message = f"{'.'.join(loc)}: {reason}{shown}"
    more = len(mistakes) - 1
    return message + (f" (and {more} more mistake{'s' if more > 1 else ''})" if more else "")


def _table(loc: list[str]) -> str:
    return f"[{'.'.join(loc)}]" if loc else "the top of the file"


def _known_keys(loc: list[str], top: type[BaseModel]) -> list[str]:
    """The keys of the table at a place in a file with this top."""
    if loc[:1] == ["objective"] and len(loc) > 1:
        return list(TermTable.model_fields)
    table = top
    for part in loc:
        annotation = table.model_fields[part].annotation
        options = (annotation, *get_args(annotation))
        table = next(a for a in options if isinstance(a, type) and issubclass(a, BaseModel))
    return list(table.model_fields)
