"""Tournaments: few calls, whole brackets, coins from the seed, and strengths that come out right."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from icl_align.errors import UserError
from icl_align.scorers.tournament import Tournament, against, knock_out, round_robin
from icl_align.types import Example, Preference, Response


class ByNumber:
    """Prefers the response with the larger number in it; silent about those that say so."""

    name = "by number"
    fingerprint = "by-number:1"

    def __init__(self, beta: float | None = None, seed: int = 0) -> None:
        self.beta, self.rng, self.calls = beta, np.random.default_rng(seed), 0

    def prefer(
        self, examples: Sequence[Example], first: Sequence[Response], second: Sequence[Response]
    ) -> list[Preference]:
        self.calls += len(examples)
        return [self._one(a.text, b.text) for a, b in zip(first, second, strict=True)]

    def _one(self, first: str, second: str) -> Preference:
        if "silent" in (first, second):
            return Preference(None, note="no verdict", judge=self.name)
        difference = float(first) - float(second)
        if self.beta is None:
            return Preference(0.5 + 0.5 * float(np.sign(difference)))
        chance = 1 / (1 + math.exp(-self.beta * difference))
        return Preference(float(self.rng.random() < chance))


def _field(
    strengths: Sequence[float], instructions: int, noise: float = 0.0, seed: int = 0
) -> tuple[list[Example], dict[str, list[Response]]]:
    rng = np.random.default_rng(seed)
    examples = [Example(f"Question {n}?", id=f"q{n}") for n in range(instructions)]
    responses = {
        f"s{number:02}": [
            Response(str(strength + noise * rng.standard_normal()), 1, "stop") for _ in examples
        ]
        for number, strength in enumerate(strengths)
    }
    return examples, responses


def _ranked(tournament: Tournament) -> list[str]:
    return [strength.system for strength in tournament.strengths.ranked]


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 7, 8, 9, 16, 17])
def test_knock_out_asks_for_one_less_than_systems(n: int) -> None:
    """N - 1 comparisons per instruction; everyone but the winner loses once; the best wins."""
    examples, responses = _field(range(n), 5)
    judge = ByNumber()
    found = knock_out(examples, responses, judge, resamples=5)
    assert found.calls == judge.calls == len(found.played) == 5 * (n - 1)
    assert found.titles[f"s{n - 1:02}"] == 5 == sum(found.titles.values())
    for example in examples:
        mine = [one for one in found.played if one.instruction == example.id]
        losers = [one.second if one.winner == one.first else one.first for one in mine]
        assert len(set(losers)) == len(losers) == n - 1
        assert f"s{n - 1:02}" not in losers
    assert max(one.round for one in found.played) == math.ceil(math.log2(n)) - 1
    assert found.missing == 0 and _ranked(found)[0] == f"s{n - 1:02}"


def test_rounds_are_one_call_each() -> None:
    """All instructions' matches of a round are asked together, so a batching judge can batch."""
    sizes = []

    class Counting(ByNumber):
        def prefer(
            self, examples: Sequence[Example], first: Sequence[Response], second: Sequence[Response]
        ) -> list[Preference]:
            sizes.append(len(examples))
            return super().prefer(examples, first, second)

    knock_out(*_field(range(6), 10), Counting(), resamples=2)
    assert sizes == [20, 20, 10]


def test_brackets_differ_by_instruction_and_by_seed_alone() -> None:
    """Same seed, same matches, also for a part of the instructions; another seed, others."""
    examples, responses = _field(range(8), 12, noise=3.0)
    one = knock_out(examples, responses, ByNumber(), seed=0, resamples=5)
    assert one == knock_out(examples, responses, ByNumber(), seed=0, resamples=5)
    first = {(p.first, p.second) for p in one.played if p.instruction == "q0" and p.round == 0}
    others = {(p.first, p.second) for p in one.played if p.instruction == "q1" and p.round == 0}
    assert first != others
    two = knock_out(examples, responses, ByNumber(), seed=1, resamples=5)
    assert [p.first for p in one.played] != [p.first for p in two.played]
    part = knock_out(
        examples[3:5], {s: r[3:5] for s, r in responses.items()}, ByNumber(), resamples=5
    )
    kept = [p for p in one.played if p.instruction in ("q3", "q4")]
    assert sorted(map(str, part.played)) == sorted(map(str, kept))


def test_no_verdict_sends_one_on_by_coin_and_counts_nowhere() -> None:
    """A judge that is silent about one system: its matches are missing, and in no strength."""
    examples, responses = _field([0, 1, 2, 3], 60)
    responses["s01"] = [Response("silent", 1, "stop")] * 60
    found = knock_out(examples, responses, ByNumber(), resamples=20)
    silent = [p for p in found.played if "s01" in (p.first, p.second)]
    assert found.missing == found.strengths.missing == len(silent) > 60
    assert found.calls == 180 and found.strengths.of("s01").matches == 0
    on = Counter(p.winner == "s01" for p in silent if p.round == 0)
    assert 15 <= on[True] <= 45
    assert [s for s in _ranked(found) if s != "s01"] == ["s03", "s02", "s00"]


def test_ties_are_half_wins_and_coins_go_on() -> None:
    """All alike: about as many titles for each, and strengths of zero."""
    examples, responses = _field([1, 1, 1, 1], 100)
    found = knock_out(examples, responses, ByNumber(), resamples=20)
    assert all(10 <= titles <= 40 for titles in found.titles.values())
    assert all(abs(strength.value) < 1e-9 for strength in found.strengths.ranked)


def test_failed_responses_are_not_shown_to_the_judge() -> None:
    """An engine's error is no answer: not asked, missing, counted, its reason kept."""
    examples, responses = _field([0, 1], 4)
    failed = replace(responses["s01"][2], text="", finish="error", error="timeout")
    responses["s01"][2] = failed
    judge = ByNumber()
    for play in (knock_out, round_robin):
        judge.calls = 0
        found = play(examples, responses, judge, resamples=5)
        assert (found.calls, judge.calls, found.missing) == (3, 3, 1)
        (missing,) = [p for p in found.played if p.preference.value is None]
        assert missing.preference.note == "one of the responses failed"


def test_every_pair_and_every_pair_with_a_baseline() -> None:
    """N (n - 1) / 2, and n - 1; whose response comes first is a coin."""
    examples, responses = _field(range(6), 20)
    whole = round_robin(examples, responses, ByNumber(), resamples=5)
    assert whole.calls == 20 * 15 and _ranked(whole) == [f"s{n:02}" for n in (5, 4, 3, 2, 1, 0)]
    star = against("s02", examples, responses, ByNumber(), resamples=5)
    assert star.calls == 20 * 5
    assert all("s02" in (p.first, p.second) for p in star.played)
    firsts = sum(p.first == "s02" for p in star.played)
    assert 30 <= firsts <= 70


def _agreement(found: Tournament, strengths: Sequence[float]) -> float:
    from scipy.stats import spearmanr

    values = [found.strengths.of(f"s{n:02}").value for n in range(len(strengths))]
    return float(spearmanr(values, strengths)[0])


def test_knock_out_spends_calls_better_than_round_robin() -> None:
    """Twelve systems, 660 calls: the known order is found better than by all pairs of few instructions."""
    totals: Mapping[str, list[float]] = {"knock-out": [], "pairs": []}
    for seed in range(8):
        strengths = list(np.random.default_rng(seed).normal(0, 0.5, 12))
        examples, responses = _field(strengths, 60, noise=1.0, seed=seed)
        found = knock_out(examples, responses, ByNumber(2.0, seed), seed=seed, resamples=1)
        few = {s: r[:10] for s, r in responses.items()}
        pairs = round_robin(examples[:10], few, ByNumber(2.0, seed), seed=seed, resamples=1)
        assert found.calls == pairs.calls == 660
        totals["knock-out"].append(_agreement(found, strengths))
        totals["pairs"].append(_agreement(pairs, strengths))
    assert np.mean(totals["knock-out"]) > 0.8
    assert np.mean(totals["knock-out"]) > np.mean(totals["pairs"]) + 0.02


def test_results_are_json() -> None:
    """Figures and single comparisons, without NaN or infinity."""
    found = knock_out(*_field(range(3), 1), ByNumber())
    text = json.dumps([found.to_json(), found.rows()], allow_nan=False)
    figures, rows = json.loads(text)
    assert figures["calls"] == 2 and figures["judge"] == "by number"
    assert rows[0]["preference"]["value"] in (0.0, 1.0)


def test_mistakes() -> None:
    """Too few systems, ragged responses, repeated ids, a judge without a verdict or with too few."""
    examples, responses = _field([0, 1], 3)
    with pytest.raises(UserError, match="two systems or more .* got 1 and 3"):
        knock_out(examples, {"s00": responses["s00"]}, ByNumber())
    with pytest.raises(UserError, match="'s01' has 2 responses to 3 instructions"):
        knock_out(examples, {**responses, "s01": responses["s01"][:2]}, ByNumber())
    with pytest.raises(UserError, match="'q0' occurs again"):
        knock_out([examples[0]] * 3, responses, ByNumber())
    with pytest.raises(UserError, match="no system 's07'; there are s00, s01"):
        against("s07", examples, responses, ByNumber())
    silent = {name: [Response("silent", 1, "stop")] * 3 for name in responses}
    with pytest.raises(UserError, match=r"no verdict on any of 3 pairs \(the first: no verdict\)"):
        knock_out(examples, silent, ByNumber())

    class Short(ByNumber):
        def prefer(
            self, examples: Sequence[Example], first: Sequence[Response], second: Sequence[Response]
        ) -> list[Preference]:
            return super().prefer(examples, first, second)[1:]

    with pytest.raises(ValueError, match="gave 2 preferences to 3 pairs"):
        knock_out(examples, responses, Short())
