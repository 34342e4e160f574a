"""An experiment as flat settings for a tracker, without what should not leave the machine."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from icl_align.config import Experiment
from icl_align.config.hidden import is_secret, without_queries
from icl_align.passport.plain import printable
from icl_align.prove import versions

_LONGEST = 500


def params_of(experiment: Experiment) -> dict[str, str | int | float | bool]:
    """Gives the experiment's settings by dotted name, and the versions they ran with.

    The database, logins and queries of URLs, and whatever is called a key, token, password or the
    like are left out. Texts are cut at 500 characters.
    """
    content = experiment.to_json()
    content.pop("database", None)
    return {
        **dict(_flat(content, "")),
        **{f"versions.{name}": number for name, number in versions().items()},
    }


def _flat(content: Mapping[str, Any], path: str) -> Iterator[tuple[str, str | int | float | bool]]:
    for name, value in content.items():
        key = f"{path}.{name}" if path else name
        if value is None or is_secret(name):
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, key)
        elif isinstance(value, bool | int | float):
            yield key, value
        else:
            text = (
                value if isinstance(value, str) else json.dumps(_clean(value), ensure_ascii=False)
            )
            text = printable(without_queries(text))
            yield key, text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _clean(value: Any) -> Any:
    """Takes secrets out of the tables of a list."""
    if isinstance(value, Mapping):
        return {k: _clean(v) for k, v in value.items() if not is_secret(str(k))}
    if isinstance(value, list | tuple):
        return [_clean(one) for one in value]
    return value
