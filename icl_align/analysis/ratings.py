"""Records of judges who rate outputs by aspects, as just-eval keeps them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl_align.analysis.tables import id_of, read_records, text_of
from icl_align.errors import UserError
from icl_align.scorers.replies import NOT_APPLICABLE

LABELS = {
    "task_type": "task_types",
    "topic": "topics",
    "tag": "tags",
    "difficulty": "difficulty",
    "category": "category",
    "source": "source_dataset",
}
"""Kinds of labels, and the field of a record that holds them: a text, or a list of texts."""
LOW, HIGH = 1.0, 5.0


@dataclass(frozen=True, slots=True)
class Rating:
    """What one judge said of one output.

    Attributes:
        id: The instruction's.
        model: Which model wrote the output.
        judge: Which judge rated it; empty where none did.
        scores: By aspect, 1 to 5; None is no score.
        not_applicable: The aspects that the judge held to be not applicable, which is a decision; other
            aspects without a score could not be read, and never count.
        labels: The item's labels by kind, see `LABELS`.
        words: White-space words of the output; None where it is unknown.
    """

    id: str
    model: str
    judge: str
    scores: Mapping[str, float | None]
    not_applicable: frozenset[str]
    labels: Mapping[str, tuple[str, ...]]
    words: int | None


def read_ratings(path: Path | str) -> list[Rating]:
    """Reads JSON lines of `{id, model, judge, scores: {aspect: 1-5 | null}}`, gzipped or not.

    Optional: the fields of `LABELS`, `n_words` or `output`, `problems` ({aspect: why there is no score}),
    and `extra_ratings`, a list of further `{judge, scores, problems}` of the same output. A score of
    null or "N/A" is the judge's "not applicable", unless `problems` gives another reason.

    Raises:
        UserError: as file:line, for what cannot be used, and for one judge's second rating of an output.
    """
    ratings: list[Rating] = []
    seen: dict[tuple[str, str, str], str] = {}
    for where, record in read_records(path):
        for rating in _ratings(record, where):
            key = (rating.id, rating.model, rating.judge)
            if key in seen:
                raise UserError(
                    f"{where}: a second rating of item {rating.id} of {rating.model!r} by "
                    f"{rating.judge!r} (the first: {seen[key]}); keep one, or name the judges apart"
                )
            seen[key] = where
            ratings.append(rating)
    return ratings


def _ratings(record: Mapping[str, Any], where: str) -> Iterator[Rating]:
    name, model = id_of(record, "id", where), text_of(record, "model", where)
    labels = {kind: _labels(record, key, where) for kind, key in LABELS.items()}
    words = _words(record, where)
    more = record.get("extra_ratings")
    more = [] if more is None else more
    if not isinstance(more, list) or not all(isinstance(part, dict) for part in more):
        raise UserError(f"{where}: 'extra_ratings' must be a list of objects")
    for part in (record, *more):
        scores, refused = _scores(part, where)
        judge = text_of(part, "judge", where) if scores or part is not record else ""
        yield Rating(name, model, judge, scores, refused, labels, words)


def _words(record: Mapping[str, Any], where: str) -> int | None:
    words = record.get("n_words")
    if words is None and isinstance(record.get("output"), str):
        return len(record["output"].split())
    if words is None:
        return None
    if isinstance(words, bool) or not isinstance(words, int) or words < 0:
        raise UserError(f"{where}: 'n_words' must be a whole number >= 0, got {words!r}")
    return words


def _labels(record: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    value = record.get(key)
    listed = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(label, str) for label in listed):
        raise UserError(f"{where}: {key!r} must hold texts, got {value!r}")
    return tuple(dict.fromkeys(listed))


def _scores(part: Mapping[str, Any], where: str) -> tuple[dict[str, float | None], frozenset[str]]:
    given, problems = part.get("scores"), part.get("problems")
    given, problems = {} if given is None else given, {} if problems is None else problems
    if not isinstance(given, dict) or not isinstance(problems, dict):
        raise UserError(f"{where}: 'scores' and 'problems' must be objects by aspect")
    scores = {aspect: _score(value, aspect, where) for aspect, value in given.items()}
    missing = (aspect for aspect, value in scores.items() if value is None)
    said = (a for a in missing if problems.get(a, NOT_APPLICABLE) == NOT_APPLICABLE)
    return scores, frozenset(said)


def _score(value: Any, aspect: str, where: str) -> float | None:
    if value is None or value == "N/A":
        return None
    fits = isinstance(value, int | float) and not isinstance(value, bool)
    if not fits or not LOW <= value <= HIGH:
        raise UserError(
            f"{where}: the score of {aspect!r} must be a number from 1 to 5, or null or 'N/A' where "
            f"there is none, got {value!r}"
        )
    return float(value)
