"""Scores of ours as metrics of DSPy's, which knows no missing verdict."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from typing import Any

from icl_align.errors import UserError
from icl_align.scorers import Scorer
from icl_align.types import Example, Response, Score

MOST_MISSING = 0.1
"""Share of answers without a verdict above which a run's choice would be guesswork."""
_NEUTRAL = 0.5


class Grader:
    """Grades predictions with a scorer, asked from many threads, one at a time: scorers are not shared.

    A missing verdict is never 0. To an optimiser it is the mean of all verdicts so far, which moves no
    comparison much; for a demo to be taken up it is no. `check` ends a run that had too many.

    Attributes:
        graded: Predictions that were to be measured.
        missing: Those without a verdict.
        unjudged: Demos that were not taken up because there was no verdict.
        failure: The first error of the scorer. DSPy makes 0 of errors and goes on.
    """

    def __init__(self, scorer: Scorer, items: Mapping[str, Example]) -> None:
        """Stores the scorer, and the examples by the ids that DSPy's examples carry."""
        self.scorer, self.items = scorer, items
        self.graded = self.missing = self.unjudged = 0
        self.failure: BaseException | None = None
        self._sum = 0.0
        self._notes: list[str] = []
        self._lock = threading.Lock()

    def metric(self, example: Any, prediction: Any, trace: Any = None) -> float:
        """Gives a score in [0, 1]; with a trace it is asked whether to take up a demo."""
        value = self.grade(example, prediction, demo=trace is not None).value
        if value is None:
            return 0.0 if trace is not None else self.mean
        return value

    def accepts(self, example: Any, prediction: Any, trace: Any = None) -> float:
        """Gives a score in [0, 1] for a demo; without a verdict it is not taken up."""
        return self.metric(example, prediction, [] if trace is None else trace)

    def feedback(
        self,
        example: Any,
        prediction: Any,
        trace: Any = None,
        name: Any = None,
        name_trace: Any = None,
    ) -> Any:
        """Gives a score and the reasons of it, in words."""
        import dspy

        del trace, name, name_trace
        score = self.grade(example, prediction)
        told = score.note or ", ".join(f"{key}: {part:.2f}" for key, part in score.aspects.items())
        wanted = self.items[example.id].answer
        if wanted is not None:
            told += f"\nA good answer: {wanted}"
        value = self.mean if score.value is None else score.value
        return dspy.Prediction(score=value, feedback=told)

    @property
    def mean(self) -> float:
        """The mean of the verdicts so far; one half before any."""
        known = self.graded - self.missing
        return self._sum / known if known else _NEUTRAL

    def grade(self, example: Any, prediction: Any, *, demo: bool = False) -> Score:
        """Grades a prediction, or a demo that may be taken up.

        Raises:
            RuntimeError: the scorer has failed, now or before.
        """
        item, answer = self.items[example.id], Response(prediction.answer, 1, "stop")
        with self._lock:
            if self.failure is not None:
                raise RuntimeError("the scorer has failed") from self.failure
            try:
                (score,) = self.scorer.score([item], [answer])
            except BaseException as error:
                self.failure = error
                raise
            if demo:
                self.unjudged += score.value is None
                return score
            self.graded += 1
            if score.value is None:
                self.missing += 1
                self._notes.append(score.note)
            else:
                self._sum = math.fsum((self._sum, score.value))
        return score

    def check(self, failure: BaseException | None) -> None:
        """Ends a run whose scores cannot be trusted.

        Args:
            failure: What the engine raised, if anything.

        Raises:
            UserError: too many verdicts are missing.
            BaseException: what the engine or the scorer raised.
        """
        for error in (failure, self.failure):
            if error is not None:
                raise error
        if self.missing > MOST_MISSING * self.graded:
            raise UserError(
                f"{self.missing} of {self.graded} answers have no verdict, more than "
                f"{MOST_MISSING:.0%}, so the choice would be guesswork; the first reason: "
                f"{self._notes[0] or 'none given'}"
            )
