"""Pass-at-all: what counts as a pass, what missing verdicts do, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pytest

from icl_align.analysis.robustness import pass_at_all
from icl_align.errors import UserError
from icl_align.types import Score


def _scores(rows: Mapping[str, Sequence[float | None]]) -> dict[str, list[Score]]:
    return {
        name: [Score(value, note="" if value is not None else "no reply") for value in row]
        for name, row in rows.items()
    }


def test_all_must_pass_unless_k_says_otherwise() -> None:
    """PIF-N-K: the share of instructions with at least K passes among N."""
    scores = _scores({"a": [1, 1, 1], "b": [1, 1, 0.5], "c": [1, 0, 0], "d": [0, 0, 0]})
    shares = [rate.mean for k in (1, 2, 3) if (rate := pass_at_all(scores, k=k).rate)]
    assert shares == [0.75, 0.5, 0.25]
    found = pass_at_all(scores)
    assert (found.k, found.n, found.missing, found.undecided) == (3, 3, 0, 0)
    assert found.passed == {"a": True, "b": False, "c": False, "d": False}
    assert found.single == pytest.approx(6 / 12)
    assert found.rate is not None and found.rate.low <= 0.25 <= found.rate.high
    assert pass_at_all(scores, threshold=0.5).passed["b"] is True


def test_missing_verdicts_are_counted_and_never_passes_or_failures() -> None:
    """What a missing verdict could still turn stays open and out of the rate."""
    scores = _scores({"a": [1, None], "b": [0, None], "c": [1, 1], "d": [None, None]})
    found = pass_at_all(scores)
    assert found.passed == {"a": None, "b": False, "c": True, "d": None}
    assert (found.missing, found.undecided) == (4, 2)
    assert found.rate is not None and (found.rate.mean, found.rate.n) == (0.5, 2)
    assert pass_at_all(scores, k=1).passed == {"a": True, "b": None, "c": True, "d": None}
    none = pass_at_all(_scores({"a": [None]}))
    assert none.rate is None and none.single is None
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["undecided"] == 2
    assert none.to_json()["rate"] is None


def test_an_aspect_may_be_asked_for() -> None:
    """The aspect is looked at instead of the value; one that is not there is refused."""
    scores = {"a": [Score(0.5, {"prompt_loose": 1.0}), Score(0.0, {"prompt_loose": 1.0})]}
    assert pass_at_all(scores, aspect="prompt_loose").passed == {"a": True}
    with pytest.raises(UserError, match="no aspect 'loose'; it has prompt_loose"):
        pass_at_all(scores, aspect="loose")


@pytest.mark.parametrize(
    ("rows", "k", "message"),
    [
        ({}, None, "at least one instruction, got none"),
        ({"a": []}, None, "the same number of variants"),
        ({"a": [1, 1], "b": [1]}, None, "'a' has 2, 'b' has 1"),
        ({"a": [1, 1]}, 3, "K must be from 1 to 2"),
        ({"a": [1, 1]}, 0, "K must be from 1 to 2"),
    ],
)
def test_mistakes_are_told(
    rows: dict[str, list[float | None]], k: int | None, message: str
) -> None:
    """Unequal or missing variants and an impossible K are refused."""
    with pytest.raises(UserError, match=message):
        pass_at_all(_scores(rows), k=k)
    with pytest.raises(UserError, match="threshold must be in"):
        pass_at_all(_scores({"a": [1]}), threshold=0)
