"""What a tournament is played on: systems' responses, a judge, and the coins of a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from icl_align.errors import UserError
from icl_align.scorers import PairJudge
from icl_align.stats.strength import Match
from icl_align.types import Example, Preference, Response


@dataclass(frozen=True, slots=True)
class Played:
    """One comparison of a tournament.

    Attributes:
        instruction: The example's id, or its number where it has none.
        round: From 0, the instruction's first.
        first: The system whose response the judge saw as the first.
        second: The other.
        preference: What the judge said.
        winner: Who went on: the preferred one; for a tie or no verdict by a coin from the seed.
    """

    instruction: str
    round: int
    first: str
    second: str
    preference: Preference
    winner: str

    def to_match(self) -> Match:
        """Gives it as a match for `bradley_terry`."""
        return Match(self.first, self.second, self.preference.value, self.instruction)


@dataclass(frozen=True, slots=True)
class Field:
    """What is compared, by whom."""

    examples: Sequence[Example]
    responses: Mapping[str, Sequence[Response]]
    judge: PairJudge
    seed: int
    ids: tuple[str, ...]

    @classmethod
    def of(
        cls,
        examples: Sequence[Example],
        responses: Mapping[str, Sequence[Response]],
        judge: PairJudge,
        seed: int,
    ) -> Field:
        """Checks that every system has a response to every example."""
        if len(responses) < 2 or not examples:  # noqa: PLR2004 (a match has two sides)
            raise UserError(
                "a tournament needs two systems or more and at least one instruction, "
                f"got {len(responses)} and {len(examples)}"
            )
        for name, given in responses.items():
            if len(given) != len(examples):
                raise UserError(
                    f"{name!r} has {len(given)} responses to {len(examples)} instructions; "
                    "give each system one per instruction"
                )
        ids = tuple(example.id or f"#{number}" for number, example in enumerate(examples))
        if len(set(ids)) < len(ids):
            twice = next(name for name in ids if ids.count(name) > 1)
            raise UserError(f"instructions need ids of their own, but {twice!r} occurs again")
        return cls(examples, responses, judge, seed, ids)

    def play(self, pairs: Sequence[tuple[int, str, str]], number: int) -> tuple[list[Played], int]:
        """Plays (instruction's index, first, second) all at once; gives them and the calls made."""
        sides = [
            (self.responses[first][index], self.responses[second][index])
            for index, first, second in pairs
        ]
        asked = [n for n, side in enumerate(sides) if all(r.finish != "error" for r in side)]
        said = self.judge.prefer(
            [self.examples[pairs[n][0]] for n in asked],
            [sides[n][0] for n in asked],
            [sides[n][1] for n in asked],
        )
        if len(said) != len(asked):
            raise ValueError(
                f"judge {self.judge.name!r} gave {len(said)} preferences to {len(asked)} pairs"
            )
        verdicts = dict(zip(asked, said, strict=True))
        failed = Preference(None, note="one of the responses failed", judge=self.judge.name)
        found = [
            self._played(pair, number, verdicts.get(n, failed)) for n, pair in enumerate(pairs)
        ]
        return found, len(asked)

    def _played(self, pair: tuple[int, str, str], number: int, said: Preference) -> Played:
        index, first, second = pair
        ahead = 0.5 if said.value is None else said.value
        if ahead == 0.5:  # noqa: PLR2004  a tie is what it is
            ahead = float(self.rng("coin", index, *sorted((first, second))).integers(2))
            ahead = ahead if first < second else 1 - ahead
        winner = first if ahead > 0.5 else second  # noqa: PLR2004  more than a tie
        return Played(self.ids[index], number, first, second, said, winner)

    def rng(self, what: str, index: int, *names: str) -> np.random.Generator:
        """A stream of its own, by seed, instruction and names, whatever else is played."""
        text = "\n".join((what, str(self.seed), self.ids[index], *names))
        return np.random.default_rng(list(hashlib.sha256(text.encode()).digest()))

    def in_order(self, index: int, first: str, second: str) -> tuple[int, str, str]:
        """Decides by a coin whose response the judge sees first."""
        turned = self.rng("order", index, first, second).integers(2)
        return (index, second, first) if turned else (index, first, second)
