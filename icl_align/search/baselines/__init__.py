"""The methods a search is compared with, at the same budget and on the same evaluator.

Each is called as `METHODS[name](space, ids=..., seed=..., evaluations=...)`, and is a sampler that reads
all it knows from the study. `dspy_search` runs DSPy's own optimisers, which hold the loop themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from icl_align.search.baselines.dspy_search import dspy_search
from icl_align.search.baselines.evolution import Evolution
from icl_align.search.baselines.greedy import GreedyForward
from icl_align.search.baselines.halving import SuccessiveHalving
from icl_align.search.baselines.method import Method
from icl_align.search.baselines.mipro import MiproSets
from icl_align.space import Space

__all__ = [
    "METHODS",
    "Evolution",
    "GreedyForward",
    "Method",
    "MethodFactory",
    "MiproSets",
    "SuccessiveHalving",
    "dspy_search",
]


class MethodFactory(Protocol):
    """Makes a baseline for a space, the ids of the development examples, and a budget."""

    def __call__(self, space: Space, *, ids: Sequence[str], seed: int, evaluations: int) -> Method:
        """Makes it; the budget is a number of (prompt, example) pairs."""
        ...


METHODS: Mapping[str, MethodFactory] = {
    "greedy": GreedyForward,
    "halving": SuccessiveHalving,
    "evolution": Evolution,
    "mipro_sets": MiproSets,
}
"""The baselines by name."""
