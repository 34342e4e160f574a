"""Length-controlled win rates of all models of a file, covariates put in line by instruction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from icl_align.annotations.reading import (
    ID,
    MODEL,
    Annotation,
    Annotations,
    Coding,
    decode,
    identity,
    length,
)
from icl_align.annotations.records import Record, read_records
from icl_align.errors import UserError
from icl_align.stats.length import (
    GAMED_WEIGHT,
    LengthControlled,
    Regularisation,
    length_controlled_win_rate,
)

Alignment = Literal["id", "row"]
"""What says which difficulty a row has: its instruction, or (as published numbers do) its position."""
_WINS = ("y", "y_surrogate")
"""Columns of regularising rows that are P(win) by their name."""


@dataclass(frozen=True, slots=True)
class Difficulty:
    """A difficulty for each instruction, from a file.

    Attributes:
        path: The file.
        values: In the file's order.
        by_name: For each column that names instructions, from name to value.
    """

    path: str
    values: Sequence[float]
    by_name: Mapping[str, Mapping[str, float]]

    def of(self, record: Record, position: int, alignment: Alignment) -> float:
        """Gives the difficulty of a row.

        Raises:
            UserError: there is none for it.
        """
        if alignment == "row":
            if position >= len(self.values):
                raise UserError(
                    f"{record.place}: is row {position}, but {self.path} has only {len(self.values)} "
                    "difficulties; put them in line with --difficulty-by id"
                )
            return self.values[position]
        found = identity(record, tuple(name for name in ID if name in self.by_name))
        if found is None:
            raise UserError(
                f"{record.place}: no column says which instruction it is; one of "
                f"{', '.join(map(repr, ID))} must be here and in {self.path}"
            )
        column, name = found
        if name not in self.by_name[column]:
            raise UserError(
                f"{record.place}: the {column} {name[:60]!r} has no difficulty in {self.path}; give every "
                "instruction one, or leave --difficulty out"
            )
        return self.by_name[column][name]


@dataclass(frozen=True, slots=True)
class LengthTable:
    """Win rates by model, and how they came about.

    Attributes:
        annotations: What they are of.
        results: By model, the best length-controlled rate first.
        difficulty: The file of difficulties, "" for none.
        difficulty_by: What put difficulties in line.
        regularisation: The file of regularising rows, "" for none.
    """

    annotations: Annotations
    results: Mapping[str, LengthControlled]
    difficulty: str
    difficulty_by: Alignment
    regularisation: str

    def to_json(self) -> dict[str, Any]:
        """Gives the table as `icl-align lc --json` prints it."""
        return {
            "file": self.annotations.path,
            "coding": self.annotations.coding,
            "difficulty": self.difficulty or None,
            "difficulty_by": self.difficulty_by if self.difficulty else None,
            "regularisation": self.regularisation or None,
            "models": [
                {
                    "model": name,
                    "baseline": self.annotations.baselines[name] or None,
                    **result.to_json(),
                }
                for name, result in self.results.items()
            ],
        }


def read_difficulty(path: Path | str) -> Difficulty:
    """Reads the column `difficulty`, and every column that names instructions.

    Raises:
        UserError: as file:line, for a difficulty that is missing or no number, or an instruction twice.
    """
    values: list[float] = []
    by_name: dict[str, dict[str, float]] = {}
    for record in read_records(path):
        number = record.number(record.need(("difficulty",), "difficulty")[0])
        if number is None:
            raise UserError(
                f"{record.place}: the difficulty is missing; every instruction needs one"
            )
        values.append(number)
        for column in (name for name in ID if name in record.values):
            _, name = identity(record, (column,)) or ("", "")
            names = by_name.setdefault(column, {})
            if name in names and names[name] != number:
                raise UserError(
                    f"{record.place}: the {column} {name[:60]!r} has another difficulty above; keep one"
                )
            names[name] = number
    return Difficulty(str(path), values, by_name)


def read_regularisation(
    path: Path | str,
    difficulty: Difficulty | None = None,
    *,
    alignment: Alignment = "id",
    weight: float = GAMED_WEIGHT,
    coding: Coding = "auto",
) -> Regularisation:
    """Reads regularising rows: columns as of annotations; the preference may be `y`, from 0 to 1.

    Args:
        path: The file.
        difficulty: Where the rows' difficulties come from; None for a fit without.
        alignment: What puts difficulties in line.
        weight: Of each row, next to 1 for the rows that are judged.
        coding: Of a column `preference`.

    Raises:
        UserError: as file:line, for columns or values that cannot be used.
    """
    records = read_records(path)
    columns = [record.need(("preference", *_WINS), "preference")[0] for record in records]
    values = [record.number(column) for record, column in zip(records, columns, strict=True)]
    _, preference = decode(records, values, "0-1" if columns[0] in _WINS else coding)
    group = [str((record.find(MODEL) or ("", ""))[1]) for record in records]
    positions = _counted(group)
    return Regularisation(
        preference,
        [length(record, 2) for record in records],
        [length(record, 1) for record in records],
        None
        if difficulty is None
        else [
            difficulty.of(record, at, alignment)
            for record, at in zip(records, positions, strict=True)
        ],
        weight,
        group,
    )


def _counted(names: Sequence[str]) -> Iterator[int]:
    """Yields how often each name came before."""
    seen: dict[str, int] = {}
    for name in names:
        yield seen.get(name, 0)
        seen[name] = seen.get(name, 0) + 1


def length_table(
    annotations: Annotations,
    difficulty: Difficulty | None = None,
    regularisation: Regularisation | None = None,
    penalty: float | Literal["cv"] | None = None,
    *,
    alignment: Alignment = "id",
    source: str = "",
    level: float = 0.95,
    resamples: int = 1000,
    seed: int | None = 0,
    on_model: Callable[[str], None] | None = None,
) -> LengthTable:
    """Estimates the length-controlled win rate of every model, each fitted alone.

    Args:
        annotations: What was read.
        difficulty: Of the instructions.
        regularisation: Rows that tie the weight of length down.
        penalty: As in `icl_align.stats.length_controlled_win_rate`.
        alignment: What puts difficulties in line.
        source: Where the regularising rows come from.
        level: Nominal coverage of the intervals.
        resamples: Of the bootstrap; 0 for no intervals.
        seed: Of the bootstrap.
        on_model: Told each model that is done.

    Raises:
        UserError: a row has no difficulty, or a model no preference.
    """

    def estimate(name: str, rows: Sequence[Annotation]) -> LengthControlled:
        given = None
        if difficulty is not None:
            given = [difficulty.of(row.record, row.position, alignment) for row in rows]
        try:
            return length_controlled_win_rate(
                [row.preference for row in rows],
                [row.length_model for row in rows],
                [row.length_baseline for row in rows],
                given,
                regularisation,
                penalty,
                level=level,
                resamples=resamples,
                seed=seed,
            )
        except ValueError as error:
            raise UserError(f"{annotations.path}: {name!r}: {error}") from error
        finally:
            if on_model is not None:
                on_model(name)

    found = {name: estimate(name, rows) for name, rows in annotations.groups.items()}
    order = sorted(found, key=lambda name: -found[name].lc_win_rate)
    return LengthTable(
        annotations,
        {name: found[name] for name in order},
        difficulty.path if difficulty else "",
        alignment,
        source,
    )
