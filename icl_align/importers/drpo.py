"""Reads what DRPO (2411.08733) leaves: `output.json` with a system prompt, and its pool of exemplars.

DRPO retrieves the two exemplars nearest to each query and writes them between `<START>` and `<END>`; a
pack has fixed ones, in a format of ours. So a pack holds DRPO's texts, and not its bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from icl_align.data import read_text
from icl_align.errors import UserError
from icl_align.importers.files import read_json
from icl_align.pack import Pack
from icl_align.prompt import FORMATS, Prompt
from icl_align.types import Example

_MARKED = re.compile(r"\A\s*<START>\n?(.*?)\n?<END>\s*\Z", re.DOTALL)
_PROMPT_KEYS = ("system_prompt", "prompt")
_QUERY_KEYS = ("query", "question", "Q")
_ANSWER_KEYS = ("answer", "response", "raw", "A")


def read(path: Path) -> Pack:
    """Reads a result, as a system text without exemplars, or a pool, as exemplars without one.

    `with_exemplars` puts both together.

    Raises:
        UserError: it is neither; the message names the file and what it lacks.
    """
    if path.suffix == ".jsonl":
        return _pack("", read_pool(path))
    content = read_json(path)
    system = _system(content)
    if system is not None:
        return _pack(system, ())
    return _pack("", tuple(_pool(content, path)))


def read_pool(path: Path) -> tuple[Example, ...]:
    """Reads DRPO's exemplars, without the marks it writes around answers.

    Raises:
        UserError: a row without query and answer.
    """
    if path.suffix != ".jsonl":
        return tuple(_pool(read_json(path), path))
    import json

    rows = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise UserError(f"{path}:{number}: broken JSON: {error}") from error
    return tuple(_pool(rows, path))


def with_exemplars(pack: Pack, exemplars: tuple[Example, ...]) -> Pack:
    """Gives a pack with exemplars added."""
    return _pack(pack.prompt.system, (*pack.prompt.exemplars, *exemplars))


def _pack(system: str, exemplars: tuple[Example, ...]) -> Pack:
    form = FORMATS["block"]
    if not exemplars:  # what a URIAL text of a system text alone is followed by
        form = replace(form, system_close="\n\n")
    return Pack(Prompt(system, exemplars, form))


def _system(content: Any) -> str | None:
    """Gives the final system text: a key of the file, or of its last level."""
    if isinstance(content, Mapping):
        if isinstance(content.get("system_prompt"), str):
            return str(content["system_prompt"])
        levels = list(content.values())
    else:
        levels = content if isinstance(content, list) else []
    last = levels[-1] if levels else None
    if not isinstance(last, Mapping) or any(key in last for key in _QUERY_KEYS[:2]):
        return None
    return next((str(last[k]) for k in _PROMPT_KEYS if isinstance(last.get(k), str)), None)


def _pool(content: Any, path: Path) -> Iterator[Example]:
    """Gives exemplars from rows, or from an object that maps queries to answers."""
    if isinstance(content, Mapping):
        content = [{"query": query, "answer": answer} for query, answer in content.items()]
    if not isinstance(content, list) or not content:
        raise UserError(
            f"{path}: neither a result of DRPO (a 'system_prompt', or levels that hold one) nor its "
            "exemplars (rows with 'query' and 'answer')"
        )
    for number, row in enumerate(content, start=1):
        found = row if isinstance(row, Mapping) else {}
        query = next((found[k] for k in _QUERY_KEYS if isinstance(found.get(k), str)), None)
        answer = next((found[k] for k in _ANSWER_KEYS if isinstance(found.get(k), str)), None)
        if query is None or answer is None:
            raise UserError(f"{path}: exemplar {number} has no 'query' and 'answer' as texts")
        marked = _MARKED.match(answer)
        name = str(found["id"]) if "id" in found else ""
        yield Example(query, marked.group(1) if marked else answer, id=name)
