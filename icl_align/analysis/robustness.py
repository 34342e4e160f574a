"""How often a prompt works every time: over rephrasings of an instruction, or samples of an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from icl_align.errors import UserError
from icl_align.stats import Interval, bootstrap_mean
from icl_align.types import Score


@dataclass(frozen=True, slots=True)
class PassRate:
    """The share of instructions that pass in at least K of N variants.

    Attributes:
        k: In how many variants an instruction must pass.
        n: How many variants each instruction has.
        rate: The share over the decided instructions, with its interval; None where none is decided.
        single: The share of passes among all single verdicts; None where there are none.
        passed: By instruction id, whether it passed; None where missing verdicts leave it open.
        missing: How many verdicts are missing; they count neither way.
    """

    k: int
    n: int
    rate: Interval | None
    single: float | None
    passed: Mapping[str, bool | None]
    missing: int

    @property
    def undecided(self) -> int:
        """How many instructions are left open by missing verdicts."""
        return sum(passed is None for passed in self.passed.values())

    def to_json(self) -> dict[str, Any]:
        """Gives plain values for JSON."""
        plain = asdict(self) | {"passed": dict(self.passed), "undecided": self.undecided}
        return plain | {"rate": self.rate.to_json() if self.rate else None}


def pass_at_all(
    scores: Mapping[str, Sequence[Score]],
    *,
    k: int | None = None,
    aspect: str = "",
    threshold: float = 1.0,
    level: float = 0.95,
    seed: int | None = 0,
) -> PassRate:
    """Measures how many instructions pass in all of their N variants, or in K of them.

    Over samples this is PIF-N-K (2409.18216), over rephrasings reliable@N (2512.14754). A missing
    verdict leaves an instruction open unless the others decide it either way.

    Args:
        scores: By instruction id, one score for each of its variants; N for every instruction.
        k: In how many variants an instruction must pass, 1 to N; None for all.
        aspect: The aspect to look at, for example `prompt_loose`; the value where empty.
        threshold: A score from here on passes, in (0, 1].
        level: Nominal coverage of the interval, in (0, 1).
        seed: Seed of the bootstrap over instructions; None draws a fresh one.

    Raises:
        UserError: no scores, unequal numbers of variants, a score without the aspect, or a K or
            threshold outside its range.
    """
    n = _variants(scores)
    need = n if k is None else k
    if not 1 <= need <= n:
        raise UserError(f"K must be from 1 to {n}, the number of variants; got {k}")
    if not 0 < threshold <= 1:
        raise UserError(f"a threshold must be in (0, 1], got {threshold}")
    verdicts = {
        name: [_passes(score, aspect, threshold, name) for score in row]
        for name, row in scores.items()
    }
    passed = {name: _decided(row, need) for name, row in verdicts.items()}
    known = [float(verdict) for verdict in passed.values() if verdict is not None]
    told = [verdict for row in verdicts.values() for verdict in row if verdict is not None]
    return PassRate(
        k=need,
        n=n,
        rate=bootstrap_mean(known, level=level, seed=seed) if known else None,
        single=sum(told) / len(told) if told else None,
        passed=passed,
        missing=n * len(scores) - len(told),
    )


def _variants(scores: Mapping[str, Sequence[Score]]) -> int:
    if not scores:
        raise UserError("pass-at-all needs the scores of at least one instruction, got none")
    first, *others = scores
    for name in (first, *others):
        if not scores[name] or len(scores[name]) != len(scores[first]):
            raise UserError(
                f"every instruction needs the same number of variants, at least 1: {first!r} has "
                f"{len(scores[first])}, {name!r} has {len(scores[name])}; score the missing ones"
            )
    return len(scores[first])


def _passes(score: Score, aspect: str, threshold: float, name: str) -> bool | None:
    if score.value is None:
        return None
    if aspect and aspect not in score.aspects:
        known = ", ".join(score.aspects) or "none"
        raise UserError(f"a score of {name!r} has no aspect {aspect!r}; it has {known}")
    return (score.aspects[aspect] if aspect else score.value) >= threshold


def _decided(row: Sequence[bool | None], need: int) -> bool | None:
    sure = sum(verdict is True for verdict in row)
    possible = sum(verdict is not False for verdict in row)
    if sure >= need:
        return True
    return None if possible >= need else False
