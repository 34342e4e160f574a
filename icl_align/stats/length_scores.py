"""Length-controlled scores: what each of several systems would score if all answered at equal length."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from icl_align.stats._logistic import Array
from icl_align.stats._within import Cells, equations, estimates, resampled
from icl_align.stats.bootstrap import Interval, check_draws, percentile_interval

_FEW = 20


@dataclass(frozen=True, slots=True)
class SystemScore:
    """One system's score with and without the help of length.

    Attributes:
        name: The system.
        mean: Plain mean of its scores.
        controlled: Its mean at equal length, with an interval.
        difference: By how much its controlled mean is above the first system's; 0 for that one.
        mean_length: Mean characters of its scored answers.
        n: How many of its answers have a score.
    """

    name: str
    mean: float
    controlled: Interval
    difference: Interval
    mean_length: float
    n: int


@dataclass(frozen=True, slots=True)
class LengthControlledScores:
    """Scores at equal length.

    Attributes:
        systems: One record per system, in order.
        slope: What length is worth: score per 1,000 characters, or per doubling; above 0 where the longer
            answer scores better. None where the data cannot tell.
        n: Instructions with at least one score.
        n_missing: Answers without a score, never counted as anything else.
        warnings: What to know before quoting the numbers.
    """

    systems: tuple[SystemScore, ...]
    slope: Interval | None
    n: int
    n_missing: int
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Gives the numbers and warnings; infinite ends of intervals become null."""
        systems = [
            {
                "name": system.name,
                "mean": system.mean,
                "controlled": system.controlled.to_json(),
                "difference": system.difference.to_json(),
                "mean_length": system.mean_length,
                "n": system.n,
            }
            for system in self.systems
        ]
        slope = self.slope and self.slope.to_json()
        counts = {"n": self.n, "n_missing": self.n_missing}
        return {"systems": systems, "slope": slope, **counts, "warnings": list(self.warnings)}


def length_controlled_scores(
    scores: ArrayLike,
    lengths: ArrayLike,
    systems: Sequence[str] | None = None,
    *,
    per: Literal["characters", "doubling"] = "characters",
    level: float = 0.95,
    resamples: int = 1000,
    seed: int | None = 0,
) -> LengthControlledScores:
    """Estimates what systems (prompts, models) would score if all their answers had equal length.

    Least squares with fixed effects of instruction i and system j (two-way within estimator: Wooldridge,
    Econometric Analysis of Cross Section and Panel Data, 2010, chapter 10):

        s_ij = a_i + b_j + beta x_ij + e_ij

    where x is the length (or its logarithm). The instruction's effect takes away that hard or open
    instructions have longer answers; the system's takes away that a system is good *and* long. So beta is
    learnt only from answers that are longer than their system and their instruction would have it, and a
    system gains nothing by being longer, nor loses what it is better by. The controlled mean is

        m_j = b_j + mean_i(a_i + beta mean_j(x_ij)),

    the expected score of system j when it answers each instruction at the mean length of the answers
    there. With no score missing, m_j = mean_i(s_ij) - beta (mean_i(x_ij) - mean_ij(x_ij)).

    The bootstrap draws instructions and fits anew each time.

    Args:
        scores: (instructions, systems), float; None or NaN where there is no verdict.
        lengths: (instructions, systems), characters; needed only where there is a score.
        systems: (systems,), their names; "0", "1", ... by default. The first is what others are compared
            with.
        per: What counts as equally much longer: so many characters, or doubling (for answers of very
            different sizes, or loops that run to the token bound).
        level: Nominal coverage of the intervals, in (0, 1).
        resamples: Of the bootstrap, >= 1.
        seed: Of the bootstrap; None draws a fresh one.

    Raises:
        ValueError: shapes that do not fit, fewer than two systems, a system without scores or linked to
            the others by no instruction, infinite scores, or lengths that are no numbers of characters.
    """
    check_draws(level, resamples)
    cells, names = _checked(scores, lengths, systems, per)
    system = equations(cells)
    draws = resampled(cells, system, resamples, seed)
    (centre,) = estimates(np.ones((1, cells.n)), cells, system)

    def bound(values: Array, value: float) -> Interval:
        return percentile_interval(values, float(value), level, cells.n)

    records = []
    for j, name in enumerate(names):
        mine = cells.there[:, j]
        controlled = bound(draws[:, j], centre[j])
        difference = bound(draws[:, j] - draws[:, 0], centre[j] - centre[0])
        mean, length = (
            math.fsum(v[mine, j]) / int(mine.sum()) for v in (cells.score, cells.characters)
        )
        records.append(SystemScore(name, mean, controlled, difference, length, int(mine.sum())))
    slope = bound(draws[:, -1], centre[-1]) if system.known else None
    missing = int(np.asarray(scores).size - cells.there.sum())
    warnings = tuple(_warnings(cells, names, missing, known=system.known))
    return LengthControlledScores(tuple(records), slope, cells.n, missing, warnings)


def _checked(
    scores: ArrayLike, lengths: ArrayLike, systems: Sequence[str] | None, per: str
) -> tuple[Cells, list[str]]:
    """Gives the instructions that have a score, and the systems' names."""
    s, x = (np.asarray(values, dtype=np.float64) for values in (scores, lengths))
    if s.ndim != 2 or s.shape != x.shape:  # noqa: PLR2004 (instructions and systems)
        raise ValueError(
            f"scores and lengths must both be (instructions, systems), got {s.shape} and {x.shape}"
        )
    if per not in ("characters", "doubling"):
        raise ValueError(f"per must be 'characters' or 'doubling', got {per!r}")
    if s.shape[1] < 2:  # noqa: PLR2004 (a difference needs two)
        raise ValueError(
            f"length within an instruction needs two systems or more, got {s.shape[1]}"
        )
    names = [str(j) for j in range(s.shape[1])] if systems is None else list(systems)
    if len(names) != s.shape[1]:
        raise ValueError(f"{s.shape[1]} systems need as many names, got {len(names)}")
    there = ~np.isnan(s)
    if np.isinf(s).any():
        raise ValueError("scores must be finite, or missing")
    if not np.isfinite(x[there]).all() or (x[there] < 0).any():
        raise ValueError("every scored answer needs a length, finite and not below 0")
    for j, name in enumerate(names):
        if not there[:, j].any():
            raise ValueError(f"system {name!r} has no score at all; leave it out")
    rows = there.any(axis=1)
    s, x = (np.where(there, values, 0.0)[rows] for values in (s, x))
    return Cells(s, x, np.log2(1 + x) if per == "doubling" else x / 1000, there[rows]), names


def _warnings(cells: Cells, names: list[str], missing: int, *, known: bool) -> Iterator[str]:
    x, there = cells.characters, cells.there
    if missing:
        yield f"{missing} answers have no score and were left out"
    if len(x) < _FEW:
        yield f"only {len(x)} instructions: the effect of length is hardly known below {_FEW}"
    if not known:
        yield (
            "lengths differ by system and instruction only, so the effect of length is not identified; "
            "the means are not controlled for it"
        )
    for j, name in enumerate(names):
        both = there[:, j] & (there.sum(axis=1) > 1)
        others = np.delete(np.where(there, x, np.nan), j, axis=1)[both]
        for word, beyond in (
            ("longer", x[both, j] > np.nanmax(others, axis=1, initial=-np.inf)),
            ("shorter", x[both, j] < np.nanmin(others, axis=1, initial=np.inf)),
        ):
            if both.any() and beyond.all():
                yield (
                    f"every answer of {name!r} is {word} than all others to the same instruction: "
                    "equal length is an extrapolation"
                )
