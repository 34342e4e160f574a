"""Reads prompts with verifiable instructions from rows as IFEval publishes them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from icl_align.data import read_text
from icl_align.errors import UserError
from icl_align.scorers.constraints.rules import IFEVAL
from icl_align.types import Check, Example

_ARGUMENTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "keywords:existence": ("keywords",),
        "keywords:frequency": ("relation", "frequency", "keyword"),
        "keywords:forbidden_words": ("forbidden_words",),
        "keywords:letter_frequency": ("let_relation", "let_frequency", "letter"),
        "language:response_language": ("language",),
        "length_constraints:number_sentences": ("relation", "num_sentences"),
        "length_constraints:number_paragraphs": ("num_paragraphs",),
        "length_constraints:number_words": ("relation", "num_words"),
        "length_constraints:nth_paragraph_first_word": (
            "num_paragraphs",
            "nth_paragraph",
            "first_word",
        ),
        "detectable_content:number_placeholders": ("num_placeholders",),
        "detectable_content:postscript": ("postscript_marker",),
        "detectable_format:number_bullet_lists": ("num_bullets",),
        "detectable_format:number_highlighted_sections": ("num_highlights",),
        "detectable_format:multiple_sections": ("section_spliter", "num_sections"),
        "combination:repeat_prompt": ("prompt_to_repeat",),
        "startend:end_checker": ("end_phrase",),
        "change_case:capital_word_frequency": ("capital_relation", "capital_frequency"),
    }
)
"""IFEval's names of each kind's arguments, in the order of our values; none for the others."""
_FIELDS: Mapping[str, tuple[type, ...]] = MappingProxyType(
    {"key": (str, int), "prompt": (str,), "instruction_id_list": (list,), "kwargs": (list,)}
)


def read_ifeval(path: Path | str) -> list[Example]:
    """Reads IFEval's JSONL rows: `key`, `prompt`, `instruction_id_list`, `kwargs`; others are left out.

    Each instruction becomes a check. Where a prompt has two of one kind, the later ones' aspects are
    numbered (`...#2`), so that each is reported. Tags are the families, such as `keywords`.

    Raises:
        UserError: as file:line, for a row that cannot be read, and for a file without any.
    """
    place = Path(path)
    found: dict[str, Example] = {}
    for number, line in enumerate(read_text(place).removeprefix("\ufeff").split("\n"), start=1):
        if line.strip():
            example = _example(line, f"{place}:{number}")
            if example.id in found:
                raise UserError(
                    f"{place}:{number}: the key {example.id!r} stands in an earlier row, too; "
                    "keys must be unique, change one"
                )
            found[example.id] = example
    if not found:
        raise UserError(f"{place} holds no rows; IFEval's are JSON objects, one a line")
    return list(found.values())


def _example(line: str, where: str) -> Example:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not JSON ({error}); each line must be one object") from error
    for name, kind in _FIELDS.items():
        if not isinstance(row, Mapping) or not isinstance(row.get(name), kind):
            raise UserError(
                f"{where}: no usable {name!r}; a row needs {', '.join(map(repr, _FIELDS))}"
            )
    kinds, arguments = row["instruction_id_list"], row["kwargs"]
    if not kinds or len(kinds) != len(arguments):
        raise UserError(
            f"{where}: {len(kinds)} instructions but {len(arguments)} kwargs; give each its own"
        )
    seen: Counter[str] = Counter()
    checks = []
    for kind, given in zip(kinds, arguments, strict=True):
        values = _values(kind, given, where)
        seen[kind] += 1
        aspect = f"{kind}#{seen[kind]}" if seen[kind] > 1 else ""
        checks.append(Check(kind, values, aspect=aspect))
    tags = tuple(dict.fromkeys(kind.partition(":")[0] for kind in kinds))
    return Example(row["prompt"], id=str(row["key"]), tags=tags, checks=tuple(checks))


def _values(kind: Any, given: Any, where: str) -> tuple[str, ...]:
    """Gives a check's values from IFEval's arguments and tries them on a text.

    Raises:
        UserError: the kind is unknown, an argument is missing, unknown, or of no use.
    """
    if not isinstance(kind, str) or kind not in IFEVAL:
        raise UserError(f"{where}: unknown instruction {kind!r}; known: {', '.join(IFEVAL)}")
    if not isinstance(given, Mapping):
        raise UserError(f"{where}: the kwargs of {kind!r} must be an object, got {given!r}")
    there = {name: value for name, value in given.items() if value is not None}
    wanted = _ARGUMENTS.get(kind, ())
    if set(there) != set(wanted):
        raise UserError(
            f"{where}: {kind!r} takes {', '.join(wanted) or 'no arguments'}; "
            f"got {', '.join(there) or 'none'}"
        )
    values: list[str] = []
    for name in wanted:
        value = there[name]
        parts = value if isinstance(value, list) else [value]
        if not all(isinstance(part, str | int | float) for part in parts):
            raise UserError(
                f"{where}: {name!r} of {kind!r} must be a text or number, got {value!r}"
            )
        whole = (int(p) if isinstance(p, float) and p.is_integer() else p for p in parts)
        values += map(str, whole)
    try:
        IFEVAL[kind](values, "")
    except ValueError as error:
        raise UserError(f"{where}: {kind!r}: {error}") from error
    return tuple(values)
