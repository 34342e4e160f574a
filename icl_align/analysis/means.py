"""Means of scores of which several may belong to one item."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from icl_align.stats import Interval, bootstrap_mean


def mean_over_items(
    scores: Iterable[tuple[str, float]], *, resamples: int, seed: int | None
) -> Interval | None:
    """The mean of all scores, with the 95 % interval that resampling items gives.

    Scores of one item (by several models, in two turns) belong together, and more of them are no more
    items. The interval is that of the items' own means (`stats.bootstrap_mean`), moved by what the mean
    of all scores differs from theirs, which is nothing where items have as many scores each.

    Args:
        scores: An item's name and a score each.
        resamples: Bootstrap samples.
        seed: Seed of the bootstrap; None draws a fresh one.

    Returns:
        None where there are no scores; otherwise `n` is the number of scores.
    """
    by_item: dict[str, list[float]] = {}
    for item, score in scores:
        by_item.setdefault(item, []).append(score)
    if not by_item:
        return None
    every = [score for own in by_item.values() for score in own]
    mean = math.fsum(every) / len(every)
    items = [math.fsum(own) / len(own) for own in by_item.values()]
    found = bootstrap_mean(items, resamples=resamples, seed=seed)
    shift = mean - found.mean
    return replace(found, mean=mean, low=found.low + shift, high=found.high + shift, n=len(every))
