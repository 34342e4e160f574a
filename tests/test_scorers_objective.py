"""The objective: a weighted mean that keeps every term and never invents a number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from icl_align.errors import UserError
from icl_align.scorers.objective import Objective, Term
from icl_align.types import Example, Response, Score

EXAMPLES = [Example("a"), Example("b")]
RESPONSES = [Response("x", 1, "stop"), Response("y", 1, "stop")]


@dataclass
class Fixed:
    """A scorer that always says the same."""

    scores: list[Score]
    name: str = "fixed"
    fingerprint: str = "fixed:1"

    def score(self, examples: Sequence[Example], responses: Sequence[Response]) -> list[Score]:
        return self.scores


def test_value_and_aspects() -> None:
    """The value is the weighted mean; terms and their aspects are reported under their names."""
    objective = Objective(
        (
            Term("facts", 3, Fixed([Score(1.0, {"correct": 1.0}), Score(0.5)])),
            Term("style", 1, Fixed([Score(0.0, note="curt"), Score(0.5)])),
        )
    )
    first, second = objective.score(EXAMPLES, RESPONSES)
    assert first.value == pytest.approx(0.75)
    assert first.aspects == {"facts": 1.0, "style": 0.0, "facts.correct": 1.0}
    assert first.note == "style: curt"
    assert second.value == pytest.approx(0.5)


def test_a_missing_term_is_a_missing_verdict() -> None:
    """Where one term has no verdict the whole has none, with the reason; the others are kept."""
    objective = Objective(
        (
            Term("facts", 1, Fixed([Score(None, note="no checks"), Score(1.0)])),
            Term("style", 1, Fixed([Score(1.0), Score(None)])),
        )
    )
    first, second = objective.score(EXAMPLES, RESPONSES)
    assert first.value is None
    assert first.note == "facts: no checks"
    assert first.aspects == {"style": 1.0}
    assert second.value is None
    assert second.note == "style: no verdict, no reason given"


def test_objectives_nest() -> None:
    """An objective is a scorer, so it can be a term."""
    inner = Objective((Term("facts", 1, Fixed([Score(0.5), Score(1.0)])),))
    outer = Objective((Term("all", 2, inner),))
    assert outer.score(EXAMPLES, RESPONSES)[0].aspects == {"all": 0.5, "all.facts": 0.5}


def test_fingerprint_tells_weights_and_terms_apart() -> None:
    """Anything that changes a value changes the fingerprint; 1 and 1.0 are the same weight."""
    one = Objective((Term("a", 1, Fixed([])),)).fingerprint
    assert one == Objective((Term("a", 1.0, Fixed([])),)).fingerprint
    assert one != Objective((Term("a", 2, Fixed([])),)).fingerprint
    assert one != Objective((Term("b", 1, Fixed([])),)).fingerprint
    assert one != Objective((Term("a", 1, Fixed([], fingerprint="fixed:2")),)).fingerprint


def test_equal_weights_cannot_exceed_one() -> None:
    """Rounding cannot push a perfect answer above 1."""
    terms = tuple(Term(f"t{i}", 0.1, Fixed([Score(1.0), Score(1.0)])) for i in range(7))
    assert Objective(terms).score(EXAMPLES, RESPONSES)[0].value == 1.0


def test_mistakes() -> None:
    """Terms that cannot be used are refused when they are made."""
    with pytest.raises(UserError, match="at least one term, got none"):
        Objective(())
    with pytest.raises(UserError, match=r"distinct names, got \['a', 'a'\]"):
        Objective((Term("a", 1, Fixed([])), Term("a", 1, Fixed([]))))
    with pytest.raises(UserError, match="weight of term 'a' must be above 0, got -1"):
        Term("a", -1, Fixed([]))
    with pytest.raises(UserError, match="weight of term 'a' must be above 0, got nan"):
        Term("a", float("nan"), Fixed([]))
    with pytest.raises(UserError, match="without dots, got 'a.b'"):
        Term("a.b", 1, Fixed([]))


def test_a_term_that_miscounts_is_a_bug() -> None:
    """A scorer that loses rows is reported by name."""
    with pytest.raises(ValueError, match="term 'a' gave 1 scores to 2 responses"):
        Objective((Term("a", 1, Fixed([Score(1.0)])),)).score(EXAMPLES, RESPONSES)
