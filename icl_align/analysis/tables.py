"""A small table, and the files that tables are made from."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any, TypeAlias

from icl_align.data import read_text
from icl_align.errors import UserError
from icl_align.stats import Interval

Cell: TypeAlias = str | int | float | Interval | None


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under named columns, and what a reader must know about them.

    Attributes:
        columns: Distinct names.
        rows: As many cells each; None where there is no value.
        notes: Rules and counts, a sentence or two each.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuses columns of one name and rows of another length.

        Raises:
            ValueError: naming what does not fit.
        """
        if len(set(self.columns)) < len(self.columns):
            raise ValueError(f"a table's columns need distinct names, got {list(self.columns)}")
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{len(self.columns)} columns, but a row of {len(row)}: {row}")

    def to_markdown(self, digits: int = 4) -> str:
        """Gives a pipe table and the notes; numbers are rounded half up, intervals in brackets."""
        lines = [[_escaped(name) for name in self.columns], ["---"] * len(self.columns)]
        lines += [[_shown(cell, digits) for cell in row] for row in self.rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return "\n\n".join([table, *self.notes])

    def to_csv(self) -> str:
        """Gives all digits, without notes; an interval takes the columns `x`, `x_low`, `x_high`."""
        columns = list(zip(*self.rows, strict=True)) or [()] * len(self.columns)
        wide = [any(isinstance(cell, Interval) for cell in column) for column in columns]
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        heads = zip(self.columns, wide, strict=True)
        writer.writerow(
            name + end for name, ends in heads for end in (("", "_low", "_high") if ends else ("",))
        )
        for row in self.rows:
            cells = zip(row, wide, strict=True)
            writer.writerow(part for cell, ends in cells for part in _parts(cell, ends=ends))
        return out.getvalue().rstrip("\n")

    def to_json(self) -> dict[str, Any]:
        """Gives `columns`, `rows` (objects by column; intervals as objects) and `notes`."""
        rows = [
            {
                name: cell.to_json() if isinstance(cell, Interval) else cell
                for name, cell in zip(self.columns, row, strict=True)
            }
            for row in self.rows
        ]
        return {"columns": list(self.columns), "rows": rows, "notes": list(self.notes)}

    def render(self, form: str, digits: int = 4) -> str:
        """Gives the table as text: "markdown", "csv" or "json".

        Raises:
            UserError: another form, or digits below 0.
        """
        if digits < 0:
            raise UserError(f"digits must be >= 0, got {digits}")
        if form == "markdown":
            return self.to_markdown(digits)
        if form == "csv":
            return self.to_csv()
        if form == "json":
            return json.dumps(self.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
        raise UserError(f"a table is written as markdown, csv or json, not {form!r}")


def half_up(value: float, digits: int) -> str:
    """Rounds as published tables do: a half goes away from zero (4.745 is 4.75, 2.5 is 3)."""
    step = Decimal(1).scaleb(-digits)
    return str(Decimal(repr(float(value))).quantize(step, ROUND_HALF_UP))


def check_groups(by: Sequence[str], known: Sequence[str], what: str) -> tuple[str, ...]:
    """Gives the groups of a table, with the judge among them: judges are never mixed in one mean.

    Raises:
        UserError: an unknown group, or one named twice.
    """
    for name in by:
        if name not in known:
            raise UserError(f"{what} table cannot go by {name!r}; known: {', '.join(known)}")
    if len(set(by)) < len(by):
        raise UserError(f"a table goes by distinct groups, got {', '.join(by)}")
    return tuple(by) if "judge" in by else (*by, "judge")


def read_records(path: Path | str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Gives the objects of a JSON Lines file, gzipped or not, each with its place (file:line).

    Raises:
        UserError: the file cannot be read, holds no objects, or a line is not an object.
    """
    place, found = Path(path), False
    for number, line in enumerate(_text(place).split("\n"), start=1):
        if not line.strip():
            continue
        where, found = f"{place}:{number}", True
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where}: not JSON ({error}); give one object per line") from error
        if not isinstance(content, dict):
            raise UserError(f"{where}: a record is an object, got {type(content).__name__}")
        yield where, content
    if not found:
        raise UserError(f"{place} holds no records; give one JSON object per line")


def text_of(record: Mapping[str, Any], name: str, where: str) -> str:
    """Gives a field that must be a text, and not an empty one.

    Raises:
        UserError: naming the place, the field and what is there.
    """
    value = record.get(name)
    if not isinstance(value, str) or not value:
        seen = ", ".join(map(str, record)) or "none"
        raise UserError(f"{where}: {name!r} must be a text, got {value!r} (the fields are {seen})")
    return value


def id_of(record: Mapping[str, Any], name: str, where: str) -> str:
    """Gives a field that must be a text or a whole number, as a text.

    Raises:
        UserError: naming the place, the field and what is there.
    """
    value = record.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UserError(f"{where}: {name!r} must be a text or a whole number, got {value!r}")
    return str(value)


def _text(place: Path) -> str:
    if place.suffix != ".gz":
        return read_text(place)
    try:
        with gzip.open(place, "rt", encoding="utf-8", newline="") as content:
            return content.read()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"cannot read {place}: {reason}; give gzipped JSON lines") from error


def _parts(cell: Cell, *, ends: bool) -> list[Cell]:
    if isinstance(cell, Interval):
        numbers = cell.to_json()
        return [numbers["mean"], numbers["low"], numbers["high"]]
    return [cell, None, None] if ends else [cell]


def _shown(cell: Cell, digits: int) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, Interval):
        mean, *ends = (_round(part, digits) for part in _parts(cell, ends=True))
        return f"{mean} [{', '.join(ends)}]"
    return _round(cell, digits)


def _round(cell: Cell, digits: int) -> str:
    if cell is None:
        return "?"
    return half_up(cell, digits) if isinstance(cell, float) else _escaped(str(cell))


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|")
