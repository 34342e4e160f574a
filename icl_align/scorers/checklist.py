"""Scores answers by the programmatic checks that come with an example."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches

from icl_align.errors import UserError
from icl_align.scorers.kinds import KINDS
from icl_align.types import Example, Response, Score

Kind = Callable[[Sequence[str], Response], float]
"""Grades a response, in [0, 1], given a check's values; ValueError for values it cannot use."""


class ChecklistScorer:
    """Grades a response by its example's checks: their weighted mean, each check reported.

    An answer without text passes nothing. An example without checks has no verdict.
    """

    def __init__(self, kinds: Mapping[str, Kind] = KINDS) -> None:
        """Stores the kinds of checks that are known, by name."""
        self.kinds = kinds

    @property
    def name(self) -> str:
        """The term's name."""
        return "checklist"

    @property
    def fingerprint(self) -> str:
        """Which kinds are known, and by which functions; version 1 of the rules."""
        known = sorted(f"{name}={_place(kind)}" for name, kind in self.kinds.items())
        return f"checklist:1:{hashlib.sha256(' '.join(known).encode()).hexdigest()[:16]}"

    def score(self, examples: Sequence[Example], responses: Sequence[Response]) -> list[Score]:
        """Grades `responses[i]` by the checks of `examples[i]`.

        Aspects are the checks' outcomes by aspect name; a shared one is averaged by weight.

        Raises:
            UserError: a check's kind is unknown, or its values or weight cannot be used.
        """
        return [self._grade(e, r) for e, r in zip(examples, responses, strict=True)]

    def _grade(self, example: Example, response: Response) -> Score:
        if not example.checks:
            return Score(None, note=f"{_called(example)} has no checks", judge=self.name)
        blank = not response.text.strip()
        outcomes: dict[str, list[tuple[float, float]]] = {}
        for check in example.checks:
            kind = self._kind(example, check.kind)
            if not 0 < check.weight < math.inf:
                raise UserError(
                    f"a check's weight must be above 0, got {check.weight} "
                    f"for {check.kind!r} of {_called(example)}"
                )
            try:
                outcome = kind(check.values, response)
            except ValueError as error:
                raise UserError(f"check {check.kind!r} of {_called(example)}: {error}") from error
            pair = (0.0 if blank else outcome, check.weight)
            outcomes.setdefault(check.aspect or check.kind, []).append(pair)
        return Score(
            _weighted_mean([pair for pairs in outcomes.values() for pair in pairs]),
            {aspect: _weighted_mean(pairs) for aspect, pairs in outcomes.items()},
            "the response is empty" if blank else "",
            self.name,
        )

    def _kind(self, example: Example, name: str) -> Kind:
        if name in self.kinds:
            return self.kinds[name]
        near = get_close_matches(name, self.kinds, 1, 0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(self.kinds)}"
        raise UserError(f"{_called(example)} has a check of unknown kind {name!r}; {hint}")


def _called(example: Example) -> str:
    return f"example {example.id or example.query[:60]!r}"


def _place(kind: Kind) -> str:
    module, name = getattr(kind, "__module__", ""), getattr(kind, "__qualname__", "")
    return f"{module}.{name}" if name else f"{module}.{type(kind).__qualname__}"


def _weighted_mean(pairs: Sequence[tuple[float, float]]) -> float:
    """The mean of (value, weight) pairs, kept in [0, 1] against rounding."""
    total = math.fsum(weight for _, weight in pairs)
    return min(1.0, math.fsum(value * weight for value, weight in pairs) / total)
