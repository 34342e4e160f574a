"""Examples from files and Hugging Face data sets, and disjoint, stable splits of them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from icl_align.errors import UserError
from icl_align.prompt import Prompt
from icl_align.types import Check, Example, Turn

QUERY_NAMES = ("query", "instruction", "prompt", "question")
ANSWER_NAMES = ("answer", "output", "response", "reference")
_SPEECH = str.maketrans(dict.fromkeys(".,;:!?\"'`\u2018\u2019\u201c\u201d\u00ab\u00bb\u2026", " "))
_BOM = "\ufeff"  # spreadsheet programs put it before UTF-8
_KEYS = {"id", "query", "answer", "tags", "turns", "checks"}


def read_text(path: Path | str) -> str:
    """Reads a UTF-8 file without changing its line ends.

    Raises:
        UserError: it is missing, a folder, unreadable, or not UTF-8 (naming the byte).
    """
    place = Path(path)
    try:
        content = place.read_bytes()
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{place}: byte {error.start} is not UTF-8 (line {line}, {error.reason}); save the file "
            "as UTF-8"
        ) from error
    except OSError as error:
        raise UserError(f"cannot read {place}: {error.strerror}") from error


def read_examples(path: Path | str) -> list[Example]:
    """Reads examples by the file's suffix: .jsonl, .csv, or .txt (the exemplars of a URIAL text).

    JSONL and CSV name the query `query`, `instruction`, `prompt` or `question`, the answer `answer`,
    `output`, `response` or `reference`. JSONL may hold `id`, `tags`, `turns` and `checks` too.

    Raises:
        UserError: as file:line, for anything that cannot be read as examples, and for an empty file.
    """
    place = Path(path)
    readers = {".jsonl": _from_jsonl, ".csv": _from_csv, ".txt": _from_urial}
    if place.suffix not in readers:
        raise UserError(
            f"{place}: examples are read from .jsonl, .csv or .txt, not {place.suffix!r}"
        )
    found = list(readers[place.suffix](read_text(place), place))
    if not found:
        raise UserError(f"{place} holds no examples; add at least one")
    seen: dict[str, int] = {}
    for line, example in found:
        if example.id and example.id in seen:
            raise UserError(
                f"{place}:{line}: the id {example.id!r} is that of line {seen[example.id]}, too; "
                "ids must be unique, change one"
            )
        seen[example.id] = line
    return [example for _, example in found]


def read_hf_dataset(
    name: str,
    *,
    split: str = "train",
    query_column: str = "query",
    answer_column: str | None = None,
    config: str | None = None,
    limit: int | None = None,
) -> list[Example]:
    """Reads examples from a Hugging Face data set: a Hub id, a local file, or a saved folder.

    Args:
        name: A Hub id, a .json/.jsonl/.csv/.parquet file, or a folder written by `save_to_disk`.
        split: Which split, for a Hub id or a folder with several.
        query_column: Column of the queries, strings.
        answer_column: Column of the answers, strings; None for none.
        config: Configuration of a Hub data set.
        limit: At most so many rows.

    Raises:
        UserError: it cannot be loaded, or lacks the split or a column.
    """
    table = _load_dataset(name, split, config)
    for column in (query_column, answer_column):
        if column is not None and column not in table.column_names:
            raise UserError(
                f"the data set {name} has no column {column!r}; it has {', '.join(table.column_names)}"
            )
    examples = []
    for number, row in enumerate(table):
        if limit is not None and number >= limit:
            break
        query, answer = row[query_column], row[answer_column] if answer_column else None
        if not isinstance(query, str) or not query.strip() or not isinstance(answer, str | None):
            raise UserError(
                f"the data set {name}, row {number}: {query_column!r} must be a text that is not empty "
                f"and the answer a text, got {str(query)[:40]!r} and {str(answer)[:40]!r}"
            )
        examples.append(Example(query, answer, id=str(number)))
    if not examples:
        raise UserError(f"the data set {name} (split {split!r}) holds no examples")
    return examples


def write_examples(path: Path | str, examples: Iterable[Example]) -> None:
    """Writes examples as JSONL, one per line, UTF-8; an old file is replaced as a whole or not at all."""
    place = Path(path)
    lines = [_line(example_to_json(example)) for example in examples]
    unfinished = place.with_name(f"{place.name}.unfinished")
    unfinished.write_bytes(b"".join(lines))
    unfinished.replace(place)


def _line(content: Mapping[str, Any]) -> bytes:
    """Gives a line of JSON, in escapes where it holds half a surrogate pair, which UTF-8 cannot."""
    try:
        return (json.dumps(content, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:
        return (json.dumps(content) + "\n").encode()


def example_to_json(example: Example) -> dict[str, Any]:
    """Gives an example as a JSON-able dict, empty fields left out."""
    content: dict[str, Any] = {"id": example.id, "query": example.query, "answer": example.answer}
    content["tags"] = list(example.tags)
    content["turns"] = [asdict(turn) for turn in example.turns]
    content["checks"] = [
        {**asdict(check), "values": list(check.values)} for check in example.checks
    ]
    return {
        key: value
        for key, value in content.items()
        if value not in (None, []) and (value or key != "id")
    }


def example_from_json(content: Any, where: str = "example") -> Example:
    """Reads an example from a dict.

    Raises:
        UserError: unknown keys (the nearest known one is named), no query, or a wrong type.
    """
    if not isinstance(content, Mapping):
        raise UserError(f"{where}: an example must be a JSON object, got {type(content).__name__}")
    renamed = _renamed(content, where)
    query, answer = renamed.get("query"), renamed.get("answer")
    if not isinstance(query, str) or not query.strip():
        raise UserError(f"{where}: 'query' must be a text that is not empty, got {query!r}")
    if not isinstance(answer, str | None):
        raise UserError(f"{where}: 'answer' must be a text or null, got {type(answer).__name__}")
    tags = renamed.get("tags", [])
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise UserError(f"{where}: 'tags' must be a list of texts")
    return Example(
        query,
        answer,
        str(renamed.get("id", "")),
        tuple(tags),
        tuple(_record(Turn, turn, f"{where}: turn") for turn in _listed(renamed, "turns", where)),
        tuple(_check(check, f"{where}: check") for check in _listed(renamed, "checks", where)),
    )


def normalise(text: str) -> str:
    """Folds what should not tell two texts apart: case, Unicode form, white space, marks of speech.

    Marks that carry meaning stay: 3+4 is not 3-4, and C is not C#.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.translate(_SPEECH).split()) or " ".join(folded.split())


def split_examples(
    examples: Sequence[Example], sizes: Mapping[str, int], seed: int
) -> dict[str, list[Example]]:
    """Splits examples, disjoint by normalised text and stable under additions.

    An example's place follows from a hash of the seed and its text alone, so adding or removing others
    moves few. Examples with the same normalised text stay on one side.

    Args:
        examples: What to split.
        sizes: How many examples each split gets, in the order in which splits are filled.
        seed: Seed of the order.

    Raises:
        UserError: a size is not a positive whole number, or there are fewer distinct texts than the
            sizes ask for.
    """
    for name, size in sizes.items():
        if size < 1:
            raise UserError(f"the split {name!r} must have at least 1 example, got {size}")
    groups: dict[str, list[Example]] = {}
    for example in examples:
        key = " ".join(
            normalise(text) for text in (*(t.query for t in example.turns), example.query)
        )
        groups.setdefault(key, []).append(example)
    order = sorted(groups, key=lambda key: hashlib.sha256(f"{seed}:{key}".encode()).digest())
    wanted = sum(sizes.values())
    if wanted > len(order):
        raise UserError(
            f"splits of {', '.join(f'{n} {name}' for name, n in sizes.items())} need {wanted} distinct "
            f"examples, got {len(order)} (of {len(examples)} in all); ask for fewer or bring more"
        )
    found: dict[str, list[Example]] = {}
    start = 0
    for name, size in sizes.items():
        # One example of each group: a duplicate would count its text twice.
        found[name] = [groups[key][0] for key in order[start : start + size]]
        start += size
    return found


def _from_jsonl(text: str, place: Path) -> Iterator[tuple[int, Example]]:
    for number, line in enumerate(text.removeprefix(_BOM).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{place}:{number}"
        try:
            content = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(
                f"{where}: broken JSON at column {error.colno}: {error.msg}; each line must be one "
                "whole JSON object"
            ) from error
        except RecursionError as error:
            raise UserError(f"{where}: this JSON is nested too deeply") from error
        yield number, example_from_json(content, where)


def _from_csv(text: str, place: Path) -> Iterator[tuple[int, Example]]:
    reader = csv.DictReader(io.StringIO(text.removeprefix(_BOM), newline=""), strict=True)
    try:
        names = [name.strip() for name in reader.fieldnames or []]
        if len(set(names)) < len(names):
            raise UserError(
                f"{place}:1: two columns have one name ({', '.join(names)}); rename one"
            )
        for row in reader:
            cells = [cell for cell in row.values() if isinstance(cell, str)]
            line = reader.line_num - sum(cell.count("\n") for cell in cells)
            where = f"{place}:{line}"
            if None in row or any(value is None for value in row.values()):
                raise UserError(
                    f"{where}: this row has another number of columns than the header "
                    f"({len(reader.fieldnames or [])})"
                )
            content = {key.strip(): value for key, value in row.items() if key.strip()}
            tags = content.pop("tags", "")
            for name in ANSWER_NAMES:
                if content.get(name) == "":
                    del content[name]  # an empty cell is no answer, CSV has no null
            labels = [tag.strip() for tag in tags.split(";") if tag.strip()]
            yield line, example_from_json({**content, "tags": labels}, where)
    except csv.Error as error:
        raise UserError(f"{place}:{reader.line_num}: broken CSV: {error}") from error


def _from_urial(text: str, place: Path) -> Iterator[tuple[int, Example]]:
    return enumerate(Prompt.from_text(text, where=str(place)).exemplars, start=1)


def _renamed(content: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Maps the usual column names to ours and refuses unknown ones."""
    renamed: dict[str, Any] = {}
    for key, value in content.items():
        name = "query" if key in QUERY_NAMES else "answer" if key in ANSWER_NAMES else key
        if name not in _KEYS:
            near = get_close_matches(str(key), [*_KEYS, *QUERY_NAMES, *ANSWER_NAMES], 1, 0.6)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(_KEYS))}"
            seen = ", ".join(map(str, content))
            raise UserError(f"{where}: unknown field {key!r}; {hint} (the fields are {seen})")
        if name in renamed:
            raise UserError(f"{where}: {key!r} is a second field for the {name}; keep one")
        renamed[name] = value
    if "query" not in renamed:
        raise UserError(
            f"{where}: no query; name it one of {', '.join(QUERY_NAMES)} (the fields are "
            f"{', '.join(map(str, content)) or 'none'})"
        )
    return renamed


def _listed(content: Mapping[str, Any], key: str, where: str) -> list[Any]:
    value = content.get(key, [])
    if not isinstance(value, list):
        raise UserError(f"{where}: {key!r} must be a list, got {type(value).__name__}")
    return value


def _record(kind: type[Turn], content: Any, where: str) -> Turn:
    if not isinstance(content, Mapping) or set(content) != {"query", "answer"}:
        raise UserError(f"{where} must be an object with 'query' and 'answer'")
    if not all(isinstance(value, str) for value in content.values()):
        raise UserError(f"{where}: 'query' and 'answer' must be texts")
    return kind(**content)


def _check(content: Any, where: str) -> Check:
    known = ("kind", "values", "weight", "aspect")
    if not isinstance(content, Mapping) or not isinstance(content.get("kind"), str):
        raise UserError(f"{where} must be an object with a 'kind'")
    for key in content:
        if key not in known:
            raise UserError(f"{where} has an unknown field {key!r}; known: {', '.join(known)}")
    values, weight = content.get("values", []), content.get("weight", 1.0)
    if not isinstance(values, list):
        raise UserError(f"{where}: 'values' must be a list")
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not weight > 0:
        raise UserError(f"{where}: 'weight' must be a number > 0, got {weight!r}")
    return Check(
        content["kind"], tuple(map(str, values)), float(weight), str(content.get("aspect", ""))
    )


def _load_dataset(name: str, split: str, config: str | None) -> Any:
    import datasets

    place = Path(name)
    builders = {".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet"}
    try:
        if place.is_file() and place.suffix in builders:
            files = {split.partition("[")[0]: str(place)}
            return datasets.load_dataset(builders[place.suffix], data_files=files, split=split)
        if place.is_dir() and any(
            (place / marker).exists() for marker in ("dataset_info.json", "dataset_dict.json")
        ):
            loaded = datasets.load_from_disk(str(place))
            return loaded[split] if isinstance(loaded, datasets.DatasetDict) else loaded
        return datasets.load_dataset(name, config, split=split)
    except Exception as error:  # the library raises whatever its readers and its network raise
        reason = str(error).split("\n")[0][:200]
        raise UserError(
            f"cannot load the data set {name!r} (split {split!r}): {type(error).__name__}: {reason}; "
            "check the name, the split and the network, or give a local file"
        ) from error
