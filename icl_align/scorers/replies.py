"""Reads judges' replies: tolerant of form, never inventing a verdict.

What cannot be read for certain is None with a reason, and the reply is kept. See `docs/judges.md`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from icl_align.scorers._reply_aspects import CHOICE_KEYS, SCORE_KEYS, Said, said_of
from icl_align.scorers._reply_json import MOST_CHARACTERS, scan_list, spoken
from icl_align.scorers._reply_plain import (
    bracketed,
    json_choice,
    labelled,
    numbered,
    single_bracketed,
    yes,
)
from icl_align.scorers._reply_reader import Value
from icl_align.scorers._reply_values import (
    NOT_APPLICABLE,
    choice,
    number,
    placeholder,
    plainly,
    spelled,
    yes_or_no,
)

__all__ = [
    "MT_BENCH_CHOICES",
    "NOT_APPLICABLE",
    "PAIR_CHOICES",
    "Choices",
    "Found",
    "Reading",
    "read_answers",
    "read_choice",
    "read_choices",
    "read_rating",
    "read_scores",
]

PAIR_CHOICES: tuple[str, ...] = ("A", "B", "tie")
MT_BENCH_CHOICES: Mapping[str, str] = {"A": "A", "B": "B", "C": "tie"}
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reading:
    """The scores of a reply.

    Attributes:
        scores: Every aspect asked for, on the judge's scale; None is no verdict.
        reasons: What the judge wrote about an aspect, where it did.
        problems: Why an aspect has no score, for exactly those that have none.
        text: The reply as it came.
    """

    scores: Mapping[str, float | None]
    reasons: Mapping[str, str]
    problems: Mapping[str, str]
    text: str


@dataclass(frozen=True, slots=True)
class Choices:
    """The verdicts of a reply that compares two responses by several aspects; as `Reading`."""

    choices: Mapping[str, str | None]
    reasons: Mapping[str, str]
    problems: Mapping[str, str]
    text: str


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """One verdict of a reply.

    Attributes:
        value: The verdict, or None.
        problem: Why there is none; empty where there is one.
        text: The reply as it came.
    """

    value: T | None
    problem: str
    text: str


def read_scores(
    text: str, aspects: Sequence[str], *, low: float, high: float, examples: Sequence[str] = ()
) -> Reading:
    """Reads a JSON object `{aspect: {"reason": ..., "score": ...}}` or `{aspect: score}`.

    It may stand anywhere in the reply; the last complete one counts, and one that only repeats the
    template or an example does not. Scores may be numbers or texts ("4", "4/5" where `high` is 5,
    "Score: 4"). Where one aspect is asked for, `{"reason": ..., "score": ...}` will do.

    Args:
        text: The reply.
        aspects: Distinct names; case, blanks, `_` and `-` make no difference in the reply.
        low: The scale's lower end.
        high: Its upper end.
        examples: Objects, as text, that the judge was shown as examples of the form.

    Raises:
        ValueError: no aspects, two alike, or ends that make no scale.
    """
    _check_scale(low, high)
    stand_in = partial(placeholder, low=low, high=high)
    said, why = said_of(spoken(text), aspects, SCORE_KEYS, stand_in, examples)
    scores: dict[str, float | None] = {}
    problems: dict[str, str] = {}
    for aspect in aspects:
        found = [number(value, low, high) for value in _values(said, aspect)]
        scores[aspect], problems[aspect] = _one(found, _why(said, aspect, why))
    reasons = {aspect: said[aspect].reason for aspect in aspects if _reasoned(said, aspect)}
    return Reading(scores, reasons, {a: why for a, why in problems.items() if why}, text)


def read_choices(
    text: str, aspects: Sequence[str], choices: Mapping[str, str] | Sequence[str] = PAIR_CHOICES
) -> Choices:
    """Reads a JSON object `{aspect: {"reason": ..., "preference": ...}}`, by the rules of `read_scores`.

    Args:
        text: The reply.
        aspects: Distinct names.
        choices: What may be chosen, or a mapping from spellings to what they mean.

    Raises:
        ValueError: no aspects, two alike, or no choices.
    """
    known = _known(choices)
    said, why = said_of(spoken(text), aspects, CHOICE_KEYS, placeholder)
    chosen: dict[str, str | None] = {}
    problems: dict[str, str] = {}
    for aspect in aspects:
        found = [choice(value, known) for value in _values(said, aspect)]
        chosen[aspect], problems[aspect] = _one(found, _why(said, aspect, why))
    reasons = {aspect: said[aspect].reason for aspect in aspects if _reasoned(said, aspect)}
    return Choices(chosen, reasons, {a: why for a, why in problems.items() if why}, text)


def read_choice(text: str, choices: Mapping[str, str] | Sequence[str] = PAIR_CHOICES) -> Found[str]:
    """Reads a verdict among choices: "A", "[[A]]", "Verdict: tie", or JSON `{"choice": "A"}`.

    Of each form the last counts; where two forms contradict each other there is no verdict. A tie may
    be spelt "same", "equal", "draw" or "A=B".

    Args:
        text: The reply.
        choices: What may be chosen, or a mapping from spellings to what they mean.

    Raises:
        ValueError: no choices, or one spelling with two meanings.
    """
    known = _known(choices)
    if len(text) > MOST_CHARACTERS:
        return Found(None, _too_long(text), text)
    reply = spoken(text)
    whole = plainly(plainly(reply).rstrip("."))
    if whole in known:
        return Found(known[whole], "", text)
    stated: list[Value] = [json_choice(reply), bracketed(reply)]
    stated = [value for value in stated if value] or [labelled(reply)]
    found = [choice(value, known) for value in stated if value]
    value, problem = _one(found, "the reply holds no verdict")
    return Found(value, problem, text)


def read_rating(text: str, low: float, high: float) -> Found[float]:
    """Reads a rating `[[n]]`, or `[n]` where there is none with two brackets; the last counts.

    FastChat's form for MT-Bench; its template's own example is passed over.

    Raises:
        ValueError: ends that make no scale.
    """
    _check_scale(low, high)
    if len(text) > MOST_CHARACTERS:
        return Found(None, _too_long(text), text)
    reply = spoken(text)
    written = bracketed(reply) or single_bracketed(reply)
    if written is None:
        return Found(None, "the reply holds no rating in brackets", text)
    value, problem = number(written, low, high)
    return Found(value, problem, text)


def read_answers(text: str, n: int) -> tuple[bool | None, ...]:
    """Reads the answers to `n` yes/no questions, each None where it is unclear or missing.

    They may be a JSON list of exactly `n`, an object by number, or numbered lines ("2. No, because").
    Where a number occurs twice the last counts.

    Raises:
        ValueError: n below 1.
    """
    if n < 1:
        raise ValueError(f"a checklist has at least one question, got {n}")
    if len(text) > MOST_CHARACTERS:
        return (None,) * n
    text = spoken(text)
    listed = scan_list(text)
    if listed is not None and len(listed) == n:
        return tuple(yes(item) for item in listed)
    answers = numbered(text)
    if n == 1 and not answers:
        answers = {1: yes_or_no(text)}
    return tuple(answers.get(index) for index in range(1, n + 1))


def _known(choices: Mapping[str, str] | Sequence[str]) -> dict[str, str]:
    return spelled(choices if isinstance(choices, Mapping) else tuple(choices))


def _values(said: Mapping[str, Said], aspect: str) -> list[Value]:
    return said[aspect].values if aspect in said else []


def _why(said: Mapping[str, Said], aspect: str, why: str) -> str:
    if aspect in said and said[aspect].problem:
        return said[aspect].problem
    return why or "the reply does not say it"


def _reasoned(said: Mapping[str, Said], aspect: str) -> bool:
    return aspect in said and bool(said[aspect].reason)


def _one(found: Sequence[tuple[T | None, str]], why: str) -> tuple[T | None, str]:
    """The one verdict that all agree on; else none and a reason, `why` where nothing was found."""
    if not found:
        return None, why
    if any(other != found[0] for other in found[1:]):
        return None, "the reply gives more than one verdict"
    return found[0]


def _too_long(text: str) -> str:
    return f"the reply has {len(text)} characters; more than {MOST_CHARACTERS} are not read"


def _check_scale(low: float, high: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"a scale needs finite ends with low < high, got {low} and {high}")
