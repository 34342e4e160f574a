"""Records of CSV, JSON and JSON-lines files, gzipped or not, each with the line it stands on."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl_align.errors import UserError

_BOM = "\ufeff"  # spreadsheet programs put it before UTF-8
_MISSING = frozenset({"", "nan", "null", "none", "na", "n/a"})
_SPACE = " \t\r\n"


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a file.

    Attributes:
        place: "file:line", where it begins.
        values: Texts from CSV, anything from JSON, by column.
    """

    place: str
    values: Mapping[str, Any]

    def find(self, names: Sequence[str]) -> tuple[str, Any] | None:
        """Gives the first of these columns that is there, and its value."""
        return next(((name, self.values[name]) for name in names if name in self.values), None)

    def need(self, names: Sequence[str], what: str) -> tuple[str, Any]:
        """Gives the first of these columns that is there, and its value.

        Raises:
            UserError: there is none.
        """
        found = self.find(names)
        if found is None:
            known = ", ".join(map(repr, names))
            raise UserError(
                f"{self.place}: no {what}; it is read from {known}, and here are "
                f"{', '.join(map(repr, self.values))}"
            )
        return found

    def number(self, name: str) -> float | None:
        """Gives a column as a number, None where it is missing (empty, null, NaN).

        Raises:
            UserError: it is something else, or infinite.
        """
        value = self.values[name]
        if value is None or (isinstance(value, str) and value.strip().lower() in _MISSING):
            return None
        try:
            number = float("x" if isinstance(value, bool) else value)
        except (TypeError, ValueError, OverflowError):
            number = float("inf")
        if number in (float("inf"), float("-inf")):
            raise UserError(
                f"{self.place}: {name!r} must be a number or missing, got {str(value)[:40]!r}"
            )
        return None if number != number else number  # noqa: PLR0124 (NaN)


def read_records(path: Path | str) -> list[Record]:
    """Reads a .csv, .json (one list of objects) or .jsonl file; each may end in .gz.

    Raises:
        UserError: as file:line, for what cannot be read, and for a file without records.
    """
    place = Path(path)
    kind = place.suffixes[-2] if place.suffix == ".gz" and len(place.suffixes) > 1 else place.suffix
    readers: dict[str, Callable[[str, Path], Iterator[Record]]] = {
        ".csv": _from_csv,
        ".json": _from_json,
        ".jsonl": _from_jsonl,
    }
    if kind not in readers:
        raise UserError(f"{place}: must end in .csv, .json or .jsonl, or one of these and .gz")
    found = list(readers[kind](_text(place), place))
    if not found:
        raise UserError(f"{place} holds no records; check that it is the file you meant")
    return found


def _text(place: Path) -> str:
    try:
        content = place.read_bytes()
        if place.suffix == ".gz":
            content = gzip.decompress(content)
        return content.decode("utf-8").removeprefix(_BOM)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{place}:{line}: byte {error.start} is not UTF-8; save it as UTF-8"
        ) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{place} is not a whole gzip file: {error}; fetch it again") from error
    except OSError as error:
        raise UserError(f"cannot read {place}: {error.strerror}") from error


def _from_csv(text: str, place: Path) -> Iterator[Record]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    begin = 1
    try:
        for row in reader:
            line, begin = begin, reader.line_num + 1
            if not row:
                continue
            if header is None:
                header = [name.strip() for name in row]
                if len(set(header)) < len(header):
                    raise UserError(f"{place}:{line}: two columns have one name; rename one")
            elif len(row) != len(header):
                raise UserError(
                    f"{place}:{line}: {len(row)} fields, but the header has {len(header)}; quote "
                    "fields that hold commas or line ends"
                )
            else:
                yield Record(f"{place}:{line}", dict(zip(header, row, strict=True)))
    except csv.Error as error:
        raise UserError(f"{place}:{begin}: not CSV: {error}; use .jsonl for long texts") from error


def _from_jsonl(text: str, place: Path) -> Iterator[Record]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _record(_decode(line, 0, place, number)[0], place, number)


def _from_json(text: str, place: Path) -> Iterator[Record]:
    """Reads a list of objects, one by one, so that each has its line."""
    at = _skip(text, 0, _SPACE)
    if text[at : at + 1] != "[":
        raise UserError(f"{place}: must be a JSON list of objects; one object per line is .jsonl")
    at, line, counted = _skip(text, at + 1, _SPACE), 1, 0
    while text[at : at + 1] != "]":
        line, counted = line + text.count("\n", counted, at), at
        content, end = _decode(text, at, place, line)
        yield _record(content, place, line)
        at = _skip(text, end, _SPACE)
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1, _SPACE)
        elif text[at : at + 1] != "]":
            line += text.count("\n", counted, at)
            raise UserError(f"{place}:{line}: not JSON: ',' or ']' expected; is the file whole?")
    if text[at + 1 :].strip():
        raise UserError(f"{place}: something follows the end of the list; remove it")


def _skip(text: str, at: int, characters: str) -> int:
    while at < len(text) and text[at] in characters:
        at += 1
    return at


def _decode(text: str, at: int, place: Path, line: int) -> tuple[Any, int]:
    try:
        found, end = json.JSONDecoder().raw_decode(text, _skip(text, at, _SPACE))
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError):
            line += text.count("\n", at, error.pos)
        reason = getattr(error, "msg", "nested too deep, or a number too long")
        raise UserError(f"{place}:{line}: not JSON: {reason}; mend or remove it") from error
    return found, end


def _record(content: Any, place: Path, line: int) -> Record:
    if not isinstance(content, dict):
        raise UserError(
            f"{place}:{line}: each record must be a JSON object, got {type(content).__name__}"
        )
    return Record(f"{place}:{line}", content)
