"""Reads what a person has put in other words: system texts, and instructions by id."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from icl_align.config import Experiment
from icl_align.data import read_text
from icl_align.errors import UserError
from icl_align.evaluation import example_ids
from icl_align.explain.explanation import measured_on
from icl_align.explain.wording import OtherWords
from icl_align.explain.writer import writer_model

_BOM = "\ufeff"


def read_words(
    experiment: Experiment, paraphrases: Path | None, writer: str | None, phrasings: Path | None
) -> OtherWords:
    """Gives what the command line has named.

    Args:
        experiment: The run's.
        paraphrases: Of the system text; a file.
        writer: A model, as `writer_model` takes it.
        phrasings: Of instructions; a file.

    Raises:
        UserError: a file or a model that cannot be used.
    """
    split, examples = measured_on(experiment)
    named = {
        "paraphrases": paraphrases and paraphrases.name,
        "writer": Path(writer).name if writer and writer.endswith(".toml") else writer,
        "phrasings": phrasings and phrasings.name,
    }
    return OtherWords(
        read_paraphrases(paraphrases) if paraphrases else {},
        writer_model(writer) if writer else None,
        read_phrasings(phrasings, example_ids(examples), split) if phrasings else {},
        f"as in {phrasings.name}" if phrasings else "",
        {option: name for option, name in named.items() if name},
    )


def read_paraphrases(path: Path) -> dict[str, str]:
    """Reads system texts by their place, as file:line.

    A .txt file has one text per line; where it has empty lines between texts, each text is what stands
    between two of these, and may have several lines. A .jsonl file has objects with "text".

    Raises:
        UserError: as file:line, for what cannot be read, and for a file without texts.
    """
    readers = {".txt": _texts, ".jsonl": _objects}
    if path.suffix not in readers:
        raise UserError(f"{path}: paraphrases are read from .txt or .jsonl, not {path.suffix!r}")
    content = read_text(path).removeprefix(_BOM).replace("\r\n", "\n")
    found = {f"{path.name}:{line}": text for line, text in readers[path.suffix](content, path)}
    if not found:
        raise UserError(f"{path} holds no paraphrases; add at least one")
    return found


def read_phrasings(path: Path, ids: Sequence[str], split: str) -> dict[str, str]:
    """Reads instructions in other words: JSONL with the "id" of one that is measured, and a "query".

    Args:
        path: The file.
        ids: Of all instructions of the split that is measured.
        split: Its name.

    Raises:
        UserError: as file:line, for what cannot be read, an unknown id or one given twice.
    """
    content = read_text(path).removeprefix(_BOM)
    found: dict[str, str] = {}
    for line, row in _rows(content, path, ("id", "query")):
        name = row["id"]
        if name not in ids:
            near = get_close_matches(name, ids, 1, 0.5)
            hint = f"did you mean {near[0]!r}?" if near else "no others are measured"
            raise UserError(f"{path}:{line}: no instruction of {split} has the id {name!r}; {hint}")
        if name in found:
            raise UserError(f"{path}:{line}: the id {name!r} is given twice; take one out")
        found[name] = row["query"]
    if not found:
        raise UserError(f"{path} holds no instructions; add at least one")
    return found


def _texts(content: str, _: Path) -> Iterator[tuple[int, str]]:
    """Gives texts with the lines at which they begin."""
    lines = [line.rstrip() for line in content.split("\n")]
    apart = "" in _inner(lines)
    start, held = 0, list[str]()
    for number, line in enumerate([*lines, ""], start=1):
        if line:
            start = start if held else number
            held.append(line)
        if held and (not line or not apart):
            yield start, "\n".join(held)
            held = []


def _inner(lines: Sequence[str]) -> Sequence[str]:
    """The lines from the first that is not empty to the last."""
    there = [place for place, line in enumerate(lines) if line]
    return lines[there[0] : there[-1] + 1] if there else []


def _objects(content: str, path: Path) -> Iterator[tuple[int, str]]:
    for line, row in _rows(content, path, ("text",)):
        yield line, row["text"].strip()


def _rows(content: str, path: Path, keys: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Gives objects that hold exactly these keys, each a text that is not empty."""
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row: Any = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise UserError(
                f"{where}: broken JSON: {error}; each line must be one whole JSON object"
            ) from error
        if not isinstance(row, dict) or {*row} != {*keys}:
            got = sorted(row) if isinstance(row, dict) else type(row).__name__
            raise UserError(f"{where}: an object with {' and '.join(keys)} is wanted, got {got}")
        for key in keys:
            if not isinstance(row[key], str) or not row[key].strip():
                raise UserError(f"{where}: {key!r} must be a text that is not empty")
        yield number, row
