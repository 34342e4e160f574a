"""Shares of unshifted, marginal and shifted tokens, by position and class, and what a pack removes."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from icl_align.analysis._shift_compare import Figures
from icl_align.analysis._token_classes import KINDS, visible
from icl_align.stats import Interval, paired_bootstrap
from icl_align.stats.bootstrap import percentile_interval

EDGES = (0, 1, 2, 3, 4, 5, 10, 20, 50, 100, 200)
"""Where bins of positions begin, from 0; the last one is open."""
_MARGINAL = 3
_RESAMPLES = 10_000
_MOST_MOVED = 15
_LEAST_ANSWERS = 5
"""With anything to remove; a share of less says nothing."""


class Measured(Protocol):
    """A token with its figures, as `TokenShift` is."""

    @property
    def example(self) -> int: ...
    @property
    def position(self) -> int: ...
    @property
    def text(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def figures(self) -> Figures: ...


def shares(tokens: Sequence[Measured]) -> dict[str, Any]:
    """Counts and means over tokens; None where there is nothing to take a mean of.

    "unshifted", "marginal" and "shifted" are shares of ranks 1, 2 and 3, and above 3.
    """
    ranks = [one.figures.rank for one in tokens]
    return {
        "tokens": len(ranks),
        "unshifted": _mean([rank == 1 for rank in ranks]),
        "marginal": _mean([1 < rank <= _MARGINAL for rank in ranks]),
        "shifted": _mean([rank > _MARGINAL for rank in ranks]),
        "rank": _mean(ranks),
        "probability": _mean([math.exp(one.figures.logprob) for one in tokens]),
        "aligned_probability": _mean(
            [math.exp(x) for one in tokens if (x := one.figures.aligned_logprob) is not None]
        ),
        "kl_aligned_base": _mean([x for one in tokens if (x := one.figures.kl) is not None]),
        "kl_base_aligned": _mean([x for one in tokens if (x := one.figures.kl_back) is not None]),
    }


def summary(tokens: Sequence[Measured]) -> dict[str, Any]:
    """Shares of all tokens, by class and by bins of positions, and the tokens moved most often."""
    by_kind = {kind: [one for one in tokens if one.kind == kind] for kind in KINDS}
    bins: dict[int, list[Measured]] = defaultdict(list)
    for one in tokens:
        bins[max(edge for edge in EDGES if edge <= one.position)].append(one)
    moved = [one for one in tokens if one.figures.rank > 1]
    counts = Counter((visible(one.text), one.kind) for one in moved)
    totals = Counter((visible(one.text), one.kind) for one in tokens)
    firsts = [
        one.figures.aligned_rank == 1 for one in tokens if one.figures.aligned_rank is not None
    ]
    return {
        **shares(tokens),
        "aligned_first": _mean(firsts),
        "by_class": {kind: shares(part) for kind, part in by_kind.items() if part},
        "by_position": [{"from": edge, **shares(bins[edge])} for edge in EDGES if bins[edge]],
        "moved": [
            {"text": text, "class": kind, "moved": count, "of": totals[text, kind]}
            for (text, kind), count in sorted(counts.items(), key=lambda x: (-x[1], x[0]))[
                :_MOST_MOVED
            ]
        ],
    }


def removal(zero: Sequence[Measured], pack: Sequence[Measured], seed: int = 0) -> dict[str, Any]:
    """How much of the zero-shot shift is gone behind a pack, paired by answer.

    Each measure is a mean per answer; what is averaged and resampled is answers. "share" is the part of
    the zero-shot mean that is gone, 1 for all of it and below 0 where the pack adds; None where fewer
    than five answers have anything to remove.

    Args:
        zero: Tokens behind the zero-shot context.
        pack: Tokens of the same answers behind the pack.
        seed: Seed of the resampling.
    """
    measures: dict[str, Callable[[Measured], float | None]] = {
        "moved": lambda one: float(one.figures.rank > 1),
        "shifted": lambda one: float(one.figures.rank > _MARGINAL),
        "kl_aligned_base": lambda one: one.figures.kl,
    }
    found = {}
    for name, measure in measures.items():
        a, b = _by_answer(zero, measure), _by_answer(pack, measure)
        both = sorted(a.keys() & b.keys())
        before, after = [a[key] for key in both], [b[key] for key in both]
        share = _gone(before, after, seed)
        found[name] = {
            "zero_shot": _mean(before),
            "pack": _mean(after),
            "difference": paired_bootstrap(before, after, seed=seed).to_json() if both else None,
            "share": share.to_json() if share else None,
        }
    return found


def _gone(before: Sequence[float], after: Sequence[float], seed: int) -> Interval | None:
    """1 - sum(after) / sum(before), with the interval of its bootstrap over answers."""
    one, other = np.asarray(before, np.float64), np.asarray(after, np.float64)
    if int((one > 0).sum()) < _LEAST_ANSWERS:
        return None
    rng = np.random.default_rng(seed)
    draws = np.empty(_RESAMPLES)
    for place in range(_RESAMPLES):
        chosen = rng.integers(one.size, size=one.size)
        whole = one[chosen].sum()
        draws[place] = 1 - other[chosen].sum() / whole if whole > 0 else np.nan
    known = draws[np.isfinite(draws)]
    return percentile_interval(known, float(1 - other.sum() / one.sum()), 0.95, one.size)


def _by_answer(
    tokens: Iterable[Measured], measure: Callable[[Measured], float | None]
) -> dict[int, float]:
    values: dict[int, list[float]] = defaultdict(list)
    for one in tokens:
        value = measure(one)
        if value is not None:
            values[one.example].append(value)
    return {example: math.fsum(part) / len(part) for example, part in values.items()}


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
