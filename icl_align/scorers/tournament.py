"""Many prompts' answers compared in pairs: a knock-out per instruction, or every pair, or a baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from icl_align.errors import UserError
from icl_align.scorers import PairJudge
from icl_align.scorers._field import Field, Played
from icl_align.stats.strength import Strengths, bradley_terry
from icl_align.types import Example, Response


@dataclass(frozen=True, slots=True)
class Tournament:
    """Who beat whom, and how strong that makes them.

    Attributes:
        played: Every comparison, in the order of rounds and instructions.
        strengths: Bradley-Terry strengths over the comparisons that had a verdict.
        titles: Instructions won, by system, for a knock-out; coins included.
        calls: Comparisons the judge was asked for.
        missing: Comparisons without a verdict; in no strength, though a coin sent one on.
        judge: Which judge said so.
    """

    played: tuple[Played, ...]
    strengths: Strengths
    titles: Mapping[str, int]
    calls: int
    missing: int
    judge: str

    def to_json(self) -> dict[str, Any]:
        """Gives the figures, without the single comparisons."""
        return {
            "judge": self.judge,
            "calls": self.calls,
            "missing": self.missing,
            "titles": dict(self.titles),
            **self.strengths.to_json(),
        }

    def rows(self) -> list[dict[str, Any]]:
        """Gives the single comparisons, ready for JSON."""
        return [asdict(played) for played in self.played]


def _result(
    field: Field,
    played: Sequence[Played],
    calls: int,
    titles: Mapping[str, int],
    level: float,
    resamples: int,
) -> Tournament:
    """Fits the strengths."""
    missing = sum(one.preference.value is None for one in played)
    if missing == len(played):
        raise UserError(
            f"judge {field.judge.name!r} gave no verdict on any of {missing} pairs "
            f"(the first: {played[0].preference.note or 'no reason given'})"
        )
    strengths = bradley_terry(
        [one.to_match() for one in played],
        systems=sorted(field.responses),
        level=level,
        resamples=resamples,
        seed=field.seed,
    )
    return Tournament(tuple(played), strengths, titles, calls, missing, field.judge.name)


def knock_out(
    examples: Sequence[Example],
    responses: Mapping[str, Sequence[Response]],
    judge: PairJudge,
    *,
    seed: int = 0,
    level: float = 0.95,
    resamples: int = 1_000,
) -> Tournament:
    """Plays a knock-out per instruction: n - 1 comparisons each instead of n (n - 1) / 2.

    Varco Arena (2411.01281): per instruction a random bracket of all systems, the loser goes, and over
    all matches of all instructions Bradley-Terry strengths. Brackets come from the seed and the
    instruction's id; where n is no power of two the first round is played by as few as make it one.
    All instructions' matches of a round are one call of the judge. A tie, or no verdict, is decided by
    a coin from the seed for going on; in the strengths a tie is half a win, no verdict nothing.

    Who is left in later rounds had a good response on that instruction, also where it is weak in general:
    differences come out about a tenth smaller than over all pairs. Ranks are what it is for.

    Args:
        examples: Instructions, with ids of their own.
        responses: By system, `responses[name][i]` to `examples[i]`.
        judge: Compares; a failed response is not put before it and has no verdict.
        seed: Seed of brackets, coins, sides and of the bootstrap.
        level: Nominal coverage of the intervals.
        resamples: Number of bootstrap samples, >= 1.

    Raises:
        UserError: fewer than two systems, no instruction, missing responses, repeated ids, or a judge
            without any verdict.
    """
    field = Field.of(examples, responses, judge, seed)
    names = sorted(responses)
    brackets = [
        [names[n] for n in field.rng("bracket", index).permutation(len(names))]
        for index in range(len(examples))
    ]
    playing = len(names) - (1 << (len(names).bit_length() - 1)) or len(names) // 2
    played: list[Played] = []
    calls = number = 0
    while playing:
        pairs = [
            (index, *bracket[2 * match : 2 * match + 2])
            for index, bracket in enumerate(brackets)
            for match in range(playing)
        ]
        now, asked = field.play([(i, one, other) for i, one, other in pairs], number)
        played += now
        calls += asked
        for index, bracket in enumerate(brackets):
            winners = [one.winner for one in now[index * playing : (index + 1) * playing]]
            brackets[index] = winners + bracket[2 * playing :]
        playing, number = len(brackets[0]) // 2, number + 1
    titles = {name: sum(bracket == [name] for bracket in brackets) for name in names}
    return _result(field, played, calls, titles, level, resamples)


def round_robin(
    examples: Sequence[Example],
    responses: Mapping[str, Sequence[Response]],
    judge: PairJudge,
    *,
    seed: int = 0,
    level: float = 0.95,
    resamples: int = 1_000,
) -> Tournament:
    """Plays every pair of systems on every instruction: n (n - 1) / 2 comparisons each.

    Arguments and errors as `knock_out`.

    Raises:
        UserError: as `knock_out`.
    """
    return _all(examples, responses, judge, seed, level, resamples, None)


def against(
    baseline: str,
    examples: Sequence[Example],
    responses: Mapping[str, Sequence[Response]],
    judge: PairJudge,
    *,
    seed: int = 0,
    level: float = 0.95,
    resamples: int = 1_000,
) -> Tournament:
    """Plays every system against one of them on every instruction: n - 1 comparisons each.

    Arguments and errors as `knock_out`.

    Raises:
        UserError: as `knock_out`, or there is no such baseline.
    """
    if baseline not in responses:
        raise UserError(
            f"there is no system {baseline!r}; there are {', '.join(sorted(responses))}"
        )
    return _all(examples, responses, judge, seed, level, resamples, baseline)


def _all(
    examples: Sequence[Example],
    responses: Mapping[str, Sequence[Response]],
    judge: PairJudge,
    seed: int,
    level: float,
    resamples: int,
    baseline: str | None,
) -> Tournament:
    """Plays all pairs, or those of a baseline, in one round."""
    field = Field.of(examples, responses, judge, seed)
    pairs = [
        field.in_order(index, one, other)
        for index in range(len(examples))
        for one, other in combinations(sorted(responses), 2)
        if baseline in (None, one, other)
    ]
    played, calls = field.play(pairs, 0)
    return _result(field, played, calls, {}, level, resamples)
