"""Scorers grade responses. This file holds the protocols; each scorer has a file of its own."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Protocol, runtime_checkable

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


@runtime_checkable
class Composite(Protocol):
    """A scorer whose scores follow from other scorers': they are remembered, and never asked for again.

    Attributes:
        parts: The scorers it rests on.
    """

    @property
    def parts(self) -> Sequence[Scorer]: ...

    def combine(
        self, columns: Sequence[Sequence[Score]], responses: Sequence[Response]
    ) -> list[Score]:
        """Makes scores of the parts' scores: `columns[p][i]` is part p's of `responses[i]`."""
        ...


@runtime_checkable
class Remembering(Protocol):
    """A scorer that asks some things once per instruction, and notes the replies.

    Attributes:
        notes: Raw replies by key; an evaluator with a ledger puts the ledger's in their place, so that a
            run that is continued goes on with the same ones.
    """

    notes: MutableMapping[str, str]


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
