"""Engines continue prompts. This file holds the protocol; each engine has a file of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from icl_align.types import Decoding, Response


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


class ContextOverflowError(ValueError):
    """A prompt plus its token bound is longer than the model's context."""
