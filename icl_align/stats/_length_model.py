"""AlpacaEval 2's length model as arrays: rows, features, the fit, its bootstrap, and its warnings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from icl_align.stats._logistic import Array, curvature, fit_logistic, log_loss, sigmoid

PENALTIES = tuple(float(c) for c in np.logspace(-4, 4, 10))
"""The values of C that upstream chooses from."""
_FOLDS = 5
_CELLS = 200_000
"""Most rows of all resamples in flight: their features stay in the processor's cache."""
_FEW = 100
_MOST = 2
_VAGUE = 1.0
"""A standard error of the length weight above this tells nothing: published ones run from -3 to 0.3."""
_FAR = 10.0
"""A weight that moves a log-odds so far comes from separated rows."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Instructions of one comparison; all arrays float64 (n,).

    Attributes:
        y: Preferences in [0, 1]; 0 where there is none.
        there: bool, (n,): where there is one.
        length_model: Characters.
        length_baseline: Characters.
        difficulty: None where there is none.
        recoded: Whether the preferences came in AlpacaEval's coding.
    """

    y: Array
    there: NDArray[np.bool_]
    length_model: Array
    length_baseline: Array
    difficulty: Array | None
    recoded: bool = False

    @property
    def longer(self) -> Array:
        """By how many characters the baseline is longer."""
        return self.length_baseline - self.length_model

    @property
    def is_baseline(self) -> bool:
        """Whether this is the baseline against itself: ties throughout, and no other length."""
        return not self.longer.any() and bool((self.y[self.there] == 0.5).all())  # noqa: PLR2004 (a tie)


@dataclass(frozen=True, slots=True, eq=False)
class Gamed:
    """Regularising rows, the weight of each, and the set, str (rows,), each is of."""

    rows: Rows
    weight: float
    group: NDArray[np.str_]


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A fitted model.

    Attributes:
        weights: float64, (2,) or (3,): length, difficulty where there is one, intercept.
        expected: float64, (n,): the preference of each row at equal length.
        slope_error: Standard error of the length weight, from the curvature of the loss.
    """

    weights: Array
    expected: Array
    slope_error: float

    @property
    def named(self) -> dict[str, float]:
        """The weights by name."""
        names = ("length", "difficulty", "intercept")
        chosen = names if len(self.weights) == len(names) else (names[0], names[-1])
        return dict(zip(chosen, self.weights.tolist(), strict=True))


def rows_of(
    preference: Sequence[float | None] | ArrayLike,
    length_model: ArrayLike,
    length_baseline: ArrayLike,
    difficulty: ArrayLike | None,
) -> Rows:
    """Makes arrays of what was given.

    Raises:
        ValueError: unequal lengths, values that are not numbers or outside their range, no preference.
    """
    y = _vector("preference", preference)
    there = ~np.isnan(y)
    if not there.any():
        raise ValueError(f"a win rate needs at least one preference, got none in {y.size} rows")
    recoded = bool((y[there] > 1).any())
    if recoded:  # no probability is above 1: AlpacaEval's coding, 1 to 2 with 0 for a draw
        known = (y[there] == 0) | ((y[there] >= 1) & (y[there] <= _MOST))
        worst = y[there][~known]
        y = np.where(y == 0, 0.5, y - 1)
    else:
        worst = y[there][y[there] < 0]
    if worst.size:
        raise ValueError(
            "a preference must be in [0, 1] (or, in AlpacaEval's coding, 1 to 2 with 0 for a draw) or "
            f"missing, got {worst[0]:g}"
        )
    lengths = [_vector("length_model", length_model), _vector("length_baseline", length_baseline)]
    given = None if difficulty is None else _vector("difficulty", difficulty)
    for name, column in zip(("length_model", "length_baseline"), lengths, strict=True):
        if column.size != y.size:
            raise ValueError(f"{y.size} preferences need as many of {name}, got {column.size}")
        if not np.isfinite(column).all() or (column < 0).any():
            raise ValueError(f"{name} must be numbers of characters, finite and not below 0")
    if given is not None and given.size != y.size:
        raise ValueError(f"{y.size} preferences need as many of difficulty, got {given.size}")
    if given is not None and not np.isfinite(given).all():
        raise ValueError("difficulty must be finite, for every row or not at all")
    return Rows(np.where(there, y, 0.0), there, lengths[0], lengths[1], given, recoded)


def _vector(name: str, values: Sequence[float | None] | ArrayLike) -> Array:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1:
        raise ValueError(f"{name} must be one row of numbers, got shape {found.shape}")
    return found


def fit(rows: Rows, gamed: Gamed | None, penalty: float | None) -> Fit:
    """Fits the model to all rows that have a preference."""
    x, y, weight = _design(rows, gamed, np.ones((1, len(rows.y))))
    (w,) = fit_logistic(x, y, weight, l1=_l1(penalty))
    error = math.sqrt(float(np.linalg.inv(curvature(x[0], weight[0], w))[0, 0]))
    return Fit(w, _expected(rows, w[None])[0], error)


def resampled(
    rows: Rows,
    gamed: Gamed | None,
    penalty: float | None,
    start: Array,
    resamples: int,
    seed: int | None,
) -> Array:
    """Gives rates, in [0, 1], of resampled instructions, float64; those without preference left out."""
    found = []
    for counts in _draws(rows, gamed, resamples, seed):
        x, y, weight = _design(rows, gamed, counts)
        w = fit_logistic(x, y, weight, l1=_l1(penalty), start=start, tolerance=1e-6)
        found.append((counts * _expected(rows, w)).sum(axis=1) / len(rows.y))
    return np.concatenate(found)


def _draws(rows: Rows, gamed: Gamed | None, resamples: int, seed: int | None) -> Iterator[Array]:
    """Yields how often each row is drawn, float64 (fits, n), in batches of bounded size."""
    rng, n = np.random.default_rng(seed), len(rows.y)
    batch = max(1, _CELLS // (n + (len(gamed.rows.y) if gamed else 0)))
    for first in range(0, resamples, batch):
        size = min(batch, resamples - first)
        counts = rng.multinomial(n, np.full(n, 1 / n), size=size).astype(np.float64)
        yield counts[(counts * rows.there).sum(axis=1) > 0]


def choose_penalty(rows: Rows, gamed: Gamed | None) -> float:
    """Chooses C as upstream: five folds of rows, regularising ones included, by weighted log loss.

    Folds are dealt out from the last row on, as scikit-learn's GroupKFold deals groups of one size.
    """
    x, y, weight = _design(rows, gamed, np.ones((1, len(rows.y))))
    used = weight[0] > 0
    x, y, weight = x[:, used], y[used], weight[:, used]
    folds = (len(y) - 1 - np.arange(len(y))) % _FOLDS == np.arange(_FOLDS)[:, None]
    folds = folds[folds.any(axis=1)]
    losses = []
    for penalty in PENALTIES:
        w = fit_logistic(x, y, weight * ~folds, l1=1 / penalty)
        held = weight * folds
        losses.append(((held * log_loss(x, y, w)).sum(axis=1) / held.sum(axis=1)).mean())
    return PENALTIES[int(np.argmin(losses))]


def _l1(penalty: float | None) -> float:
    return 0.0 if penalty is None else 1 / penalty


def _design(rows: Rows, gamed: Gamed | None, counts: Array) -> tuple[Array, Array, Array]:
    """Gives features (fits, rows, k), labels (rows,) and weights (fits, rows), gamed rows last."""
    columns = [_scaled(rows.longer, counts)]
    if rows.difficulty is not None:
        columns.append(np.broadcast_to(rows.difficulty, counts.shape))
    x = np.stack([*columns, np.ones(counts.shape)], axis=2)
    if gamed is None:
        return x, rows.y, counts * rows.there
    extra = np.zeros((len(gamed.rows.y), x.shape[2]))
    for name in np.unique(gamed.group):
        mine = gamed.group == name
        extra[mine, 0] = _scaled(gamed.rows.longer[mine], np.ones((1, int(mine.sum()))))[0]
    if gamed.rows.difficulty is not None:
        extra[:, 1] = gamed.rows.difficulty
    x = np.concatenate([x, np.broadcast_to(extra, (len(x), *extra.shape))], axis=1)
    more = np.broadcast_to(gamed.weight * gamed.rows.there, (len(x), len(extra)))
    weight = np.concatenate([counts * rows.there, more], axis=1)
    return x, np.concatenate([rows.y, gamed.rows.y]), weight


def _scaled(longer: Array, counts: Array) -> Array:
    """Gives tanh(x / sd), float64 (fits, n), sd over drawn rows; 0 where nothing varies."""
    total = counts.sum(axis=1, keepdims=True)
    centred = longer - (counts @ longer)[:, None] / total
    spread = np.sqrt((counts * centred**2).sum(axis=1, keepdims=True) / np.maximum(total - 1, 1))
    flat = spread <= 1e-9 * (1 + np.abs(longer).max())
    return np.where(flat, 0.0, np.tanh(longer / np.where(flat, 1.0, spread)))


def _expected(rows: Rows, w: Array) -> Array:
    """Gives each row's expected preference at equal length, float64 (fits, n)."""
    z = np.repeat(w[:, -1:], len(rows.y), axis=1)
    return sigmoid(z if rows.difficulty is None else z + w[:, 1:2] * rows.difficulty)


def warnings_of(rows: Rows, fitted: Fit, win_rate: float, lc: float) -> Iterator[str]:
    """Yields what makes a length-controlled win rate (both in per cent) doubtful."""
    n, longer = int(rows.there.sum()), rows.longer[rows.there]
    if rows.recoded:
        yield "preferences above 1: they were read in AlpacaEval's coding, 1 to 2 with 0 for a draw"
    if not fitted.weights.any() and win_rate != lc and n > 1:
        yield "the penalty leaves no weight at all: the rate at equal length is 50 whatever was preferred"
    if n < len(rows.y):
        yield f"{len(rows.y) - n} of {len(rows.y)} preferences are missing and were left out of the fit"
    if n < _FEW:
        yield f"only {n} instructions: the effect of length is hardly known below {_FEW}"
    shares = [float((longer > 0).mean()), float((longer < 0).mean())]
    if np.ptp(longer) == 0:
        yield (
            "the difference in length is the same everywhere, so its effect is not identified; "
            "the rate at equal length is not controlled for length"
        )
    elif max(shares) == 1:
        side = "shorter" if shares[0] == 1 else "longer"
        yield f"every answer is {side} than the baseline's: equal length is an extrapolation"
    elif fitted.slope_error > _VAGUE:
        yield f"the weight of length is hardly identified (standard error {fitted.slope_error:.2f})"
    if np.abs(fitted.weights[[0, -1]]).max() > _FAR:
        yield (
            "the preferences are separated by length, or all for one side, so the fit has no finite "
            "answer without a penalty; give a penalty or more instructions"
        )
    low = min(win_rate - win_rate / 4, win_rate - 10)
    high = max(win_rate + (100 - win_rate) / 4, win_rate + 10)
    if not low <= lc <= high:
        yield (
            f"length control moves the win rate from {win_rate:.1f} to {lc:.1f}, unusually far; "
            "check that judge, baseline and outputs belong together"
        )
