"""Compares files of answers by a judge: win rates, at equal length too, or a knock-out among many."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl_align.data import read_text
from icl_align.errors import UserError
from icl_align.judging.remembered import RememberedJudge
from icl_align.passport.judges import ByLength, Comparing
from icl_align.scorers import PairJudge
from icl_align.scorers.tournament import knock_out
from icl_align.stats import LengthControlled, WinRate, length_controlled_win_rate, win_rate
from icl_align.types import Example, Preference, Response


@dataclass(frozen=True, slots=True)
class Duel:
    """One file of answers against another.

    Attributes:
        first: Name of the one whose wins are counted.
        second: Name of the other.
        judge: Who said so.
        preferences: One per instruction; from the first one's point of view.
        wins: Share of wins, ties as half.
        even: The same at equal length; None with too few verdicts.
        swapped: Share of the instructions asked in both orders whose verdict depends on the order; None
            where none was.
    """

    first: str
    second: str
    judge: str
    preferences: tuple[Preference, ...]
    wins: WinRate
    even: LengthControlled | None
    swapped: float | None

    def to_json(self) -> dict[str, Any]:
        """Gives the figures, shares in [0, 1]; the length-controlled ones in per cent."""
        return {
            "first": self.first,
            "second": self.second,
            "judge": self.judge,
            "win_rate": self.wins.to_json(),
            "length_controlled": self.even.to_json() if self.even else None,
            "depends_on_order": self.swapped,
        }


def read_answers(path: Path) -> dict[str, tuple[Example, Response]]:
    """Reads answers as `icl-align answer PACK --input FILE` writes them, by id or, without one, by query.

    Raises:
        UserError: naming the line that has no query or no answer, or an id that occurs twice.
    """
    found: dict[str, tuple[Example, Response]] = {}
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}:{number}: broken JSON: {error}") from error
        if not isinstance(row, dict) or not all(
            isinstance(row.get(key), str) for key in ("query", "answer")
        ):
            raise UserError(f'{path}:{number}: a line needs "query" and "answer" as texts')
        key = str(row.get("id") or row["query"])
        if key in found:
            raise UserError(f"{path}:{number}: {key[:60]!r} occurs twice")
        tokens = row.get("tokens")
        if not isinstance(tokens, int | None) or (tokens or 0) < 0:
            raise UserError(f'{path}:{number}: "tokens" must be a whole number, got {tokens!r}')
        response = Response(row["answer"], tokens or 0, "stop")
        found[key] = Example(row["query"], id=key), response
    if not found:
        raise UserError(f"{path} holds no answers")
    return found


def aligned(
    files: Mapping[str, Mapping[str, tuple[Example, Response]]],
) -> tuple[list[Example], dict[str, list[Response]], int]:
    """Gives the instructions that all files answer, the answers by file, and how many others there are.

    Raises:
        UserError: there is none, or one id stands for two queries.
    """
    names = list(files)
    keys = [key for key in files[names[0]] if all(key in files[name] for name in names)]
    if not keys:
        raise UserError(
            f"{', '.join(names)} answer no instruction in common; are the ids the same?"
        )
    for key in keys:
        queries = {files[name][key][0].query for name in names}
        if len(queries) > 1:
            raise UserError(f"{key[:60]!r} stands for different queries in {', '.join(names)}")
    examples = [files[names[0]][key][0] for key in keys]
    answers = {name: [files[name][key][1] for key in keys] for name in names}
    left = len({key for name in names for key in files[name]}) - len(keys)
    return examples, answers, left


def duel(
    examples: Sequence[Example], answers: Mapping[str, Sequence[Response]], judge: PairJudge
) -> Duel:
    """Compares two files' answers.

    Raises:
        UserError: there are not two, or the judge has no verdict on any pair.
    """
    if len(answers) != 2:  # noqa: PLR2004 (a duel)
        raise UserError(f"a duel is between two, got {len(answers)}")
    (first, mine), (second, theirs) = answers.items()
    said = judge.prefer(examples, mine, theirs)
    values = [preference.value for preference in said]
    if all(value is None for value in values):
        raise UserError(f"the judge gave no verdict on any pair; the first said: {said[0].note}")
    lengths = [[len(response.text) for response in column] for column in (mine, theirs)]
    decided = sum(value is not None for value in values)
    even = None
    if decided > 2:  # noqa: PLR2004 (a line goes through two points)
        even = length_controlled_win_rate(values, lengths[0], lengths[1])
    inner = judge.judge if isinstance(judge, RememberedJudge) else judge
    blind = isinstance(inner, (ByLength, Comparing))  # they see no order
    asked = [p.orders for p in said if len(p.orders) == 2 and not blind]  # noqa: PLR2004
    swapped = sum(a != b for a, b in asked) / len(asked) if asked else None
    return Duel(first, second, judge.name, tuple(said), win_rate(values), even, swapped)


def compared(paths: Sequence[Path], judge: PairJudge, *, seed: int = 0) -> dict[str, Any]:
    """Compares files of answers: two in a duel, more in a knock-out per instruction.

    Args:
        paths: JSONL files, named by their stems.
        judge: Compares.
        seed: Of the brackets.

    Raises:
        UserError: a file that cannot be read, two of one name, or no verdict at all.
    """
    names = [path.stem for path in paths]
    if len(paths) < 2 or len(set(names)) < len(names):  # noqa: PLR2004
        raise UserError(f"give two files or more, with names of their own, got {names}")
    files = dict(zip(names, map(read_answers, paths), strict=True))
    examples, answers, left = aligned(files)
    about = {"instructions": len(examples), "left_out": left}
    if len(paths) == 2:  # noqa: PLR2004
        return {**about, **duel(examples, answers, judge).to_json()}
    return {**about, **knock_out(examples, answers, judge, seed=seed).to_json()}
