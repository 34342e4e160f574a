"""Promises of icl_align.stats.agreement, clustered and alt_test."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from icl_align.errors import UserError
from icl_align.stats import Interval
from icl_align.stats.agreement import agreement, rank_agreement
from icl_align.stats.alt_test import alt_test, benjamini_yekutieli
from icl_align.stats.clustered import clustered_mean


def _rows(seed: int = 0, n: int = 200) -> tuple[list[int], list[int], list[str]]:
    rng = np.random.default_rng(seed)
    people = rng.choice([1, 0, -1], size=n, p=[0.5, 0.1, 0.4]).tolist()
    judged = [
        int(one if rng.random() < 0.7 else other)
        for one, other in zip(people, rng.choice([1, 0, -1], size=n), strict=True)
    ]
    return judged, people, [f"c{number // 4}" for number in range(n)]


def _mean(interval: Interval | None) -> float:
    assert interval is not None
    return interval.mean


def test_figures_equal_scikit_learn() -> None:
    """Kappa, weighted kappa and macro precision, recall and F1 are the usual ones."""
    metrics = pytest.importorskip("sklearn.metrics")
    judged, people, clusters = _rows()
    found = agreement(judged, people, clusters, resamples=200)
    assert _mean(found.accuracy) == pytest.approx(metrics.accuracy_score(people, judged))
    assert _mean(found.kappa) == pytest.approx(metrics.cohen_kappa_score(people, judged))
    assert _mean(found.kappa_weighted) == pytest.approx(
        metrics.cohen_kappa_score(people, judged, weights="linear")
    )
    wanted = metrics.precision_recall_fscore_support(people, judged, average="macro")
    for figure, value in zip((found.precision, found.recall, found.f1), wanted, strict=False):
        assert _mean(figure) == pytest.approx(value)


def test_a_missing_verdict_is_wrong_in_one_figure_and_absent_from_the_others() -> None:
    """It is never a tie and never right, and it is counted."""
    found = agreement([1, None, -1, 0], [1, 1, -1, 0], list("abcd"), resamples=200)
    assert (_mean(found.accuracy), _mean(found.accuracy_answered)) == (0.75, 1.0)
    assert (found.n, found.missing, _mean(found.kappa)) == (4, 1, 1.0)
    assert found.confusion == ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 0))


def test_a_tie_counts_half_where_people_see_none() -> None:
    """A judge of ties only is as good as a coin on pairs that people order."""
    found = agreement([0, 0, 0], [1, -1, 0], list("abc"), resamples=200)
    assert _mean(found.accuracy_non_tie) == 0.5


def test_undefined_figures_are_none_and_never_nan() -> None:
    """Kappa without variety, and everything without verdicts, is None; JSON has no NaN."""
    assert agreement([1, 1], [1, 1], ["a", "b"], resamples=100).kappa is None
    silent = agreement([None, None], [1, -1], ["a", "b"], resamples=100)
    assert silent.kappa is None
    assert silent.accuracy_answered is None
    assert _mean(silent.accuracy) == 0.0


def test_intervals_widen_when_rows_share_instructions() -> None:
    """Ten copies of each row say no more than the row itself."""
    values = np.random.default_rng(1).integers(2, size=40).astype(float).tolist()
    alone = clustered_mean(values, [str(number) for number in range(40)])
    copies = clustered_mean(
        [one for one in values for _ in range(10)], [str(n) for n in range(40) for _ in range(10)]
    )
    assert alone is not None
    assert copies is not None
    assert copies.high - copies.low == pytest.approx(alone.high - alone.low, rel=0.02)
    naive = clustered_mean([one for one in values for _ in range(10)], [str(n) for n in range(400)])
    assert naive is not None
    assert naive.high - naive.low < 0.5 * (alone.high - alone.low)


def test_clustered_intervals_cover_about_as_often_as_they_say() -> None:
    """Over 200 samples of correlated rows, a 90 % interval holds the true mean 82-96 % of the time."""
    rng, hits = np.random.default_rng(2), 0
    for seed in range(200):
        rates = rng.beta(3, 2, size=40)
        rows = [(float(rng.random() < rate), str(n)) for n, rate in enumerate(rates) for _ in "123"]
        found = clustered_mean(
            [value for value, _ in rows], [c for _, c in rows], level=0.9, resamples=600, seed=seed
        )
        assert found is not None
        hits += found.low <= 0.6 <= found.high
    assert 0.82 <= hits / 200 <= 0.96


def test_one_instruction_bounds_nothing() -> None:
    """However many rows it has, a single cluster gives infinite ends."""
    found = clustered_mean([0.0, 1.0, 1.0], ["a"] * 3)
    assert found is not None
    assert (found.low, found.high) == (-math.inf, math.inf)


def test_the_same_seed_gives_the_same_interval() -> None:
    """Seed 0 is a seed."""
    rows = _rows(3, 60)
    assert agreement(*rows, seed=0, resamples=300) == agreement(*rows, seed=0, resamples=300)
    assert agreement(*rows, seed=0, resamples=300) != agreement(*rows, seed=1, resamples=300)


@pytest.mark.parametrize(("judged", "people"), [([2], [1]), ([1], [2]), ([1, 0], [1]), ([], [])])
def test_refuses_what_is_no_verdict(judged: list[int], people: list[int]) -> None:
    """Other numbers, unequal lengths and no rows at all are refused."""
    with pytest.raises(ValueError, match="verdict"):
        agreement(judged, people, ["a"] * len(people))


def test_rank_correlations_ignore_scale_and_count_the_missing() -> None:
    """A monotone judge has correlation 1; a constant one has none."""
    people = [0.1, 0.4, 0.5, 0.9]
    found = rank_agreement([1.0, 10.0, None, 1000.0], people, list("abcd"), resamples=100)
    assert _mean(found.spearman) == _mean(found.kendall) == pytest.approx(1.0)
    assert (found.n, found.missing) == (3, 1)
    assert rank_agreement([1.0] * 4, people, list("abcd")).spearman is None


def _annotators(n: int, seed: int, right: float) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    truth = rng.choice([1, -1], size=n)
    return [[int(t if rng.random() < right else -t) for _ in range(3)] for t in truth]


def test_a_perfect_judge_replaces_noisy_annotators_and_a_coin_does_not() -> None:
    """The majority's verdict wins against each annotator; random verdicts against none."""
    rows = _annotators(300, 0, 0.8)
    best = alt_test([1 if sum(row) > 0 else -1 for row in rows], rows, epsilon=0.1)
    assert (best.winning_rate, best.passes) == (1.0, True)
    assert best.advantage > 0.8
    rng = np.random.default_rng(5)
    coin = alt_test([int(one) for one in rng.choice([1, -1], size=300)], rows, epsilon=0.1)
    assert (coin.winning_rate, coin.passes) == (0.0, False)


def test_an_annotator_like_the_others_needs_the_allowance() -> None:
    """A fourth annotator of the same quality passes with epsilon 0.2, and not with 0."""
    rng = np.random.default_rng(7)
    truth = rng.choice([1, -1], size=400)
    rows = [[int(t if rng.random() < 0.85 else -t) for _ in range(4)] for t in truth]
    judged, people = [row[3] for row in rows], [row[:3] for row in rows]
    assert alt_test(judged, people, epsilon=0.2).passes
    assert not alt_test(judged, people, epsilon=0.0).passes


def test_alt_test_by_hand() -> None:
    """Advantage is how often the judge is at least as close to the others as the one left out."""
    rows = [[1, 1, -1], [1, 1, 1], [-1, -1, 1], [0, 1, 0]]
    found = alt_test([1, 1, 1, None], rows)
    # Left out 1st: others (1,-1), (1,1), (-1,1): judge .5/1/.5, annotator .5/1/.5: all even.
    # Left out 3rd: others (1,1), (1,1), (-1,-1): judge 1/1/0, annotator 0/1/0: all at least even.
    assert found.advantages == (1.0, 1.0, 1.0)
    assert (found.n, found.missing) == (3, 1)


def test_copies_of_rows_do_not_help_once_instructions_are_known() -> None:
    """With clusters, ten copies of each row give the p-values of the rows themselves."""
    rows = _annotators(60, 3, 0.8)
    judged = [row[0] for row in _annotators(60, 3, 0.8)]
    once = alt_test(judged, rows)
    copies = alt_test(
        [one for one in judged for _ in range(10)],
        [row for row in rows for _ in range(10)],
        [str(n) for n in range(60) for _ in range(10)],
    )
    assert copies.p_values == pytest.approx(once.p_values)
    assert copies.units == once.units == 60


def test_alt_test_needs_three_annotators() -> None:
    """With two it says so."""
    with pytest.raises(UserError, match="at least 3 labels per row, got 2"):
        alt_test([1, 0], [[1, 1], [0, 0]])
    with pytest.raises(UserError, match="the same annotators on every row"):
        alt_test([1, 0], [[1, 1, 1], [0, 0]])


def test_benjamini_yekutieli_by_hand() -> None:
    """Steps up: with m = 3 the bounds are rank * q / (3 * (1 + 1/2 + 1/3))."""
    bound = 0.05 / (3 * (11 / 6))
    assert benjamini_yekutieli([bound * 0.99, 0.9, 0.9], 0.05) == [True, False, False]
    assert benjamini_yekutieli([bound * 1.01, 0.9, 0.9], 0.05) == [False] * 3
    assert benjamini_yekutieli([bound * 2.9] * 3, 0.05) == [True] * 3
    for order in itertools.permutations([0.001, 0.02, 0.9]):
        assert sum(benjamini_yekutieli(order, 0.05)) == 1
