"""MT-Bench's two-turn scoring: by turn, overall and by category (Zheng et al., 2306.05685)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl_align.analysis.means import mean_over_items
from icl_align.analysis.tables import Cell, Table, check_groups, id_of, read_records, text_of
from icl_align.errors import UserError
from icl_align.scorers.replies import read_rating
from icl_align.stats import Interval

CATEGORIES: tuple[str, ...] = (
    *("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities"),
)
"""In the order of the questions' ids: 81 to 90 are writing, 91 to 100 roleplay, and so on to 160."""
GROUPS = ("model", "judge", "turn", "category")
LOW, HIGH = 1.0, 10.0
_FIRST, _EACH = 81, 10


@dataclass(frozen=True, slots=True)
class Judgment:
    """One rating of one turn.

    Attributes:
        model: Whose answer was judged.
        judge: Who judged it.
        question: The question's id.
        turn: 1 or 2.
        category: The question's; empty where it is unknown.
        score: 1 to 10; None where there is no rating.
    """

    model: str
    judge: str
    question: str
    turn: int
    category: str
    score: float | None


def read_judgments(path: Path | str, questions: Path | str | None = None) -> list[Judgment]:
    """Reads FastChat's single-answer judgments, JSON lines, gzipped or not.

    Each is `{question_id, model, judge, turn, score}`, or has the judge's reply as `judgment` where
    there is no score; that is read by `icl_align.scorers.replies.read_rating`. A score of -1 or null is
    unscored. The category stands in the record, in the questions' file, or follows from the id.

    Args:
        path: The judgments.
        questions: JSON lines of `{question_id, category}`.

    Raises:
        UserError: as file:line, for what cannot be used, and for a second judgment of one turn.
    """
    known = _categories(questions)
    judgments: list[Judgment] = []
    seen: dict[tuple[str, str, str, int], str] = {}
    for where, record in read_records(path):
        found = _judgment(record, where, known)
        key = (found.model, found.judge, found.question, found.turn)
        if key in seen:
            raise UserError(
                f"{where}: a second judgment of turn {found.turn} of question {found.question} of "
                f"{found.model!r} by {found.judge!r} (the first: {seen[key]}); keep one"
            )
        seen[key] = where
        judgments.append(found)
    return judgments


def mt_bench_table(
    judgments: Sequence[Judgment],
    by: Sequence[str] = ("model",),
    *,
    resamples: int = 2000,
    seed: int | None = 0,
) -> Table:
    """Means with 95 % intervals, one row per group; the judge is always one of the groups.

    By model and judge, the columns are both turns, `overall` and the categories. `overall` is the mean
    over all scored judgments, as published: where one is missing it is not the mean of the turns. By
    turn or category, a row is one of them. Intervals resample questions, since the turns of one belong
    together. What is unscored is counted and in no mean.

    Args:
        judgments: As read.
        by: Names from `GROUPS`.
        resamples: Bootstrap samples (BCa) per mean.
        seed: Seed of the bootstrap; None draws a fresh one.

    Raises:
        UserError: an unknown or doubled group, or no judgments.
    """
    groups = check_groups(by, GROUPS, "an MT-Bench")
    if not judgments:
        raise UserError("there are no judgments to be tabulated")
    parts: dict[tuple[str, ...], list[Judgment]] = {}
    for one in judgments:
        parts.setdefault(tuple(_label(one, name) for name in groups), []).append(one)
    named = {one.category for one in judgments if one.category}
    wide = not {"turn", "category"} & set(groups)
    categories = sorted(named, key=_place) if wide else []
    rows: list[tuple[Cell, ...]] = []
    for key in sorted(parts):
        part = parts[key]
        turns = [[one for one in part if one.turn == turn] for turn in (1, 2)] if wide else []
        split = [[one for one in part if one.category == name] for name in categories]
        means = [_mean(those, resamples, seed) for those in (*turns, part, *split)]
        rows.append((*key, len(part), sum(one.score is None for one in part), *means))
    heads = ("turn 1", "turn 2", "overall", *categories) if wide else ("mean",)
    note = "Unscored judgments are left out. Intervals: 95 %, BCa bootstrap over questions."
    return Table((*groups, "judgments", "unscored", *heads), tuple(rows), (note,))


def _label(one: Judgment, name: str) -> str:
    if name == "category":
        return one.category or "(none)"
    return {"model": one.model, "judge": one.judge}.get(name, str(one.turn))


def _place(category: str) -> tuple[int, str]:
    known = category in CATEGORIES
    return (CATEGORIES.index(category) if known else len(CATEGORIES), category)


def _mean(judgments: Sequence[Judgment], resamples: int, seed: int | None) -> Interval | None:
    scored = ((one.question, one.score) for one in judgments if one.score is not None)
    return mean_over_items(scored, resamples=resamples, seed=seed)


def _categories(questions: Path | str | None) -> dict[str, str]:
    if questions is None:
        return {
            str(_FIRST + number): CATEGORIES[number // _EACH]
            for number in range(_EACH * len(CATEGORIES))
        }
    return {
        id_of(record, "question_id", where): text_of(record, "category", where)
        for where, record in read_records(questions)
    }


def _judgment(record: Mapping[str, Any], where: str, known: Mapping[str, str]) -> Judgment:
    question, turn, judge = (
        id_of(record, "question_id", where),
        record.get("turn"),
        record.get("judge"),
    )
    if isinstance(turn, bool) or not isinstance(turn, int) or turn not in (1, 2):
        raise UserError(f"{where}: 'turn' must be 1 or 2, got {turn!r}")
    if isinstance(judge, list) and judge:
        judge = judge[0]  # FastChat gives the judge and the name of its template
    named = text_of({**record, "judge": judge}, "judge", where)
    own = record.get("category") is not None
    category = text_of(record, "category", where) if own else known.get(question, "")
    model = text_of(record, "model", where)
    return Judgment(model, named, question, turn, category, _score(record, where))


def _score(record: Mapping[str, Any], where: str) -> float | None:
    if "score" not in record:
        return read_rating(text_of(record, "judgment", where), LOW, HIGH).value
    score = record["score"]
    if score is None:
        return None
    fits = isinstance(score, int | float) and not isinstance(score, bool)
    if fits and score == -1:
        return None
    if not fits or not LOW <= score <= HIGH:
        raise UserError(
            f"{where}: a score must be from 1 to 10, or -1 or null where there is none, got {score!r}"
        )
    return float(score)
