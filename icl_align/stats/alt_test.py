"""The alternative annotator test: may a judge stand in for one of several annotators?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icl_align.errors import UserError

MIN_ANNOTATORS = 3
_MANY = 30
"""From so many units on Student's t is used, below it Wilcoxon's signed ranks, as published."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class AltTest:
    """What the test found.

    Attributes:
        winning_rate: omega: share of annotators against whom the judge holds its own.
        advantage: rho: mean probability that the judge is at least as close to the other annotators as
            the one it would replace.
        passes: Whether omega is at least 1/2.
        epsilon: How much worse than an annotator the judge may be, since it is cheaper: 0.2 for
            experts', 0.15 for trained and 0.1 for crowd workers' labels, as the paper proposes.
        q: The false discovery rate.
        p_values: One per annotator.
        advantages: Likewise, rho of each.
        n: Rows that have a verdict.
        missing: Rows without one, left out.
        units: What counts as independent: instructions where they are given, else rows.
    """

    winning_rate: float
    advantage: float
    passes: bool
    epsilon: float
    q: float
    p_values: tuple[float, ...]
    advantages: tuple[float, ...]
    n: int
    missing: int
    units: int

    def to_json(self) -> dict[str, Any]:
        """Gives all figures."""
        return asdict(self)


def alt_test(
    judged: Sequence[int | None],
    annotators: Sequence[Sequence[int]],
    clusters: Sequence[str] | None = None,
    *,
    epsilon: float = 0.1,
    q: float = 0.05,
) -> AltTest:
    """Tests whether a judge may replace an annotator (Calderon, Reichart & Dror, 2501.10970).

    Each annotator in turn is left out and compared with the judge: who agrees with more of the others?
    The judge wins against an annotator when "it is worse by epsilon or more" is rejected, the
    p-values taken together by Benjamini and Yekutieli (Annals of Statistics 29, 2001).

    Args:
        judged: The judge's verdicts, one per row; None for none.
        annotators: Each row's labels, as many in each row, in the same order of annotators.
        clusters: The instruction of each row: then an instruction's mean is one observation, since its
            rows are not independent. None for the published form, where each row is one.
        epsilon: See `AltTest`.
        q: The false discovery rate, in (0, 1).

    Raises:
        UserError: fewer than three annotators, rows with other numbers of them, or fewer than two
            independent observations.
    """
    width = len(annotators[0]) if annotators else 0
    if width < MIN_ANNOTATORS:
        raise UserError(
            f"the alternative annotator test needs at least {MIN_ANNOTATORS} labels per row, "
            f"got {width}"
        )
    if any(len(row) != width for row in annotators):
        raise UserError("the alternative annotator test needs the same annotators on every row")
    if not 0 < q < 1 or not 0 <= epsilon < 1:
        raise UserError(f"q must be in (0, 1) and epsilon in [0, 1), got {q} and {epsilon}")
    kept = [number for number, verdict in enumerate(judged) if verdict is not None]
    names = [str(number) if clusters is None else clusters[number] for number in kept]
    if len(set(names)) < 2:  # noqa: PLR2004 (a test needs spread)
        raise UserError("the alternative annotator test needs at least two rows with a verdict")
    mine = np.asarray([judged[number] for number in kept], dtype=np.float64)
    theirs = np.asarray([annotators[number] for number in kept], dtype=np.float64)
    tests = [_against(mine, theirs, left_out) for left_out in range(width)]
    p_values = [
        _p_value(_unit_means(annotator - judge, names), epsilon) for judge, annotator in tests
    ]
    rejected = benjamini_yekutieli(p_values, q)
    advantages = tuple(float(judge.mean()) for judge, _ in tests)
    rate = sum(rejected) / width
    return AltTest(
        winning_rate=rate,
        advantage=float(np.mean(advantages)),
        passes=rate >= 0.5,  # noqa: PLR2004 (the paper's bar)
        epsilon=epsilon,
        q=q,
        p_values=tuple(p_values),
        advantages=advantages,
        n=len(kept),
        missing=len(judged) - len(kept),
        units=len(set(names)),
    )


def benjamini_yekutieli(p_values: Sequence[float], q: float) -> list[bool]:
    """Says which hypotheses are rejected at a false discovery rate, however they depend on each other."""
    m = len(p_values)
    penalty = sum(1 / rank for rank in range(1, m + 1))
    order = sorted(range(m), key=lambda number: p_values[number])
    last = max(
        (
            rank
            for rank, number in enumerate(order, start=1)
            if p_values[number] <= rank * q / (m * penalty)
        ),
        default=0,
    )
    return [number in order[:last] for number in range(m)]


def _against(mine: Array, theirs: Array, left_out: int) -> tuple[Array, Array]:
    """Who is closer to the other annotators, row by row: the judge, the annotator; both in a tie."""
    others = np.delete(theirs, left_out, axis=1)
    judge = (others == mine[:, None]).mean(axis=1)
    annotator = (others == theirs[:, [left_out]]).mean(axis=1)
    return (judge >= annotator).astype(np.float64), (annotator >= judge).astype(np.float64)


def _unit_means(values: Array, names: Sequence[str]) -> Array:
    groups: dict[str, list[float]] = {}
    for name, value in zip(names, values, strict=True):
        groups.setdefault(name, []).append(float(value))
    return np.asarray([np.mean(group) for group in groups.values()])


def _p_value(lead: Array, epsilon: float) -> float:
    """One-sided p-value of "the annotator leads by epsilon or more"."""
    from scipy import stats

    rest = lead - epsilon
    if np.ptp(rest) == 0:
        return 0.0 if rest[0] < 0 else 1.0
    if len(rest) < _MANY:
        return float(stats.wilcoxon(rest, alternative="less").pvalue)
    return float(stats.ttest_1samp(rest, 0.0, alternative="less").pvalue)
