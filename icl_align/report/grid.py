"""The grid of instructions x prompts: scores at once, answers packed into parts that open when looked at."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from icl_align.evaluation import Evaluation, example_ids
from icl_align.ledger import Ledger, response_key
from icl_align.prompt import Prompt
from icl_align.report.clean import LONGEST, shown
from icl_align.types import Example, Score

ROWS_PER_PART = 25
"""Instructions whose answers are packed together."""


Place = tuple[str, str]
"""A split and the id of an instruction in it."""


@dataclass(frozen=True, slots=True)
class Row:
    """An instruction of the grid.

    Attributes:
        place: Its split and its id.
        example: The instruction.
    """

    place: Place
    example: Example


@dataclass(frozen=True, slots=True)
class Column:
    """A prompt of the grid.

    Attributes:
        label: Its short name.
        role: "winner", a baseline's name, or "".
        prompt: The prompt.
        scores: Its scores on the instructions that it was measured on.
    """

    label: str
    role: str
    prompt: Prompt
    scores: Mapping[Place, Score]


@dataclass(frozen=True, slots=True)
class Grid:
    """The grid as the page holds it.

    Attributes:
        head: JSON: instructions, prompts and scores in thousandths (null: none).
        parts: gzip and base64 of JSON, one per `ROWS_PER_PART` instructions: for each instruction and
            prompt null, or [answer or null, note, aspects].
    """

    head: str
    parts: tuple[str, ...]


def rows_of(split: str, examples: Sequence[Example]) -> list[Row]:
    """Gives the rows of a split."""
    ids = example_ids(examples)
    return [Row((split, name), example) for name, example in zip(ids, examples, strict=True)]


def scores_of(split: str, evaluation: Evaluation) -> dict[Place, Score]:
    """Gives an evaluation's scores by place."""
    pairs = zip(evaluation.ids, evaluation.scores, strict=True)
    return {(split, name): score for name, score in pairs}


def make_grid(
    rows: Sequence[Row],
    columns: Sequence[Column],
    ledger: Ledger | None,
    fingerprint: str,
    main: str = "",
) -> Grid:
    """Puts scores and answers side by side; answers that the ledger does not have are missing.

    Args:
        rows: The instructions.
        columns: The prompts.
        ledger: Has the answers; None to show scores alone.
        fingerprint: The engine's that gave them.
        main: The role of the column that the winner is held against.
    """
    head = {
        "rows": [_row(row) for row in rows],
        "columns": [_column(column) for column in columns],
        "scores": [
            [_thousandths(column.scores.get(row.place)) for row in rows] for column in columns
        ],
        "part": ROWS_PER_PART,
        "winner": _place(columns, "winner"),
        "rival": _place(columns, main) if main else -1,
    }
    parts = []
    for start in range(0, len(rows), ROWS_PER_PART):
        some = rows[start : start + ROWS_PER_PART]
        answers = _answers(some, columns, ledger, fingerprint)
        cells = [
            [
                _cell(column.scores.get(row.place), answers.get((number, place)))
                for place, column in enumerate(columns)
            ]
            for number, row in enumerate(some)
        ]
        parts.append(_packed(cells))
    return Grid(_json(head), tuple(parts))


def embedded(text: str) -> str:
    """Makes JSON safe inside a script element: nothing in it can end the element or open a comment."""
    for sign, code in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(sign, code)
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _json(content: Any) -> str:
    return embedded(json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False))


def _packed(content: Any) -> str:
    text = json.dumps(content, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode("ascii"), 6, mtime=0)).decode("ascii")


def _place(columns: Sequence[Column], role: str) -> int:
    return next((i for i, column in enumerate(columns) if column.role == role), -1)


def _thousandths(score: Score | None) -> int | None:
    return None if score is None or score.value is None else round(1000 * score.value)


def _row(row: Row) -> dict[str, Any]:
    split, name = row.place
    example = row.example
    turns = "".join(f"{turn.query}\n\u2192 {turn.answer}\n" for turn in example.turns)
    return {
        "split": shown(split, 40),
        "id": shown(name, 200),
        "query": shown(turns + example.query, LONGEST),
        "tags": [shown(tag, 100) for tag in example.tags],
    }


def _column(column: Column) -> dict[str, Any]:
    prompt = column.prompt
    return {
        "label": shown(column.label, 100),
        "role": shown(column.role, 100),
        "system": shown(prompt.system, 2000),
        "k": len(prompt.exemplars),
        "format": shown(prompt.format.name, 100),
        "temperature": prompt.decoding.temperature,
        "exemplars": [shown(e.id or e.query[:40], 100) for e in prompt.exemplars],
    }


def _answers(
    rows: Sequence[Row], columns: Sequence[Column], ledger: Ledger | None, fingerprint: str
) -> dict[tuple[int, int], str]:
    """Reads the answers to some instructions from the ledger, by row and column, as scorers saw them."""
    if ledger is None:
        return {}
    keys = {
        (number, place): _key(column.prompt, row.example, fingerprint)
        for place, column in enumerate(columns)
        for number, row in enumerate(rows)
    }
    found = ledger.responses(keys.values())
    return {
        at: columns[at[1]].prompt.parse(found[key].text) for at, key in keys.items() if key in found
    }


def _key(prompt: Prompt, example: Example, fingerprint: str) -> str:
    return response_key(fingerprint, prompt.render(example), prompt.stop, prompt.decoding)


def _cell(score: Score | None, answer: str | None) -> list[Any] | None:
    if score is None and answer is None:
        return None
    aspects: Mapping[str, float] = score.aspects if score else {}
    return [
        None if answer is None else shown(answer, LONGEST),
        shown(score.note, 1000) if score else "not scored in the search",
        {shown(name, 100): round(value, 3) for name, value in aspects.items()},
    ]
