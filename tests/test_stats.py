"""Promises of icl_align.stats."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from icl_align.stats import Interval, bootstrap_mean, crossed_bootstrap, paired_bootstrap


def test_covers_the_true_mean_about_as_often_as_it_says() -> None:
    """Over 300 skewed samples, a 90 % interval holds the true mean 83-95 % of the time."""
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(300):
        interval = bootstrap_mean(
            rng.beta(2, 5, size=40).tolist(), level=0.9, resamples=1000, seed=seed
        )
        hits += interval.low <= 2 / 7 <= interval.high
    assert 0.83 <= hits / 300 <= 0.95


def test_claims_a_difference_between_equals_about_as_rarely_as_it_says() -> None:
    """In an A/A comparison a 95 % paired interval leaves out 0 in at most 9 % of 300 runs."""
    rng = np.random.default_rng(1)
    claims = 0
    for seed in range(300):
        common = rng.uniform(0.2, 0.8, size=50)
        a, b = (np.clip(common + rng.normal(0, 0.1, size=50), 0, 1).tolist() for _ in range(2))
        interval = paired_bootstrap(a, b, resamples=1000, seed=seed)
        claims += not interval.low <= 0 <= interval.high
    assert 1 <= claims <= 27


def test_pairing_uses_the_common_part() -> None:
    """A difference that is the same for every example has an interval without width."""
    b = [0.1, 0.5, 0.9, 0.3]
    interval = paired_bootstrap([x + 0.05 for x in b], b)
    assert interval.low == interval.high == pytest.approx(0.05)
    assert interval.n == 4


def test_one_pair_claims_nothing() -> None:
    """A single value has an unbounded interval, null in JSON, never NaN."""
    interval = paired_bootstrap([0.9], [0.1])
    assert (interval.low, interval.high, interval.n) == (-math.inf, math.inf, 1)
    assert json.loads(json.dumps(interval.to_json(), allow_nan=False)) == {
        "mean": 0.8,
        "low": None,
        "high": None,
        "level": 0.95,
        "n": 1,
    }


def test_equal_values_have_no_width() -> None:
    """All-equal values give their value as both ends."""
    assert bootstrap_mean([0.25] * 7) == Interval(0.25, 0.25, 0.25, 0.95, 7)


def test_zero_is_a_seed_and_none_is_not() -> None:
    """Seed 0 repeats itself, seed 1 differs, None draws afresh."""
    values = np.random.default_rng(2).uniform(size=30).tolist()
    zero, again, one = (bootstrap_mean(values, resamples=500, seed=s) for s in (0, 0, 1))
    fresh = {bootstrap_mean(values, resamples=500, seed=None).low for _ in range(3)}
    assert zero == again != one
    assert len(fresh) > 1


def test_higher_level_is_wider_and_holds_the_mean() -> None:
    """A 99 % interval contains the 80 % one, and both contain the mean."""
    values = np.random.default_rng(3).uniform(size=60).tolist()
    narrow, wide = (bootstrap_mean(values, level=level) for level in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high


def test_long_lists_are_resampled_in_batches() -> None:
    """A list longer than one batch still gives an interval around its mean."""
    values = np.random.default_rng(4).uniform(size=30_000).tolist()
    interval = bootstrap_mean(values, resamples=200)
    assert interval.low < 0.5 < interval.high
    assert interval.high - interval.low < 0.02


@pytest.mark.parametrize(
    ("values", "level", "resamples", "message"),
    [
        ([], 0.95, 10, "at least one value"),
        ([0.1, math.nan], 0.95, 10, "finite values"),
        ([0.1, 0.2], 1.0, 10, r"level must be in \(0, 1\), got 1.0"),
        ([0.1, 0.2], 0.95, 0, "resamples must be >= 1, got 0"),
    ],
)
def test_refuses_what_has_no_answer(
    values: list[float], level: float, resamples: int, message: str
) -> None:
    """Each unusable argument is named."""
    with pytest.raises(ValueError, match=message):
        bootstrap_mean(values, level=level, resamples=resamples)


def test_refuses_unpaired_lists() -> None:
    """Lists of different length are not pairs."""
    with pytest.raises(ValueError, match="equal lengths, got 2 and 1"):
        paired_bootstrap([0.1, 0.2], [0.1])


@pytest.mark.parametrize(
    ("rows", "spread"),
    [
        (3, (0.1, 0.05, 0.05)),  # what differs is the seed
        (5, (0.02, 0.2, 0.3)),  # both
        (5, (0.0, 0.3, 0.1)),  # the example
    ],
)
def test_a_crossed_interval_covers_also_with_few_rows(
    rows: int, spread: tuple[float, float, float]
) -> None:
    """With rows and columns that both vary, a 90 % interval holds the truth 84-99 % of the time."""
    rng, hits = np.random.default_rng(5), 0
    for seed in range(200):
        shapes = ((rows, 1), (1, 40), (rows, 40))
        noise = sum(sd * rng.normal(size=shape) for sd, shape in zip(spread, shapes, strict=True))
        interval = crossed_bootstrap(0.3 + noise, level=0.9, resamples=800, seed=seed)
        hits += interval.low <= 0.3 <= interval.high
    assert 0.84 <= hits / 200 <= 0.99


def test_a_crossed_interval_is_wider_than_one_of_pooled_cells() -> None:
    """Rows of one value each are not so many independent values: cells are no sample."""
    rng = np.random.default_rng(6)
    matrix = rng.normal(size=(5, 1)) + 0.01 * rng.normal(size=(5, 50))
    crossed = crossed_bootstrap(matrix)
    pooled = bootstrap_mean(matrix.ravel().tolist())
    assert crossed.high - crossed.low > 3 * (pooled.high - pooled.low)
    assert crossed.mean == pytest.approx(pooled.mean)
    turned = crossed_bootstrap(matrix.T)
    assert (turned.low, turned.high) == pytest.approx((crossed.low, crossed.high), rel=0.2)


def test_a_crossed_interval_of_a_constant_has_no_width() -> None:
    """Equal values give their value as both ends, also with gaps."""
    assert crossed_bootstrap([[0.5, 0.5], [math.nan, 0.5]]) == Interval(0.5, 0.5, 0.5, 0.95, 3)


@pytest.mark.parametrize(
    "matrix", [[[0.1, 0.2, 0.3]], [[0.1], [0.2]], [[0.1, 0.3], [math.nan, math.nan]]]
)
def test_one_row_or_column_claims_nothing(matrix: list[list[float]]) -> None:
    """One seed, or one example, says nothing about how others would have been."""
    interval = crossed_bootstrap(matrix)
    assert (interval.low, interval.high) == (-math.inf, math.inf)
    assert interval.mean == pytest.approx(0.2 if interval.n == 3 else np.nanmean(matrix))


def test_gaps_are_no_zeros() -> None:
    """The mean is over the values that there are; the ends are on its two sides, and repeat by seed."""
    rng = np.random.default_rng(7)
    matrix = rng.uniform(0.6, 0.9, size=(4, 30))
    matrix[rng.uniform(size=matrix.shape) < 0.3] = math.nan
    zero, again, one = (crossed_bootstrap(matrix, resamples=500, seed=s) for s in (0, 0, 1))
    assert zero == again != one
    assert zero.mean == pytest.approx(np.nanmean(matrix))
    assert 0.6 < zero.low < zero.mean < zero.high < 0.9
    assert zero.n == np.isfinite(matrix).sum()


def test_rows_and_columns_that_are_alike_still_have_an_interval() -> None:
    """A chessboard's rows and columns all have one mean: its spread is what resampling shows."""
    interval = crossed_bootstrap(np.indices((4, 4)).sum(axis=0) % 2)
    assert interval.low < interval.mean == 0.5 < interval.high


@pytest.mark.parametrize(
    ("matrix", "level", "resamples", "message"),
    [
        ([0.1, 0.2], 0.95, 10, r"needs rows and columns, got shape \(2,\)"),
        ([[math.nan]], 0.95, 10, "at least one value"),
        ([[]], 0.95, 10, "at least one value"),
        ([[0.1, math.inf]], 0.95, 10, "finite values"),
        ([[0.1]], 0.0, 10, r"level must be in \(0, 1\), got 0.0"),
        ([[0.1]], 0.95, 0, "resamples must be >= 1, got 0"),
    ],
)
def test_refuses_a_matrix_that_has_no_answer(
    matrix: list[Any], level: float, resamples: int, message: str
) -> None:
    """Each unusable argument is named."""
    with pytest.raises(ValueError, match=message):
        crossed_bootstrap(matrix, level=level, resamples=resamples)
