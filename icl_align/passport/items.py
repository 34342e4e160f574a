"""Pairs and ratings that people have judged, read from JSONL."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from icl_align.data import QUERY_NAMES, read_text
from icl_align.errors import UserError
from icl_align.prompt import rough_tokens
from icl_align.scorers.fence import whole
from icl_align.types import Example, Response

VERDICTS: Mapping[object, int] = {0: 0, 1: 1, 2: -1, "tie": 0, "first": 1, "second": -1}
"""How files write a verdict, and what it is here: 1 first, 0 tie, -1 second."""
_ENDS = 2


@dataclass(frozen=True, slots=True)
class Pair:
    """Two responses to one instruction, and which one people prefer.

    Attributes:
        id: Unique in its file.
        query: The instruction, its input after an empty line.
        first: One response.
        second: The other.
        label: What people say: 1 first, 0 tie, -1 second.
        labels: Each annotator's own, in a fixed order; empty where only the outcome is known.
        models: Who wrote the first and the second; empty where unknown.
        row: The whole line of the file, for recorded predictions.
    """

    id: str
    query: str
    first: str
    second: str
    label: int
    labels: tuple[int, ...] = ()
    models: tuple[str, str] = ("", "")
    row: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Rating:
    """A response and how people rate it.

    Attributes:
        id: Unique in its file.
        query: The instruction, its input after an empty line.
        response: What was rated.
        scores: Each annotator's, in [0, 1].
        scale: The lowest and the highest score, as the file has it.
        row: The whole line of the file, for recorded predictions.
    """

    id: str
    query: str
    response: str
    scores: tuple[float, ...]
    scale: tuple[float, float]
    row: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def score(self) -> float:
        """The annotators' mean, in [0, 1]."""
        return math.fsum(self.scores) / len(self.scores)


Item = TypeVar("Item", Pair, Rating)


def read_pairs(
    path: Path | str, limit: int | None = None, seed: int = 0, *, unlabelled: bool = False
) -> list[Pair]:
    """Reads pairs: `instruction`, `input`?, `response1` and `response2` (or `output_1`, `output_2`).

    A line has `label` (0 or "tie", 1 or "first", 2 or "second") or `labels`, a list of them, one per
    annotator; then the most frequent is the label, a tie where no single one is. `id` (or `idx`),
    `model1` and `model2` are optional, and other fields are kept. Lines of kind "criteria", as
    `judge label` writes them, are passed over.

    Args:
        path: The file.
        limit: At most so many, drawn at random; None for all.
        seed: Of the draw.
        unlabelled: Let lines without a label pass, as ties, since they are yet to be judged.

    Raises:
        UserError: as file:line, for a line that is no pair; or there is none.
    """
    return _read(Path(path), partial(_pair, unlabelled), "pairs", limit, seed)


def read_ratings(
    path: Path | str, limit: int | None = None, seed: int = 0, *, unlabelled: bool = False
) -> list[Rating]:
    """Reads ratings: `instruction`, `input`?, `response` (or `output`), `score` or `scores`, `scale`.

    `scale` is the lowest and the highest score, such as [1, 5]. `id` is optional.

    Args:
        path: The file.
        limit: At most so many, drawn at random; None for all.
        seed: Of the draw.
        unlabelled: Let lines without a score pass, without scores, since they are yet to be rated.

    Raises:
        UserError: as file:line, for a line that is no rating; or there is none.
    """
    return _read(Path(path), partial(_rating, unlabelled), "ratings", limit, seed)


def verdict_of(value: object) -> int | None:
    """Reads a verdict as files write it; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return VERDICTS.get(value)


def recorded(items: Sequence[Item], column: str) -> list[Any]:
    """Gives what a column holds, None where a line lacks it.

    Raises:
        UserError: no line has it.
    """
    if not any(column in item.row for item in items):
        known = sorted({key for item in items for key in item.row})
        near = get_close_matches(column, known, 1, 0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
        raise UserError(f"recorded:{column}: no line has a field {column!r}; {hint}")
    return [item.row.get(column) for item in items]


def example(item: Pair | Rating) -> Example:
    """Gives the instruction as scorers take it."""
    return Example(item.query, id=item.id)


def response(text: str) -> Response:
    """Gives a text as scorers take it; four bytes count as a token."""
    return Response(text, rough_tokens(text), "stop")


def annotators(pairs: Sequence[Pair]) -> list[tuple[Pair, int, int]]:
    """Each annotator against each other one: the pair, what the one says, and what the other."""
    return [
        (pair, mine, theirs)
        for pair in pairs
        for one, mine in enumerate(pair.labels)
        for other, theirs in enumerate(pair.labels)
        if one != other
    ]


def most_frequent(labels: Sequence[int]) -> int:
    """The label given most often, a tie where no single one is."""
    ranked = Counter(labels).most_common()
    alone = len(ranked) == 1 or ranked[0][1] > ranked[1][1]
    return ranked[0][0] if alone else 0


def _read(
    place: Path,
    parse: Callable[[Mapping[str, Any], str, str], Item],
    what: str,
    limit: int | None,
    seed: int,
) -> list[Item]:
    items: dict[str, Item] = {}
    for number, content in _lines(place):
        where = f"{place}:{number}"
        if content.get("kind") == "criteria":
            continue
        name = whole(str(content.get("id", content.get("idx", f"line {number}"))))
        if name in items:
            raise UserError(f"{where}: the id {name!r} occurs before; ids must be unique")
        items[name] = parse(content, name, where)
    if not items:
        raise UserError(f"{place} holds no {what}; add at least one line")
    found = list(items.values())
    if limit is None or limit >= len(found):
        return found
    order = sorted(items, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    kept = set(order[:limit])
    return [item for item in found if item.id in kept]


def _lines(place: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    text = read_text(place).removeprefix("\ufeff")
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise UserError(
                f"{place}:{number}: broken JSON ({error}); each line must be one whole JSON object"
            ) from error
        if not isinstance(content, dict):
            raise UserError(f"{place}:{number}: each line must be a JSON object")
        yield number, content


def _pair(unlabelled: bool, content: Mapping[str, Any], name: str, where: str) -> Pair:
    first = _text(content, ("response1", "output_1"), where)
    second = _text(content, ("response2", "output_2"), where)
    labels = _labels(content.get("labels"), where)
    label = most_frequent(labels) if labels else None
    if "label" in content:
        label = verdict_of(content["label"])
        if label is None:
            raise UserError(f"{where}: {_label_rule('label')}, got {content['label']!r}")
    if label is None and unlabelled:
        label = 0
    if label is None:
        raise UserError(f"{where}: no 'label' and no 'labels': what do people prefer?")
    models = (str(content.get("model1") or ""), str(content.get("model2") or ""))
    return Pair(name, _query(content, where), first, second, label, labels, models, content)


def _labels(given: object, where: str) -> tuple[int, ...]:
    if given is None:
        return ()
    found = [verdict_of(one) for one in given] if isinstance(given, list) else [None]
    labels = tuple(one for one in found if one is not None)
    if len(labels) < len(found):
        raise UserError(
            f"{where}: 'labels' is a list; {_label_rule('each of them')}, got {given!r}"
        )
    return labels


def _label_rule(what: str) -> str:
    return f'{what} must be 0 or "tie", 1 or "first", 2 or "second"'


def _rating(unlabelled: bool, content: Mapping[str, Any], name: str, where: str) -> Rating:
    scale = content.get("scale")
    ends = [_number(one) for one in scale] if isinstance(scale, list) else []
    if len(ends) != _ENDS or ends[0] is None or ends[1] is None or not ends[0] < ends[1]:
        raise UserError(
            f"{where}: 'scale' must be the lowest and the highest score, such as [1, 5], got {scale!r}"
        )
    low, high = ends[0], ends[1]
    given = content.get("scores", [content.get("score")])
    found = [_number(one) for one in given] if isinstance(given, list) else []
    scores = [one for one in found if one is not None and low <= one <= high]
    open_ = unlabelled and not {"score", "scores"} & content.keys()
    if not open_ and (not scores or len(scores) < len(found)):
        raise UserError(
            f"{where}: 'score' must be a number from {low:g} to {high:g}, 'scores' a list of such "
            f"numbers, got {given!r}"
        )
    unit = tuple((one - low) / (high - low) for one in scores)
    text = _text(content, ("response", "output"), where)
    return Rating(name, _query(content, where), text, unit, (low, high), content)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _query(content: Mapping[str, Any], where: str) -> str:
    query, more = _text(content, QUERY_NAMES, where), content.get("input") or ""
    if not isinstance(more, str):
        raise UserError(f"{where}: 'input' must be a text, got {more!r}")
    whole = "\n\n".join(part for part in (query, more) if part.strip())
    if not whole:
        raise UserError(f"{where}: the instruction is empty, and there is no input either")
    return whole


def _text(content: Mapping[str, Any], names: Sequence[str], where: str) -> str:
    for name in names:
        if name in content:
            value = content[name]
            if not isinstance(value, str):
                raise UserError(f"{where}: {name!r} must be a text, got {value!r}")
            return whole(value)
    raise UserError(
        f"{where}: it has none of the fields {', '.join(names)}, only {', '.join(content) or 'none'}"
    )
