"""The measured sections of an explanation, each with intervals over instructions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from icl_align.explain.games import (
    Floats,
    Walk,
    bounded,
    exact_shapley,
    full,
    left_out,
    sampled_shapley,
)
from icl_align.explain.plan import Plan
from icl_align.explain.wording import Paraphrase


def figure(values: Floats, level: float, seed: int) -> dict[str, Any] | None:
    """A mean with its interval, as JSON; None without any verdict."""
    found = bounded(values, level=level, seed=seed)
    return found.to_json() if found else None


def contributions(
    subsets: Mapping[int, Floats], plan: Plan, k: int, level: float, seed: int
) -> dict[str, Any]:
    """What each exemplar is worth: without it, and on average over all ways to join (Shapley)."""
    alone = left_out(subsets, k)
    shapley = None
    if plan.exact:
        shapley = exact_shapley(subsets, k)
    elif plan.pairs:
        shapley = sampled_shapley(subsets, k, plan.pairs)
    return {
        "method": "exact" if plan.exact else "sampled" if plan.pairs else "none",
        "walks": 2 * len(plan.pairs),
        "subsets": len(plan.masks),
        "rows": [
            {
                "position": i + 1,
                "left_out": figure(alone[i], level, seed),
                "shapley": None if shapley is None else figure(shapley[i], level, seed),
            }
            for i in range(k)
        ],
    }


def orders(
    whole: Floats, others: Mapping[Walk, Floats], level: float, seed: int
) -> dict[str, Any] | None:
    """The winner's order against sampled ones; None where no other was measured."""
    if not others:
        return None
    matrix = np.array([whole - values for values in others.values()])
    rows: list[dict[str, Any]] = [
        {"order": [i + 1 for i in order], "difference": figure(-row, level, seed)}
        for order, row in zip(others, matrix, strict=True)
    ]
    gains = [row["difference"]["mean"] for row in rows if row["difference"]]
    return {
        "winner_minus_others": figure(matrix, level, seed),
        "sd": float(np.std([0.0, *gains], ddof=1)) if gains else None,
        "others": rows,
    }


def curves(subsets: Mapping[int, Floats], k: int, level: float, seed: int) -> list[dict[str, Any]]:
    """Scores by the number of exemplars: the winner's first ones, and its last ones."""
    whole = full(k)
    found = []
    for size in range(k + 1):
        sides = {"first": subsets[full(size)], "last": subsets[whole & ~full(k - size)]}
        means = {name: figure(values, level, seed) for name, values in sides.items()}
        gaps = {
            name: figure(values - subsets[whole], level, seed) for name, values in sides.items()
        }
        found.append({"k": size, **means, "minus_winner": gaps})
    return found


def factorial(
    subsets: Mapping[int, Floats], bare: tuple[Floats, Floats], k: int, level: float, seed: int
) -> dict[str, Any]:
    """System text and exemplars, each there or not: their effects alone, and what they do together.

    Args:
        subsets: With the system text.
        bare: Without it: without exemplars, and with all.
        k: Exemplars of the winner.
        level: Of the intervals.
        seed: Of the bootstrap.
    """
    neither, exemplars = bare
    system, both = subsets[0], subsets[full(k)]
    return {
        "neither": figure(neither, level, seed),
        "system": figure(system - neither, level, seed),
        "exemplars": figure(exemplars - neither, level, seed),
        "both": figure(both - neither, level, seed),
        "interaction": figure(both - system - exemplars + neither, level, seed),
    }


def restated(
    whole: Floats,
    without: Floats,
    others: Sequence[tuple[Paraphrase, Floats]],
    level: float,
    seed: int,
) -> dict[str, Any]:
    """The system text in other words, each minus the winner, beside what leaving it out loses.

    Args:
        whole: The winner's scores.
        without: Those of the winner without its system text.
        others: Those of the winner with each paraphrase.
        level: Of the intervals.
        seed: Of the bootstrap.
    """
    rows: list[dict[str, Any]] = [
        {
            "name": one.name,
            "by": one.by,
            "text": one.text,
            "difference": figure(values - whole, level, seed),
        }
        for one, values in others
    ]
    means = [(row["difference"]["mean"], row["name"]) for row in rows if row["difference"]]
    losses = np.array([whole - values for _, values in others])
    return {
        "rows": rows,
        "loss": figure(losses if len(losses) > 1 else losses[0], level, seed) if rows else None,
        "sd": float(np.std([0.0, *(mean for mean, _ in means)], ddof=1)) if means else None,
        "worst": min(means)[1] if means else None,
        "left_out": figure(whole - without, level, seed),
    }
