"""A person grades a handful of pairs or responses, and may change their mind about what is good.

The loop is EvalGen's (Shankar et al., 2404.12272): grading shows people what their criteria are, so the
criteria may be revised at any time; what was graded before is marked as graded under the old ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from icl_align.data import read_text
from icl_align.errors import UserError
from icl_align.ledger import content_digest
from icl_align.passport.items import Pair, Rating
from icl_align.passport.plain import gutter, printable

_PAIR_KEYS = {"1": 1, "2": -1, "t": 0}
_FILE_LABELS = {1: 1, -1: 2, 0: 0}
_DIGEST = 16


@dataclass(frozen=True, slots=True)
class Label:
    """One grade.

    Attributes:
        id: Of the item.
        criteria: Under which version of the criteria, from 0.
    """

    id: str
    criteria: int


class Labels:
    """The file of a person's grades and criteria, one line each, written at once.

    Grades have the fields of a pair or a rating, so the file can be given to `judge validate`.
    """

    def __init__(self, file: Path) -> None:
        """Reads what is there.

        Raises:
            UserError: as file:line, for a line that is neither a grade nor criteria.
        """
        self.file = file
        self.labels: dict[str, Label] = {}
        self.criteria: list[str] = [""]
        self.digests: dict[str, str] = {}
        if not file.exists():
            return
        for number, line in enumerate(read_text(file).split("\n"), start=1):
            if line.strip():
                self._take(line, f"{file}:{number}")

    @property
    def version(self) -> int:
        """Which version of the criteria holds, 0 before any is written."""
        return len(self.criteria) - 1

    @property
    def outdated(self) -> list[str]:
        """The ids graded under earlier criteria."""
        return [one.id for one in self.labels.values() if one.criteria < self.version]

    def add(self, item: Pair | Rating, grade: float, moment: str, order: str) -> None:
        """Writes a grade: 1, 0, -1 for a pair, a number on its scale for a response."""
        content: dict[str, Any] = {"id": item.id, "instruction": item.query}
        if isinstance(item, Pair):
            content |= {"response1": item.first, "response2": item.second}
            content |= {"label": _FILE_LABELS[int(grade)], "order": order}
        else:
            content |= {"response": item.response, "score": grade, "scale": list(item.scale)}
        content |= {"kind": "label", "item": item_digest(item), "criteria": self.version}
        self._write({**content, "time": moment})
        self.labels[item.id] = Label(item.id, self.version)
        self.digests[item.id] = content["item"]

    def revise(self, text: str, moment: str) -> None:
        """Writes new criteria, with what was graded before them."""
        self.criteria.append(text)
        graded = list(self.labels)
        self._write(
            {
                "kind": "criteria",
                "version": self.version,
                "text": text,
                "time": moment,
                "graded_before": graded,
            }
        )

    def _write(self, content: Mapping[str, Any]) -> None:
        with self.file.open("a", encoding="utf-8", newline="") as stream:
            stream.write(json.dumps(content) + "\n")

    def _take(self, line: str, where: str) -> None:
        try:
            row = json.loads(line)
            if row["kind"] == "criteria":
                self.criteria.append(str(row["text"]))
            elif row["kind"] == "label":
                self.labels[row["id"]] = Label(row["id"], int(row["criteria"]))
                self.digests[row["id"]] = row["item"]
            else:
                self._refuse(where, f"its kind is {row['kind']!r}")
        except (json.JSONDecodeError, KeyError, TypeError, RecursionError) as error:
            self._refuse(where, str(error))

    @staticmethod
    def _refuse(where: str, reason: str) -> NoReturn:
        raise UserError(
            f"{where}: this is no line of `judge label` ({reason}); remove it, or name another --out"
        )


@dataclass(frozen=True, slots=True)
class Desk:
    """Where a person sits.

    Attributes:
        show: Prints a text.
        ask: Asks for a line.
        now: The time, as ISO 8601.
    """

    show: Callable[[str], None]
    ask: Callable[[str], str]
    now: Callable[[], str]


def grade(
    items: Sequence[Pair] | Sequence[Rating], labels: Labels, desk: Desk, n: int, seed: int = 0
) -> bool:
    """Has a person grade until there are `n` grades, or they quit.

    Items come in an order drawn from the seed, pairs with their sides drawn too; who wrote what and what
    others said is not shown.

    Args:
        items: What may be graded.
        labels: What has been, and where grades go.
        desk: The person.
        n: How many grades there are to be in all.
        seed: Of order and sides.

    Returns:
        Whether it went to the end.

    Raises:
        UserError: an item that was graded has another text now.
    """
    for item in items:
        if labels.digests.get(item.id, item_digest(item)) != item_digest(item):
            raise UserError(
                f"{labels.file} has a grade of {item.id!r}, but its text was another one; grade the "
                "file it was made for, or name another --out"
            )
    queue: list[Pair | Rating] = sorted(items, key=lambda item: _draw(seed, item))
    for item in queue:
        if item.id in labels.labels:
            continue
        if len(labels.labels) >= n:
            break
        desk.show(f"\n--- {len(labels.labels) + 1} of {min(n, len(items))} ---")
        if not _grade_one(item, labels, desk, seed):
            return False
    return True


def item_digest(item: Pair | Rating) -> str:
    """Gives a digest of what a person sees of an item."""
    texts = [item.first, item.second] if isinstance(item, Pair) else [item.response]
    return content_digest([item.query, *texts])[:_DIGEST]


def _grade_one(item: Pair | Rating, labels: Labels, desk: Desk, seed: int) -> bool:
    turned = isinstance(item, Pair) and _draw(seed, item)[0] % 2 == 1
    desk.show(f"Instruction:\n{gutter(item.query)}")
    if isinstance(item, Pair):
        sides = (item.second, item.first) if turned else (item.first, item.second)
        desk.show(f"Response 1:\n{gutter(sides[0])}\nResponse 2:\n{gutter(sides[1])}")
        question = "Better: 1, 2 or t (tie); s skip, c criteria, q quit"
    else:
        desk.show(f"Response:\n{gutter(item.response)}")
        question = f"{item.scale[0]:g} to {item.scale[1]:g}; s skip, c criteria, q quit"
    while True:
        said = desk.ask(question).strip().lower()
        if said == "q":
            return False
        if said == "s":
            return True
        if said == "c":
            _revise(labels, desk)
            continue
        found = _read(item, said)
        if found is not None:
            break
        desk.show(f"not understood: {printable(said)}")
    if turned:
        found = -found
    labels.add(item, found, desk.now(), "swapped" if turned else "as given")
    return True


def _read(item: Pair | Rating, said: str) -> float | None:
    if isinstance(item, Pair):
        return _PAIR_KEYS.get(said)
    try:
        number = float(said)
    except ValueError:
        return None
    return number if item.scale[0] <= number <= item.scale[1] else None


def _revise(labels: Labels, desk: Desk) -> None:
    desk.show(f"Criteria so far:\n{gutter(labels.criteria[-1] or '(none)')}")
    text = desk.ask("New criteria, in one line (empty keeps them)").strip()
    if text and text != labels.criteria[-1]:
        labels.revise(text, desk.now())
        desk.show(f"{len(labels.labels)} grades so far are marked as made under earlier criteria")


def _draw(seed: int, item: Pair | Rating) -> bytes:
    return hashlib.sha256(f"{seed}:{item.id}".encode("utf-8", "surrogatepass")).digest()
