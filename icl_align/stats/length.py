"""Length-controlled win rates: what a preference would be between answers of equal length.

The model is that of AlpacaEval 2 (Dubois, Galambosi, Liang & Hashimoto, "Length-Controlled AlpacaEval: A
Simple Way to Debias Automatic Evaluators", 2024, arXiv 2404.04475).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from icl_align.stats._length_model import (
    Gamed,
    choose_penalty,
    fit,
    resampled,
    rows_of,
    warnings_of,
)
from icl_align.stats._logistic import Array
from icl_align.stats.bootstrap import Interval, check_draws, percentile_interval

Preferences = Sequence[float | None] | ArrayLike
"""Numbers, with None or NaN where a judge gave none."""
GAMED_WEIGHT = 0.1
"""Of each of AlpacaEval 2's regularising rows: its strength of 0.2, shared by two gamed sets."""
_COLUMNS = {
    "preference": ("preference", "y", "y_surrogate"),
    "length_model": ("length_model", "len_2"),
    "length_baseline": ("length_baseline", "len_1"),
    "difficulty": ("difficulty",),
    "weight": ("weight",),
    "group": ("group", "model"),
}
"""Where the columns of a table of regularising rows may be."""


@dataclass(frozen=True, slots=True, eq=False)
class Regularisation:
    """Rows that say what length alone does: one system, told to be verbose or concise, against itself.

    They have no intercept (it is the same system) and so hold the weights of length and of difficulty.

    Attributes:
        preference: (rows,), P(the verbose or concise answer wins) in [0, 1]; None or NaN where missing.
        length_model: (rows,), characters of that answer.
        length_baseline: (rows,), characters of the plain one.
        difficulty: (rows,), of the instructions; None where the fit has none.
        weight: Of each row, next to 1 for the rows that are judged.
        group: (rows,), names of the sets, "verbose" and "concise" for example; differences are scaled by
            each set's own standard deviation. None for one set.
    """

    preference: Preferences
    length_model: ArrayLike
    length_baseline: ArrayLike
    difficulty: ArrayLike | None = None
    weight: float = GAMED_WEIGHT
    group: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class LengthControlled:
    """A win rate with and without the help of length; all rates and errors in per cent.

    Attributes:
        win_rate: Mean preference of the rows that have one.
        lc_win_rate: Expected preference, over all rows, were all answers as long as the baseline's.
        standard_error: Of `win_rate`; None with fewer than two preferences.
        lc_standard_error: AlpacaEval's: only the spread of the expected preferences over instructions, so
            0 without difficulty, and always too small as an error of `lc_win_rate`. Use `interval`.
        interval: Of `lc_win_rate`, by a bootstrap over instructions that fits anew each time; None where
            no resamples were asked for.
        weights: Fitted "length", "difficulty" (where given) and "intercept". A negative "length" says
            that the longer answer is preferred.
        n: Rows with a preference.
        n_missing: Rows without one: left out of the fit and of `win_rate`, but predicted.
        mean_length_model: Mean characters of all answers of the model.
        mean_length_baseline: The same of the baseline.
        penalty: C of the L1 penalty that was used; None for none.
        warnings: What to know before quoting the numbers.
    """

    win_rate: float
    lc_win_rate: float
    standard_error: float | None
    lc_standard_error: float | None
    interval: Interval | None
    weights: Mapping[str, float]
    n: int
    n_missing: int
    mean_length_model: float
    mean_length_baseline: float
    penalty: float | None
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Gives the numbers and warnings; an infinite end of the interval becomes null."""
        interval = self.interval and self.interval.to_json()
        return {**asdict(self), "interval": interval, "warnings": list(self.warnings)}


def length_controlled_win_rate(
    preference: Preferences,
    length_model: ArrayLike,
    length_baseline: ArrayLike,
    difficulty: ArrayLike | None = None,
    regularisation: Regularisation | Mapping[str, Any] | None = None,
    penalty: float | Literal["cv"] | None = None,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int | None = 0,
) -> LengthControlled:
    """Estimates how often a model would win if its answers were as long as the baseline's.

    With x = length_baseline - length_model, t = tanh(x / sd(x)) (sd with n - 1, x not centred), d the
    difficulty, the model's rows follow P(win) = sigmoid(w_len t + w_dif d + w_0). The length-controlled
    win rate is the mean of sigmoid(w_dif d + w_0) over the same rows. Without difficulty and regularising
    rows this is AlpacaEval's minimal form (no d, nothing that holds w_len but the rows themselves); with
    both and a penalty it is AlpacaEval 2's `length_controlled_v1`.

    Rows belong together by place: align them by instruction id before. A missing preference is left out
    of the fit and counted; its row is still predicted, and its lengths still count for sd, as upstream.

    The bootstrap draws instructions, scales and fits anew, with the penalty that was used; difficulty and
    regularising rows are the yardstick and stay as they are. A tiny ridge (1e-6 / 2 ||w||^2) is always
    added, so that separated or empty directions have an answer; a warning tells.

    Args:
        preference: (n,), P(the model's answer is better than the baseline's) in [0, 1], 0.5 for a tie;
            None or NaN where the judge gave no verdict. Where one is above 1 they are read in
            AlpacaEval's coding, 1 to 2 with 0 for a draw, and a warning says so.
        length_model: (n,), characters of the model's answers.
        length_baseline: (n,), characters of the baseline's.
        difficulty: (n,), a fixed covariate of each instruction; high where the baseline is easy to beat.
        regularisation: Rows that tie the weight of length down; with a difficulty of their own exactly if
            `difficulty` is given. A mapping of columns, or a data frame, will do.
        penalty: liblinear's C of `||w||_1 + C * loss`; "cv" chooses among upstream's ten by five folds of
            instructions; None, or infinity, for no L1 penalty.
        level: Nominal coverage of the interval, in (0, 1).
        resamples: Of the bootstrap; 0 for no interval.
        seed: Of the bootstrap; None draws a fresh one.

    Raises:
        ValueError: unequal lengths, no preference at all, values outside their range, difficulty for only
            one of rows and regularising rows, or a penalty that is not above 0.
    """
    if resamples:
        check_draws(level, resamples)
    rows = rows_of(preference, length_model, length_baseline, difficulty)
    gamed = _gamed(regularisation, with_difficulty=difficulty is not None)
    if rows.is_baseline:  # the anchor of the scale: 50 exactly, whatever the other rows say
        gamed = None
    chosen = choose_penalty(rows, gamed) if penalty == "cv" else _penalty(penalty)
    fitted = fit(rows, gamed, chosen)
    n, everyone = int(rows.there.sum()), len(rows.y)
    raw = 100 * rows.y[rows.there]
    win_rate = math.fsum(raw) / n
    lc = 100 * float(fitted.expected.mean())
    interval = None
    if resamples:
        draws = 100 * resampled(rows, gamed, chosen, fitted.weights, resamples, seed)
        interval = percentile_interval(draws, lc, level, everyone)
    return LengthControlled(
        win_rate,
        lc,
        _error(raw),
        _error(100 * fitted.expected),
        interval,
        fitted.named,
        n,
        everyone - n,
        float(rows.length_model.mean()),
        float(rows.length_baseline.mean()),
        chosen,
        tuple(warnings_of(rows, fitted, win_rate, lc)),
    )


def _gamed(
    given: Regularisation | Mapping[str, Any] | None, *, with_difficulty: bool
) -> Gamed | None:
    if given is None:
        return None
    if isinstance(given, Mapping) or hasattr(given, "columns"):
        given = _from_table(given)
    if not isinstance(given, Regularisation):
        raise TypeError(
            "regularisation must be icl_align.stats.Regularisation(preference, length_model, "
            f"length_baseline, difficulty), got a {type(given).__name__}"
        )
    if with_difficulty != (given.difficulty is not None):
        raise ValueError(
            "difficulty must be given for both the rows and the regularising rows, or for neither"
        )
    if not 0 < given.weight < math.inf:
        raise ValueError(f"the weight of regularising rows must be above 0, got {given.weight}")
    rows = rows_of(given.preference, given.length_model, given.length_baseline, given.difficulty)
    group = [""] * len(rows.y) if given.group is None else list(given.group)
    if len(group) != len(rows.y):
        raise ValueError(f"{len(rows.y)} regularising rows need as many groups, got {len(group)}")
    return Gamed(rows, float(given.weight), np.asarray(group, dtype=str))


def _from_table(table: Any) -> Regularisation:
    """Reads a mapping of columns, or a data frame, by the attributes' names or those of AlpacaEval's files.

    Raises:
        ValueError: a column that is needed is not there.
    """
    found: dict[str, Any] = {}
    for field, names in _COLUMNS.items():
        name = next((name for name in names if name in table), None)
        if name is not None:
            found[field] = table[name]
    missing = [
        field for field in ("preference", "length_model", "length_baseline") if field not in found
    ]
    if missing:
        raise ValueError(
            f"regularising rows need {', '.join(missing)}; there are {', '.join(table)}"
        )
    if "group" in found:
        found["group"] = [str(name) for name in found["group"]]
    return Regularisation(**found)


def _penalty(given: float | str | None) -> float | None:
    if given is None:
        return None
    if isinstance(given, str | bool) or not given > 0:
        raise ValueError(f"penalty must be above 0, 'cv' or None, got {given!r}")
    return None if math.isinf(given) else float(given)


def _error(values: Array) -> float | None:
    """The standard error of a mean, None for fewer than two values."""
    if values.size < 2:  # noqa: PLR2004 (one says nothing about spread)
        return None
    return float(values.std(ddof=1)) / math.sqrt(values.size) if np.ptp(values) else 0.0
