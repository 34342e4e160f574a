"""An experiment written as the TOML file that starts it again."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from icl_align.config import Experiment
from icl_align.config.hidden import is_secret, without_logins

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def experiment_toml(experiment: Experiment) -> str:
    """Gives the experiment as TOML that `icl-align run` reads, without database and logins in URLs.

    What is called a key, token, password or the like among the options of a part is left out, too.
    """
    content = experiment.to_json()
    content.pop("database", None)
    return "\n".join(_table(content, ())).strip() + "\n"


def _table(content: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    """The lines of a table: its values first, then the tables in it. What is None is left out."""
    given = {
        name: value
        for name, value in content.items()
        if value is not None
        and not ("options" in path and is_secret(name))
        and not ("objective" in path and name == "scorer" and not value)  # it is called as its term
    }
    values = {name: value for name, value in given.items() if not isinstance(value, Mapping)}
    lines = [f"{_key(name)} = {_value(value)}" for name, value in values.items()]
    if path and (lines or (not content and path[-1] != "options")):
        lines.insert(0, f"\n[{'.'.join(map(_key, path))}]")
    for name, value in given.items():
        if isinstance(value, Mapping):
            lines += _table(value, (*path, name))
    return lines


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def _value(value: Any) -> str:
    if isinstance(value, str):
        return _text(without_logins(value))
    if isinstance(value, list):
        return f"[{', '.join(_value(one) for one in value)}]"
    if isinstance(value, Mapping):
        shown = {k: v for k, v in value.items() if not is_secret(k)}
        return f"{{{', '.join(f'{_key(k)} = {_value(v)}' for k, v in shown.items())}}}"
    return json.dumps(value)


def _text(text: str) -> str:
    """A basic string: JSON's escapes are TOML's, but for the delete character and surrogate pairs."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")
