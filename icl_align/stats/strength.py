"""How strong prompts are, from who beat whom: Bradley-Terry with its intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icl_align.stats.bootstrap import check_draws
from icl_align.stats.wins import draws, tails

_STEPS = 200
_LONGEST_STEP = 1.5
_EXACT = 1e-9
_LEAST_PRIOR = 0.01
"""With less, the strengths of unbeaten systems are large and loosely held: rounding, not data."""


@dataclass(frozen=True, slots=True)
class Match:
    """The outcome of one comparison.

    Attributes:
        first: One system.
        second: The other.
        value: The first one's share of the win, in [0, 1]: 1 won, 0.5 a tie, 0 lost; a judge's
            probability counts as it is. None for no verdict.
        group: What was compared on, an instruction's id: matches of one group are resampled together.
    """

    first: str
    second: str
    value: float | None
    group: str

    def __post_init__(self) -> None:
        """Refuses a match with oneself and a value that is no share.

        Raises:
            ValueError: naming the match.
        """
        if self.first == self.second:
            raise ValueError(f"{self.first!r} can not be matched with itself (in {self.group!r})")
        if self.value is not None and not 0.0 <= self.value <= 1.0:
            raise ValueError(
                f"a match's value must be in [0, 1] or None, got {self.value} for "
                f"{self.first!r} and {self.second!r} in {self.group!r}"
            )


@dataclass(frozen=True, slots=True)
class Strength:
    """One system's place.

    Attributes:
        system: Its name.
        value: Natural log-odds; `sigmoid(a.value - b.value)` is how often a beats b. Zero on average
            over systems.
        low: Lower end of its interval, -inf with fewer than two groups.
        high: Upper end, likewise.
        win_rate: Over its matches, ties as half; None without any. Against unequal opponents, as in
            a tournament, it says less than `value`.
        matches: Matches of its that had a verdict.
    """

    system: str
    value: float
    low: float
    high: float
    win_rate: float | None
    matches: int


@dataclass(frozen=True, slots=True)
class Strengths:
    """All systems' places, the strongest first.

    Attributes:
        ranked: One per system.
        level: Nominal coverage of the intervals.
        groups: Instructions with a verdict.
        matches: Matches with a verdict.
        missing: Matches without one, which are left out.
        warnings: What the numbers do not carry.
    """

    ranked: tuple[Strength, ...]
    level: float
    groups: int
    matches: int
    missing: int
    warnings: tuple[str, ...] = ()

    def of(self, system: str) -> Strength:
        """Gives a system's place.

        Raises:
            KeyError: there is no such system.
        """
        for strength in self.ranked:
            if strength.system == system:
                return strength
        raise KeyError(system)

    def beats(self, first: str, second: str) -> float:
        """Gives how often the first is expected to beat the second, in (0, 1)."""
        difference = self.of(first).value - self.of(second).value
        return 0.5 * (1.0 + math.tanh(difference / 2.0))

    def to_json(self) -> dict[str, Any]:
        """Gives all of it; an infinite end becomes null."""
        ranked = [
            {
                name: None if isinstance(x, float) and not math.isfinite(x) else x
                for name, x in asdict(strength).items()
            }
            for strength in self.ranked
        ]
        return {**asdict(self), "ranked": ranked, "warnings": list(self.warnings)}


def bradley_terry(
    matches: Sequence[Match],
    *,
    systems: Sequence[str] | None = None,
    prior: float = 0.5,
    level: float = 0.95,
    resamples: int = 1_000,
    seed: int | None = 0,
) -> Strengths:
    """Fits strengths to matches: P(a beats b) = sigmoid(a - b).

    Bradley & Terry (Biometrika 39, 1952), fitted by Newton's method. A tie is half a win for each, and
    a probability its share; so strengths shrink a little where ties are many, which Davidson's model
    (JASA 65, 1970) would put into a parameter of its own, but need no outcome to be an exact tie. The
    prior is a tied match of every system with one of strength 0, worth `prior` matches: it keeps an
    unbeaten one finite and is soon outweighed. Intervals are percentiles of fits to resampled groups.

    Args:
        matches: Those without a verdict are counted and left out.
        systems: All names, so that one without a match is listed; None for those that occur.
        prior: Matches' worth of the prior, >= 0.01.
        level: Nominal coverage in (0, 1).
        resamples: Number of bootstrap samples, >= 1.
        seed: Seed of the resampling; None draws a fresh one.

    Raises:
        ValueError: fewer than two systems, an unknown one, no verdict, or a bad prior, level or count.
    """
    check_draws(level, resamples)
    if not _LEAST_PRIOR <= prior < math.inf:
        raise ValueError(
            f"the prior of Bradley-Terry strengths must be >= {_LEAST_PRIOR}, got {prior}"
        )
    names = sorted(systems or {name for match in matches for name in (match.first, match.second)})
    index = {name: number for number, name in enumerate(names)}
    strangers = {n for match in matches for n in (match.first, match.second)} - index.keys()
    if strangers or len(names) < 2:  # noqa: PLR2004 (a match has two sides)
        raise ValueError(
            f"strengths need two systems or more, all of them named, got {names}"
            + (f" and matches of {min(strangers)!r}" if strangers else "")
        )
    told = [(match, match.value) for match in matches if match.value is not None]
    if not told:
        raise ValueError(f"strengths need at least one verdict, got none of {len(matches)}")
    first = np.asarray([index[match.first] for match, _ in told])
    second = np.asarray([index[match.second] for match, _ in told])
    value = np.asarray([value for _, value in told], dtype=np.float64)
    _, group = np.unique([match.group for match, _ in told], return_inverse=True)
    size, groups = len(names), int(group.max()) + 1
    won, lost = first * size + second, second * size + first
    cells = np.concatenate([won, lost])
    shares = np.concatenate([value, 1 - value])

    def table(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        counted = shares * np.tile(weights, 2)
        flat = np.bincount(cells, counted, size * size)
        return np.asarray(flat, dtype=np.float64).reshape(size, size)

    wins = table(np.ones(value.size))
    fitted = _fit(wins[None], prior)[0]
    low, high = np.full(size, -math.inf), np.full(size, math.inf)
    if groups > 1:
        fits = [
            _fit(np.stack([table(row[group]) for row in counts]), prior)
            for counts in draws(groups, resamples, seed, max(groups, size * size))
        ]
        low, high = np.quantile(np.concatenate(fits), tails(level), axis=0)
    played = wins.sum(axis=1) + wins.sum(axis=0)
    ranked = [
        Strength(
            name,
            float(fitted[number]),
            float(min(low[number], fitted[number])),
            float(max(high[number], fitted[number])),
            float(wins[number].sum() / played[number]) if played[number] else None,
            round(float(played[number])),
        )
        for number, name in enumerate(names)
    ]
    return Strengths(
        tuple(sorted(ranked, key=lambda strength: (-strength.value, strength.system))),
        level,
        groups,
        len(told),
        len(matches) - len(told),
        _warnings(names, wins),
    )


def _fit(wins: NDArray[np.float64], prior: float) -> NDArray[np.float64]:
    """Strengths, float64 (tables, n), of mean 0, from shares of wins (tables, n, n).

    Newton's method on the penalised log-likelihood, which is strictly concave; steps are kept short,
    for far from the optimum it is flatter than the method believes.
    """
    tables, size, _ = wins.shape
    total = wins + wins.transpose(0, 2, 1)
    own = wins.sum(axis=2) + prior / 2
    strengths = np.zeros((tables, size))
    diagonal = np.arange(size)
    for _ in range(_STEPS):
        odds = strengths[:, :, None] - strengths[:, None, :]
        chance = 0.5 * (1 + np.tanh(odds / 2))
        alone = 0.5 * (1 + np.tanh(strengths / 2))
        gradient = own - (total * chance).sum(axis=2) - prior * alone
        curvature = total * chance * (1 - chance)
        hessian = -curvature
        hessian[:, diagonal, diagonal] = curvature.sum(axis=2) + prior * alone * (1 - alone)
        step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        longest = np.abs(step).max(axis=1, keepdims=True)
        strengths = strengths + step * np.minimum(1.0, _LONGEST_STEP / np.maximum(longest, 1e-300))
        if longest.max() < _EXACT:
            return np.asarray(strengths - strengths.mean(axis=1, keepdims=True))
    raise RuntimeError(f"Bradley-Terry strengths did not settle within {_STEPS} steps")


def _warnings(names: Sequence[str], wins: NDArray[np.float64]) -> tuple[str, ...]:
    """Tells of systems whose strength rests on the prior."""
    met = (wins + wins.T) > 0
    reached = {0}
    while more := {int(n) for row in reached for n in np.flatnonzero(met[row])} - reached:
        reached |= more
    found = []
    if len(reached) < len(names):
        apart = next(name for number, name in enumerate(names) if number not in reached)
        found.append(
            f"{names[0]} and {apart} never met, not even through others; "
            "how they compare rests on the prior"
        )
    for number, name in enumerate(names):
        won, lost = wins[number].sum(), wins[:, number].sum()
        if (won > 0) != (lost > 0):
            what = "lost" if won > 0 else "won"
            found.append(f"{name} never {what}; how far it is from the others rests on the prior")
    return tuple(found)
