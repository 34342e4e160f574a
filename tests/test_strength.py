"""Bradley-Terry strengths and win rates: recovery, ties, the unbeaten, and intervals that hold."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_align.stats.strength import Match, bradley_terry
from icl_align.stats.wins import win_rate


def _matches(
    strengths: dict[str, float], groups: int, seed: int = 0, *, sure: bool = False
) -> list[Match]:
    """Every pair once per group; `sure` gives the probability itself as the value."""
    rng = np.random.default_rng(seed)
    names = list(strengths)
    found = []
    for group in range(groups):
        for number, one in enumerate(names):
            for other in names[number + 1 :]:
                chance = 1 / (1 + math.exp(strengths[other] - strengths[one]))
                value = chance if sure else float(rng.random() < chance)
                found.append(Match(one, other, value, f"q{group}"))
    return found


TRUE = {"a": 1.2, "b": 0.3, "c": 0.0, "d": -1.5}


def test_recovers_known_strengths() -> None:
    """From probabilities to three digits, from 400 rounds of coins within their intervals."""
    exact = bradley_terry(_matches(TRUE, 50, sure=True), prior=0.01, resamples=20)
    assert [strength.system for strength in exact.ranked] == ["a", "b", "c", "d"]
    for name, value in TRUE.items():
        assert exact.of(name).value == pytest.approx(value, abs=1e-3)
    found = bradley_terry(_matches(TRUE, 400))
    for name, value in TRUE.items():
        strength = found.of(name)
        assert strength.low < strength.value < strength.high
        assert strength.low - 0.1 < value < strength.high + 0.1
    assert exact.beats("a", "d") == pytest.approx(1 / (1 + math.exp(-2.7)), abs=1e-3)
    assert found.warnings == () and found.matches == 2400 and found.groups == 400


def test_is_the_closed_form_for_two() -> None:
    """Two systems, little prior: their strengths differ by the logarithm of wins to losses."""
    matches = [Match("a", "b", float(n < 30), f"q{n}") for n in range(40)]
    found = bradley_terry(matches, prior=0.01, resamples=10)
    assert found.of("a").value - found.of("b").value == pytest.approx(math.log(3), abs=1e-3)


def test_satisfies_the_likelihood_equations() -> None:
    """Expected wins equal won ones: for every system, the prior's half included."""
    matches, prior = _matches(TRUE, 12, seed=3), 0.7
    found = bradley_terry(matches, prior=prior, resamples=5)
    shift = _anchor(found.of("a").value, matches, found, prior)
    for name in TRUE:
        own = sum(
            (m.value or 0.0) if m.first == name else 1 - (m.value or 0.0)
            for m in matches
            if name in (m.first, m.second)
        )
        expected = sum(
            found.beats(name, m.second if m.first == name else m.first)
            for m in matches
            if name in (m.first, m.second)
        )
        alone = 1 / (1 + math.exp(-(found.of(name).value + shift)))
        assert own + prior / 2 == pytest.approx(expected + prior * alone, abs=1e-6)


def _anchor(value: float, matches: list[Match], found: object, prior: float) -> float:
    """Where the prior's zero is: all systems' equations summed leave the prior's terms alone."""
    from scipy.optimize import brentq

    values = [s.value for s in found.ranked]  # type: ignore[attr-defined]
    return float(brentq(lambda x: sum(1 / (1 + math.exp(-(v + x))) - 0.5 for v in values), -50, 50))


def test_unbeaten_stays_finite_and_is_told() -> None:
    """Ten wins of ten give a large but finite strength, more wins a larger one, and a warning."""
    few = bradley_terry([Match("a", "b", 1.0, f"q{n}") for n in range(10)], resamples=50)
    many = bradley_terry([Match("a", "b", 1.0, f"q{n}") for n in range(100)], resamples=50)
    assert 1 < few.of("a").value < many.of("a").value < 10
    assert "a never lost" in few.warnings[0] and "b never won" in few.warnings[1]


def test_systems_that_never_met_are_told() -> None:
    """Two islands: each ranked within, a warning about the rest; the unplayed has no win rate."""
    matches = [Match("a", "b", 0.7, f"q{n}") for n in range(9)]
    matches += [Match("c", "d", 0.6, f"q{n}") for n in range(9)]
    found = bradley_terry(matches, systems=["a", "b", "c", "d", "e"], resamples=20)
    assert "a and c never met" in found.warnings[0]
    assert found.of("e").win_rate is None and found.of("e").matches == 0
    assert found.of("a").value > 0 > found.of("b").value


def test_ties_and_missing() -> None:
    """Only ties: equal, to the last digit; missing verdicts change nothing and are counted."""
    ties = [Match("a", "b", 0.5, f"q{n}") for n in range(5)]
    found = bradley_terry(ties, resamples=20)
    assert found.of("a").value == pytest.approx(0) == pytest.approx(found.of("b").value)
    assert found.of("a").win_rate == 0.5
    played = _matches(TRUE, 20)
    silent = [Match("d", "a", None, f"q{n}") for n in range(20)]
    with_missing = bradley_terry([*played, *silent], resamples=20)
    without = bradley_terry(played, resamples=20)
    assert with_missing.ranked == without.ranked
    assert (with_missing.missing, without.missing) == (20, 0)


@given(st.permutations(range(18)), st.integers(0, 17))
def test_does_not_depend_on_order_or_sides(order: list[int], turned: int) -> None:
    """Shuffled matches, and a match told from the other side, give the same strengths."""
    matches = _matches(TRUE, 3, seed=5)
    other = [matches[n] for n in order]
    m = other[turned]
    other[turned] = Match(m.second, m.first, 1 - (m.value or 0.0), m.group)
    one, two = (bradley_terry(found, resamples=2) for found in (matches, other))
    for name in TRUE:
        assert one.of(name).value == pytest.approx(two.of(name).value, abs=1e-9)


def test_intervals_take_whole_instructions() -> None:
    """The same matches told five times each are not five times the evidence."""
    matches = _matches(TRUE, 40, seed=1)
    one = bradley_terry(matches).of("a")
    five = bradley_terry(matches * 5).of("a")
    assert (five.high - five.low) == pytest.approx(one.high - one.low, rel=0.15)
    apart = bradley_terry(
        [Match(m.first, m.second, m.value, f"{m.group}/{k}") for k in range(5) for m in matches]
    ).of("a")
    assert (apart.high - apart.low) < 0.6 * (one.high - one.low)


def test_intervals_cover() -> None:
    """Of 60 worlds, the 90 % interval of a strength holds the truth in about nine of ten."""
    hits = sum(
        low <= TRUE["a"] <= high
        for seed in range(60)
        for strength in [bradley_terry(_matches(TRUE, 60, seed), level=0.9, resamples=200).of("a")]
        for low, high in [(strength.low, strength.high)]
    )
    assert 47 <= hits <= 60


def test_extreme_data_settle() -> None:
    """Thirty systems in a perfect order, twenty matches a pair: finite, in order."""
    names = [f"s{n:02}" for n in range(30)]
    matches = [
        Match(one, other, 1.0, f"q{g}")
        for g in range(20)
        for n, one in enumerate(names)
        for other in names[n + 1 :]
    ]
    found = bradley_terry(matches, prior=0.01, resamples=10)
    assert [strength.system for strength in found.ranked] == names
    assert all(math.isfinite(strength.value) for strength in found.ranked)


def test_one_instruction_has_no_interval() -> None:
    """One group says nothing about spread; JSON stays valid."""
    found = bradley_terry(_matches(TRUE, 1))
    assert found.of("a").low == -math.inf and found.of("a").high == math.inf
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["ranked"][0]["low"] is None


def test_seed_decides_and_zero_is_one() -> None:
    """Same seed, same intervals; seed 0 is a seed."""
    matches = _matches(TRUE, 20)
    assert bradley_terry(matches, seed=0) == bradley_terry(matches, seed=0)
    assert bradley_terry(matches, seed=0) != bradley_terry(matches, seed=1)


def test_mistakes() -> None:
    """Each told with its place."""
    with pytest.raises(ValueError, match="'a' can not be matched with itself"):
        Match("a", "a", 1.0, "q")
    with pytest.raises(ValueError, match=r"must be in \[0, 1\] or None, got nan"):
        Match("a", "b", math.nan, "q")
    with pytest.raises(ValueError, match="at least one verdict, got none of 1"):
        bradley_terry([Match("a", "b", None, "q")])
    with pytest.raises(ValueError, match="two systems or more"):
        bradley_terry([])
    with pytest.raises(ValueError, match="matches of 'b'"):
        bradley_terry([Match("a", "b", 1.0, "q")], systems=["a", "c"])
    with pytest.raises(ValueError, match="prior .* must be >= 0.01, got 0"):
        bradley_terry([Match("a", "b", 1.0, "q")], prior=0)
    with pytest.raises(KeyError):
        bradley_terry([Match("a", "b", 1.0, "q")], resamples=1).of("z")


def test_win_rate_counts_ties_as_half_and_leaves_out_the_missing() -> None:
    """Two wins, a tie and a loss are 0.625 of four; a missing verdict is counted apart."""
    found = win_rate([1.0, 1.0, 0.5, 0.0, None])
    assert (found.mean, found.n, found.ties, found.missing) == (0.625, 4, 1, 1)
    assert 0 <= found.low < 0.625 < found.high <= 1
    assert found.to_json()["missing"] == 1


def test_win_rate_resamples_groups() -> None:
    """Four answers of one instruction are one piece of evidence; one group is none."""
    values = [float(n % 3 == 0) for n in range(30)]
    one = win_rate(values)
    grouped = win_rate([v for v in values for _ in range(4)], [str(n // 4) for n in range(120)])
    assert (grouped.high - grouped.low) == pytest.approx(one.high - one.low, rel=0.1)
    single = win_rate(values, ["q"] * 30)
    assert (single.low, single.high) == (0.0, 1.0)
    normal = 1.96 * math.sqrt(one.mean * (1 - one.mean) / 30)
    assert one.high - one.low == pytest.approx(2 * normal, rel=0.15)


def test_win_rate_mistakes() -> None:
    """No verdicts, values that are no shares, a level that is none."""
    with pytest.raises(ValueError, match="at least one verdict, got none of 2"):
        win_rate([None, None])
    with pytest.raises(ValueError, match=r"values in \[0, 1\]"):
        win_rate([2.0])
    with pytest.raises(ValueError, match="level must be in"):
        win_rate([1.0], level=1.0)
