"""Engines continue prompts. This file holds the protocol; each engine has a file of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from icl_align.errors import UserError
from icl_align.types import Decoding, Response, TokenLogProbs


class Engine(Protocol):
    """Continues prompts, one response each, in order.

    Attributes:
        name: The kind of engine and the model, for people.
        fingerprint: Everything that can change the generated text (weights digest, dtype, library
            versions, strategy); part of the ledger's key.
    """

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    def generate(
        self, prompts: Sequence[str], *, stop: Sequence[str], decoding: Decoding
    ) -> list[Response]:
        """Continues each prompt until a stop string, end of sequence or `decoding.max_tokens`.

        Raises:
            ContextOverflowError: before any work, when a prompt and its bound do not fit.
        """
        ...


@runtime_checkable
class Tokenizing(Protocol):
    """An engine that can also count tokens and knows its context length."""

    @property
    def context_length(self) -> int: ...

    def count_tokens(self, text: str) -> int: ...


@runtime_checkable
class Streaming(Protocol):
    """An engine that hands over each response as soon as it is there, so that none is lost."""

    def stream(
        self, prompts: Sequence[str], *, stop: Sequence[str], decoding: Decoding
    ) -> Iterator[tuple[int, Response]]:
        """Gives pairs of a prompt's index and its response, each index once, in any order.

        Raises:
            ContextOverflowError: before the first pair, as `Engine.generate` does.
        """
        ...


@runtime_checkable
class Scoring(Protocol):
    """An engine that can also say how likely its model finds a given text."""

    def loglikelihood(self, pairs: Sequence[tuple[str, str]]) -> list[TokenLogProbs]:
        """Scores continuations, one result each, in order.

        Args:
            pairs: A prompt and the text that follows it. They are tokenized together; a token that
                holds characters of both counts as the continuation's.

        Raises:
            ContextOverflowError: before any work, when a pair does not fit the context.
        """
        ...


class ContextOverflowError(UserError):
    """A prompt plus its token bound is longer than the model's context."""
