"""The objective of a sweep: a weighted mean of named terms, each kept per example."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from icl_align.errors import UserError
from icl_align.scorers import Scorer
from icl_align.types import Example, Response, Score


@dataclass(frozen=True, slots=True)
class Term:
    """One named part of an objective.

    Attributes:
        name: How it is reported; without dots.
        weight: Its share, relative to the other terms' weights, > 0.
        scorer: What grades it.
    """

    name: str
    weight: float
    scorer: Scorer

    def __post_init__(self) -> None:
        """Refuses names and weights that cannot be used.

        Raises:
            UserError: naming the term.
        """
        if not self.name or "." in self.name:
            raise UserError(f"a term needs a name without dots, got {self.name!r}")
        if not 0 < self.weight < math.inf:
            raise UserError(f"the weight of term {self.name!r} must be above 0, got {self.weight}")


@dataclass(frozen=True, slots=True)
class Objective:
    """A scorer whose value is the weighted mean of its terms' values.

    Where one term has no verdict the whole has none: a mean over fewer terms would be another
    quantity. Aspects are the terms' values under their names, and their own aspects under
    `term.aspect`.

    Attributes:
        terms: At least one, with distinct names.
    """

    terms: tuple[Term, ...]

    def __post_init__(self) -> None:
        """Refuses an objective without terms, or with two of one name.

        Raises:
            UserError: naming what is wrong.
        """
        if not self.terms:
            raise UserError("an objective needs at least one term, got none")
        names = [term.name for term in self.terms]
        if len(set(names)) < len(names):
            raise UserError(f"the terms of an objective need distinct names, got {names}")

    @property
    def name(self) -> str:
        """The term's name, where an objective is a term of another."""
        return "objective"

    @property
    def fingerprint(self) -> str:
        """Names, weights and fingerprints of the terms."""
        parts = [[term.name, float(term.weight), term.scorer.fingerprint] for term in self.terms]
        return f"objective:1:{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]}"

    def score(self, examples: Sequence[Example], responses: Sequence[Response]) -> list[Score]:
        """Grades `responses[i]` as an answer to `examples[i]` by every term.

        Raises:
            ValueError: a term gave another number of scores than it was asked for.
        """
        return self.combine([part.score(examples, responses) for part in self.parts], responses)

    @property
    def parts(self) -> tuple[Scorer, ...]:
        """The terms' scorers."""
        return tuple(term.scorer for term in self.terms)

    def combine(
        self, columns: Sequence[Sequence[Score]], responses: Sequence[Response]
    ) -> list[Score]:
        """Makes one score of the terms' scores of each response.

        Raises:
            ValueError: a term gave another number of scores than it was asked for.
        """
        for term, column in zip(self.terms, columns, strict=True):
            if len(column) != len(responses):
                raise ValueError(
                    f"term {term.name!r} gave {len(column)} scores to {len(responses)} responses"
                )
        return [self._combine(row) for row in zip(*columns, strict=True)]

    def _combine(self, row: tuple[Score, ...]) -> Score:
        aspects: dict[str, float] = {}
        notes: list[str] = []
        parts: list[float] = []
        for term, score in zip(self.terms, row, strict=True):
            if score.value is not None:
                aspects[term.name] = score.value
                parts.append(term.weight * score.value)
            aspects |= {f"{term.name}.{name}": value for name, value in score.aspects.items()}
            if score.note or score.value is None:
                notes.append(f"{term.name}: {score.note or 'no verdict, no reason given'}")
        complete = len(parts) == len(self.terms)
        total = math.fsum(term.weight for term in self.terms)
        value = min(1.0, math.fsum(parts) / total) if complete else None
        return Score(value, aspects, "; ".join(notes), self.name)
