"""Reads lists and texts from a model's reply, as strictly as scores are read."""

from __future__ import annotations

from collections.abc import Sequence

from icl_align.scorers._reply_json import Torn, scan, spoken
from icl_align.scorers._reply_reader import Obj, Value
from icl_align.scorers.replies import read_choice

_LONGEST_LINE = 600


def read_text(text: str, *, key: str) -> str:
    """Reads the text under a key of the reply's last object that has it.

    Raises:
        ValueError: there is none, or it is empty.
    """
    value = _last(text, key)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f'"{key}" is no text')
    return value.strip()


def read_texts(text: str, *, key: str, most: int) -> tuple[str, ...]:
    """Reads a list of distinct single-line texts under a key, the first `most`.

    Raises:
        ValueError: there is no such list, or something else is in it.
    """
    value = _last(text, key)
    if not isinstance(value, list) or not value:
        raise ValueError(f'"{key}" is no list')
    lines: list[str] = []
    for item in value:
        line = " ".join(item.split()) if isinstance(item, str) else ""
        if not line or len(line) > _LONGEST_LINE:
            raise ValueError(f'"{key}" holds what is no short text')
        lines.append(line)
    return tuple(dict.fromkeys(lines))[:most]


def read_names(text: str, *, key: str, names: Sequence[str], count: int) -> tuple[str, ...]:
    """Reads `count` distinct names of a list, in the order of `names`.

    Raises:
        ValueError: it holds another number of them, or others.
    """
    said = {line.casefold() for line in read_texts(text, key=key, most=len(names) + 1)}
    found = tuple(name for name in names if name.casefold() in said)
    if len(found) != len(said) or len(found) != count:
        raise ValueError(f'"{key}" must hold {count} of {", ".join(names)}, got {sorted(said)}')
    return found


def read_verdict(text: str, *, choices: Sequence[str]) -> str:
    """Reads which of the choices a reply makes.

    Raises:
        ValueError: none of them, or several.
    """
    found = read_choice(text, choices)
    if found.value is None:
        raise ValueError(found.problem)
    return found.value


def _last(text: str, key: str) -> Value:
    """Gives the value under a key in the last object that has it.

    Raises:
        ValueError: no object has it, or the last one that does is broken.
    """
    for item in reversed(scan(spoken(text))):
        if isinstance(item, Torn) and key in item.keys:
            raise ValueError(f'the object with "{key}" is {"cut off" if item.cut else "broken"}')
        if isinstance(item, Obj):
            found = [value for name, value in item.pairs if name == key]
            if found:
                return found[-1]
    raise ValueError(f'the reply has no object with "{key}"')
