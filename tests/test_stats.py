"""Promises of icl_align.stats."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from icl_align.stats import Interval, bootstrap_mean, paired_bootstrap


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
