"""What a tracker is told of each trial, added up from the trials' records alone.

So a trial told afterwards, from the study, has the numbers that it would have had live. What is believed
of the best prompt is the exception: it is the sampler's, and told live now and then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from icl_align.search.budget import Budget, Prices, Spent
from icl_align.search.ranking import Ranked
from icl_align.search.study import TrialRecord
from icl_align.trackers.base import Row
from icl_align.types import Usage


@dataclass
class Rows:
    """Makes rows of trials that come in their order.

    Attributes:
        budget: What the sweep may spend.
    """

    budget: Budget
    _spent: Spent = field(default=Spent(), init=False)
    _usage: Usage = field(default=Usage(), init=False)
    _whole: dict[str, bool] = field(default_factory=dict, init=False)
    _best: float | None = field(default=None, init=False)

    def add(self, trial: TrialRecord, best: Ranked | None = None) -> Row:
        """Counts one more trial and gives its row.

        Args:
            trial: The trial, told.
            best: What is believed of the best prompt now, where it is known.
        """
        self._count(trial)
        values = {
            "trial/number": trial.number,
            "trial/complete": trial.state == "complete",
            "trial/failed": trial.state == "fail",
            **_measured(trial),
            **self._so_far(best),
        }
        return Row(trial.number, self._spent.generations, trial.state, finite(values))

    def _count(self, trial: TrialRecord) -> None:
        spent = self._spent
        self._usage += trial.usage
        self._spent = Spent(
            spent.trials + 1,
            spent.generations + trial.measured,
            self._usage.generated_tokens,
            spent.seconds + trial.seconds,
            self.budget.prices.of(self._usage),
        )
        if trial.evaluation is not None:
            digest, whole = trial.evaluation.prompt.digest, trial.state == "complete"
            self._whole[digest] = self._whole.get(digest, False) or whole
        if trial.mean is not None:
            self._best = trial.mean if self._best is None else max(self._best, trial.mean)

    def _so_far(self, best: Ranked | None) -> dict[str, Any]:
        spent = self._spent
        return {
            "best/mean": self._best,
            "best/estimate": best.estimate if best else None,
            "best/sd": best.sd if best else None,
            "best/trial": best.number if best else None,
            "spent/share": self.budget.share(spent),
            "spent/trials": spent.trials,
            "spent/generations": spent.generations,
            "spent/tokens": spent.tokens,
            "spent/seconds": spent.seconds,
            "spent/money": None if self.budget.prices == Prices() else spent.money,
            "spent/prefill_saved": self._usage.saved,
            "search/prompts": len(self._whole),
            "search/whole": sum(self._whole.values()),
        }


def _measured(trial: TrialRecord) -> dict[str, Any]:
    """The trial's own numbers; those of its prompt only where it was measured."""
    usage = trial.usage
    own = {
        "trial/measured": trial.measured,
        "trial/seconds": trial.seconds,
        "trial/tokens_per_second": usage.generated_tokens / usage.seconds
        if usage.seconds
        else None,
        "trial/prefill_saved": usage.saved,
    }
    if trial.evaluation is None:
        return own
    prompt = trial.evaluation.prompt
    return own | {
        "trial/mean": trial.evaluation.mean if trial.evaluation.n else None,
        "trial/n": trial.evaluation.n,
        "trial/missing": trial.evaluation.missing,
        "trial/length": trial.length,
        "trial/k": len(prompt.exemplars),
        "trial/temperature": prompt.decoding.temperature,
    }


def finite(values: Mapping[str, Any]) -> dict[str, float]:
    """Gives the finite numbers among values, as floats."""
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, bool | int | float) and math.isfinite(value)
    }
