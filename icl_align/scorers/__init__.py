"""Scorers grade responses. This file holds the protocols; each scorer has a file of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from icl_align.types import Example, Preference, Response, Score


class Scorer(Protocol):
    """Grades responses to examples, one score each, in order.

    Attributes:
        name: The term's name in an objective, for people.
        fingerprint: Everything that can change a score (model digest, settings, version); part of
            the ledger's key.
    """

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    def score(self, examples: Sequence[Example], responses: Sequence[Response]) -> list[Score]:
        """Grades `responses[i]` as an answer to `examples[i]`; `value=None` is no verdict."""
        ...


class PairJudge(Protocol):
    """Says which of two responses to an example is the better one.

    Attributes:
        name: For people.
        fingerprint: Everything that can change a verdict; part of the ledger's key.
    """

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    def prefer(
        self,
        examples: Sequence[Example],
        first: Sequence[Response],
        second: Sequence[Response],
    ) -> list[Preference]:
        """Compares `first[i]` with `second[i]` as answers to `examples[i]`; None is no verdict."""
        ...
