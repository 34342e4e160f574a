"""A race: a prompt is stopped when it has clearly lost against the incumbent, and seldom otherwise.

The incumbent is measured on all N development examples, so the only question is how the candidate's
mean over these N will compare. They are drawn in a random order without replacement; that order is
all the randomness the test needs, scores may be distributed in any way within [0, 1].

The test bets against the candidate and stops it once the wealth is 1 / alpha (see `_wealth`), which
happens to one that is at least as good with a chance of at most alpha, however often one looks.

Where the incumbent's scores are known, their part in the luck of the draw is known too: an example
that is hard for the incumbent is likely hard for the candidate. A share of (the incumbent's score
there - its mean), whose conditional mean under the random order is known exactly, is added to the
difference. Several shares are bet on side by side: nothing is tuned on the scores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from icl_align.search._wealth import TINY, Wealth

_SHARES = (0.0, 1 / 3, 2 / 3)
"""Shares of the incumbent's own ups and downs that are added to a difference."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Where a race stands.

    Attributes:
        seen: Examples drawn so far, those without a verdict included.
        mean: The mean difference (candidate minus incumbent) over the pairs so far; None without any.
        p_worse: Anytime-valid p-value, in [0, 1], of "at least as good on all N": small when clearly worse.
        p_better: The same of "at most as good on all N": small when clearly better.
        clearly_worse: p_worse has been at or below alpha at some example: stop. Never taken back.
        clearly_better: The same of p_better.
    """

    seen: int
    mean: float | None
    p_worse: float
    p_better: float
    clearly_worse: bool
    clearly_better: bool


class PairedRace:
    """A candidate against the incumbent, example by example in a seeded random order.

    Each of the two errors, `clearly_worse` of a candidate whose mean over all N is at least the incumbent's
    and `clearly_better` of one whose mean is at most that, ever happens with a chance of at most alpha. The
    chance is over the order, so the pair must not have been chosen by how it does at the order's beginning.
    An example that either has no verdict on counts as a difference of 0: it does not move the sum,
    and what is tested is the mean over the examples that both have a verdict on.
    """

    def __init__(
        self, n_total: int, alpha: float, incumbent: Sequence[float | None] | None = None
    ) -> None:
        """Starts a race.

        Args:
            n_total: All examples there are, N >= 1.
            alpha: Chance of each of the two errors, in (0, 1).
            incumbent: The incumbent's scores on all N in the order of the race, in [0, 1], None or NaN
                where it has no verdict. With them fewer examples are needed; the guarantee is the same.

        Raises:
            ValueError: a number out of its range, or not N scores.
        """
        _check_settings(n_total, alpha)
        self.n_total, self.alpha = n_total, alpha
        levels, low, high, centre = np.zeros(n_total), 0.0, 1.0, 0.0
        self._spare = np.ones((2, n_total))
        self._incumbent: NDArray[np.float64] | None = None
        shares: tuple[float, ...] = _SHARES[:1]
        if incumbent is not None:
            scores = _checked(incumbent, 0.0, "an incumbent's score")
            if scores.size != n_total:
                raise ValueError(f"the incumbent needs {n_total} scores, got {scores.size}")
            self._incumbent = scores
            there = np.isfinite(scores)
            if there.any():
                low, high = float(scores[there].min()), float(scores[there].max())
                centre = float(scores[there].mean())
                levels[there] = scores[there] - centre
                self._spare = np.where(there, [1 - scores, scores], 0.0)
                shares = _SHARES
        self._levels = levels
        # What can come out at most: the candidate's score is in [0, 1], the incumbent's in [low, high].
        self._down = Wealth(n_total, [(g, 1 - (1 - g) * low - g * centre) for g in shares])
        self._up = Wealth(n_total, [(g, (1 - g) * high + g * centre) for g in shares])
        self._seen, self._sum, self._pairs = 0, 0.0, 0

    def update(self, differences: Sequence[float | None]) -> Verdict:
        """Adds the next examples, in the order of the race, and says where it stands.

        Args:
            differences: Candidate minus incumbent, in [-1, 1]; None or NaN where either has no verdict.

        Raises:
            ValueError: a difference out of its range, one that cannot be to the incumbent's score, or more
                of them than N.
        """
        given = _checked(differences, -1.0, "a difference")
        if self._seen + given.size > self.n_total:
            raise ValueError(f"the race has {self.n_total} examples, got more")
        there = np.isfinite(given)
        values = np.where(there, given, 0.0)
        coming = slice(self._seen, self._seen + given.size)
        if self._incumbent is not None:
            own = (given + self._incumbent[coming])[there]
            if not ((own >= -TINY) & (own <= 1 + TINY)).all():
                raise ValueError(
                    "a difference to the incumbent's score gives a candidate's outside [0, 1]; "
                    "are both in the order of the race?"
                )
        levels = self._levels[coming]
        self._down.add(values, levels)
        self._up.add(-values, -levels)
        self._seen += given.size
        self._pairs += int(there.sum())
        self._sum += math.fsum(values)
        gain, loss = self._spare[:, self._seen :].sum(axis=1)
        p_worse = 0.0 if self._sum + gain < -TINY else self._down.p_value
        p_better = 0.0 if self._sum - loss > TINY else self._up.p_value
        return Verdict(
            self._seen,
            self._sum / self._pairs if self._pairs else None,
            p_worse,
            p_better,
            p_worse <= self.alpha,
            p_better <= self.alpha,
        )


class RacingPruner(BasePruner):
    """Stops a trial of an Optuna study that has clearly lost against the best complete one.

    A trial reports one value per example: `trial.report(score, step)` in the order of steps, where
    step is the example's position, from 0, in one seeded random order, and NaN stands for a missing
    verdict. Higher scores are better in a study that maximises, lower ones where it minimises. The
    incumbent is the complete trial that has reported all examples, has verdicts on at least half of
    them, and has the best mean over these: never a trial that was stopped, whatever its objective
    returned.

    A prompt that is at least as good as every incumbent it meets is ever stopped with a chance of at
    most alpha: where another trial becomes the incumbent meanwhile, the j-th it meets is given
    alpha * 6 / (pi j)^2. The chance is over the order, for a prompt and incumbents that were not
    picked by how they do on its first examples.
    """

    def __init__(
        self, n_total: int, *, alpha: float = 0.05, every: int = 8, warmup: int = 0
    ) -> None:
        """Stores the settings.

        Args:
            n_total: How many examples a complete trial reports, N >= 1.
            alpha: Chance that a prompt at least as good is ever stopped, in (0, 1).
            every: A trial can be stopped after this many examples, and after each so many more, >= 1.
            warmup: It cannot be stopped before so many examples, >= 0.

        Raises:
            ValueError: a number out of its range.
        """
        _check_settings(n_total, alpha)
        if every < 1 or warmup < 0:
            raise ValueError(
                f"every must be at least 1 and warmup at least 0, got {every} and {warmup}"
            )
        self.n_total, self.alpha, self.every, self.warmup = n_total, alpha, every, warmup

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Says whether to stop; always no between two looks, without an incumbent, and at the end.

        Raises:
            ValueError: a reported value is outside [0, 1], or a step beyond the last example.
        """
        values = trial.intermediate_values
        seen = max(values, default=-1) + 1
        if seen > self.n_total:
            raise ValueError(
                f"steps go up to {self.n_total - 1}, trial {trial.number} reported {seen - 1}"
            )
        if seen % self.every or seen < max(1, self.warmup) or seen == self.n_total:
            return False
        sign = -1.0 if study.direction == StudyDirection.MINIMIZE else 1.0
        met = self._incumbents(study, trial, sign)
        if not met:
            return False
        theirs = [_score(met[-1].intermediate_values[step], sign) for step in range(self.n_total)]
        mine = [_score(values.get(step, math.nan), sign) for step in range(seen)]
        race = PairedRace(self.n_total, spent_alpha(self.alpha, len(met)), theirs)
        verdict = race.update([a - b for a, b in zip(mine, theirs, strict=False)])
        return verdict.clearly_worse

    def _incumbents(
        self, study: optuna.Study, trial: FrozenTrial, sign: float
    ) -> list[FrozenTrial]:
        """The incumbent when the trial began, and those since then, in order."""
        complete = [
            (other.datetime_complete, other.number, other)
            for other in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            if other.datetime_complete and len(other.intermediate_values) == self.n_total
        ]
        met: list[FrozenTrial] = []
        best = -math.inf
        for ended, _, other in sorted(complete, key=lambda item: item[:2]):
            values = other.intermediate_values
            scores = [value for value in values.values() if not math.isnan(value)]
            if 2 * len(scores) < self.n_total:
                continue
            mean = sign * math.fsum(scores) / len(scores)
            if mean <= best:
                continue
            best = mean
            if trial.datetime_start is None or ended <= trial.datetime_start:
                met.clear()
            met.append(other)
        return met


def spent_alpha(alpha: float, met: int) -> float:
    """Gives the alpha for the `met`-th incumbent a prompt meets, from 1; all of them sum to alpha."""
    return alpha * 6 / (math.pi * met) ** 2


def _check_settings(n_total: int, alpha: float) -> None:
    if n_total < 1:
        raise ValueError(f"a race needs at least one example, got {n_total}")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be in (0, 1), got {alpha}")


def _score(value: float, sign: float) -> float:
    """Turns a reported value into a score of which more is better."""
    if not (math.isnan(value) or 0 <= value <= 1):
        raise ValueError(f"a race is between scores in [0, 1], got {value}; report NaN for none")
    return value if sign > 0 else 1 - value


def _checked(values: Sequence[float | None], low: float, what: str) -> NDArray[np.float64]:
    """Gives values as float64 (n,), NaN where missing."""
    given = np.array([math.nan if value is None else value for value in values], dtype=np.float64)
    outside = given[(given < low - TINY) | (given > 1 + TINY)]
    if outside.size:
        raise ValueError(f"{what} must be in [{low:g}, 1], got {outside[0]}")
    return given
