"""Reads a judge's annotations: AlpacaEval's annotations.json, or a table with the same facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from icl_align.annotations.records import Record, read_records
from icl_align.errors import UserError

Coding = Literal["auto", "0-1", "1-2"]
"""How preferences are written: P(model wins), or AlpacaEval's 1 (baseline) to 2 (model), 0 for a draw."""

ID = ("instruction_id", "instr", "instruction", "id")
MODEL = ("model", "generator_2")
BASELINE = ("baseline", "generator_1")
PREFERENCE = ("preference",)
_LENGTHS = {
    1: (("len_1", "length_1", "length_baseline"), "output_1"),
    2: (("len_2", "length_2", "length_model"), "output_2"),
}
_DRAW = 0.5
_TOP = 2.0


@dataclass(frozen=True, slots=True)
class Annotation:
    """One judged instruction.

    Attributes:
        record: Where it comes from, with all its columns.
        group: The model, or what else rows are grouped by.
        position: Its place in its group: the column `row` where there is one, else counted from 0.
        preference: P(model wins) in [0, 1]; None without a verdict.
        length_model: Characters.
        length_baseline: Characters.
    """

    record: Record
    group: str
    position: int
    preference: float | None
    length_model: float
    length_baseline: float


@dataclass(frozen=True, slots=True)
class Annotations:
    """A file of annotations.

    Attributes:
        path: The file.
        coding: How its preferences were written, "0-1" or "1-2".
        groups: Annotations by model (or what else rows are grouped by), in the file's order.
        baselines: What each group was compared with; "" where the file does not say.
    """

    path: str
    coding: Coding
    groups: Mapping[str, Sequence[Annotation]]
    baselines: Mapping[str, str]


def read_annotations(
    path: Path | str, *, coding: Coding = "auto", by: str = "model"
) -> Annotations:
    """Reads annotations from .csv, .json or .jsonl, each perhaps with .gz.

    Columns: `preference`; `len_1` and `len_2` (or `length_baseline` and `length_model`, or the texts
    `output_1` and `output_2`), 1 for the baseline; `model` or `generator_2`; `baseline` or `generator_1`;
    and to know the instruction `instruction_id`, `instr`, `instruction` or `id`; `row` where a row stood
    in the file it was taken from.

    Args:
        path: The file.
        coding: "auto" tells the codings apart by their values.
        by: The column rows are grouped by; "model" is `generator_2`, too.

    Raises:
        UserError: as file:line, for columns or values that cannot be used, an instruction that a group
            has twice, two baselines in one group, or values that fit both codings.
    """
    records = read_records(path)
    values = [record.number(record.need(PREFERENCE, "preference")[0]) for record in records]
    told = decode(records, values, coding)
    groups: dict[str, list[Annotation]] = {}
    baselines: dict[str, str] = {}
    seen: dict[tuple[str, str, str], str] = {}
    for record, preference in zip(records, told[1], strict=True):
        name = _group(record, by)
        mine = groups.setdefault(name, [])
        lengths = (length(record, 2), length(record, 1))
        mine.append(Annotation(record, name, _position(record, len(mine)), preference, *lengths))
        _check_baseline(record, name, baselines)
        key = identity(record)
        if key is not None:
            first = seen.setdefault((name, *key), record.place)
            if first is not record.place:
                raise UserError(
                    f"{record.place}: {name!r} has the instruction {key[1][:60]!r} twice, first at "
                    f"{first}; remove one, or group by another column"
                )
    return Annotations(str(path), told[0], groups, baselines)


def identity(record: Record, names: Sequence[str] = ID) -> tuple[str, str] | None:
    """Gives the column that names a record's instruction, and the name; None where there is none."""
    found = record.find(names)
    return None if found is None else (found[0], _name(found[1]))


def _name(value: Any) -> str:
    """Makes 3, 3.0 and "3" one name, and any text one that can be printed."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).encode("utf-8", "replace").decode("utf-8")


def _group(record: Record, by: str) -> str:
    names = MODEL if by == "model" else (by,)
    found = record.find(names)
    if found is None and by != "model":
        raise UserError(
            f"{record.place}: no column {by!r} to group by; there are {', '.join(record.values)}"
        )
    return "model" if found is None or found[1] is None else _name(found[1])


def _check_baseline(record: Record, group: str, baselines: dict[str, str]) -> None:
    found = record.find(BASELINE)
    name = "" if found is None or found[1] is None else _name(found[1])
    if baselines.setdefault(group, name) != name:
        raise UserError(
            f"{record.place}: {group!r} is compared with {name!r} here and with {baselines[group]!r} "
            "before; a win rate is against one baseline, so split the file"
        )


def _position(record: Record, counted: int) -> int:
    if "row" not in record.values:
        return counted
    number = record.number("row")
    if number is None or number < 0 or not number.is_integer():
        raise UserError(f"{record.place}: 'row' must be 0, 1, 2, ..., got {record.values['row']!r}")
    return int(number)


def length(record: Record, side: Literal[1, 2]) -> float:
    """Gives the characters of the baseline's answer (1) or the model's (2): code points of the text.

    Raises:
        UserError: there is neither a length nor a text, or it is no number of characters.
    """
    names, text = _LENGTHS[side]
    column, value = record.need((*names, text), f"length or text of answer {side}")
    if column == text:
        if not isinstance(value, str):
            raise UserError(f"{record.place}: {text!r} must be a text, got {type(value).__name__}")
        return float(len(value))
    number = record.number(column)
    if number is None or number < 0:
        raise UserError(
            f"{record.place}: {column!r} must be a number of characters, got {value!r}; rows whose "
            "answer is missing must be left out"
        )
    return number


def decode(
    records: Sequence[Record], values: Sequence[float | None], coding: Coding
) -> tuple[Coding, list[float | None]]:
    """Turns preferences of either coding into P(model wins).

    Returns:
        The coding, and the preferences in [0, 1].

    Raises:
        UserError: a value fits no coding, or all values fit both.
    """
    known = _told(records, values) if coding == "auto" else coding
    found: list[float | None] = []
    for record, value in zip(records, values, strict=True):
        if value is None:
            found.append(None)
        elif known == "0-1" and 0 <= value <= 1:
            found.append(value)
        elif known == "1-2" and (value == 0 or 1 <= value <= _TOP):
            found.append(value - 1 if value else _DRAW)
        else:
            allowed = "from 0 to 1" if known == "0-1" else "from 1 to 2, or 0 for a draw"
            raise UserError(
                f"{record.place}: a preference in the coding {known} must be {allowed}, got {value:g}; "
                "mend it, or choose with --coding"
            )
    return known, found


def _told(records: Sequence[Record], values: Sequence[float | None]) -> Coding:
    there = [value for value in values if value is not None]
    if any(value > 1 for value in there):
        return "1-2"
    if any(0 < value < 1 for value in there):
        return "0-1"
    raise UserError(
        f"{records[0].place}: all preferences are 0, 1 or missing, which may mean 'wins' or AlpacaEval's "
        "draws and losses; say --coding 0-1 (1: the model wins) or --coding 1-2 (1: the baseline wins)"
    )
