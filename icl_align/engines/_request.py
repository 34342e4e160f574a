"""What engines share: checks of a request before any work, and responses put in order."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Sequence
from os.path import commonprefix
from typing import Protocol, TypeVar

from icl_align.engines import ContextOverflowError
from icl_align.errors import UserError

_T = TypeVar("_T")


class Bounded(Protocol):
    """A model that is known by its name and has a longest context."""

    model_id: str

    @property
    def context_length(self) -> int:
        """Most tokens of prompt and completion together."""
        ...


def in_order(found: Iterable[tuple[int, _T]], total: int) -> list[_T]:
    """Puts results that come with their indices, each once and in any order, in order.

    Args:
        found: Pairs of index and result.
        total: How many there are.
    """
    by_index = dict(found)
    return [by_index[index] for index in range(total)]


def check_stop(stop: Sequence[str]) -> None:
    """Refuses stop strings that would match anything.

    Raises:
        UserError: one is empty, or a text was given instead of a list.
    """
    if isinstance(stop, str) or "" in stop:
        raise UserError(f"stop must be a list of strings that are not empty, got {stop!r}")


def check_length(what: str, tokens: int, bound: int, context_length: int, model: str) -> None:
    """Refuses what does not fit a model's context.

    Raises:
        ContextOverflowError: naming what, and the numbers.
    """
    if tokens + bound > context_length:
        raise ContextOverflowError(
            f"{what} has {tokens} tokens and max_tokens is {bound}, together more than the "
            f"{context_length} of {model}; use fewer exemplars or a lower max_tokens"
        )


def check_prompts(model: Bounded, rows: Sequence[Sequence[int]], bound: int) -> None:
    """Refuses prompts that a model cannot continue.

    Args:
        model: The model; its context length is asked for only when a prompt has tokens.
        rows: Each prompt's tokens.
        bound: Most tokens of a completion.

    Raises:
        ContextOverflowError: naming the first prompt that does not fit.
        UserError: a prompt without any token.
    """
    for index, ids in enumerate(rows):
        if not ids:
            raise UserError(
                f"prompt {index} is empty and {model.model_id} adds no token of its own"
            )
        check_length(f"prompt {index}", len(ids), bound, model.context_length, model.model_id)


def pair_starts(
    model: Bounded, pairs: Iterable[tuple[list[int], list[int]]], bound: int
) -> list[int]:
    """Says where the continuation of each pair begins: at the first token that the prompt alone has not.

    Args:
        model: The model.
        pairs: Tokens of a prompt, and of the prompt with its continuation.
        bound: Tokens that scoring a pair generates besides.

    Raises:
        ContextOverflowError: naming the first pair that does not fit.
        UserError: a continuation before which there is no token.
    """
    starts = []
    for index, (before, whole) in enumerate(pairs):
        start = len(commonprefix([before, whole]))
        if whole and not start:
            raise UserError(
                f"the prompt of pair {index} is empty and {model.model_id} adds no token of its own"
            )
        check_length(f"pair {index}", len(whole), bound, model.context_length, model.model_id)
        starts.append(start)
    return starts


def row_seed(seed: int | None, prompt: str, bits: int) -> int:
    """Seed of a row's own random stream, of so many bits: it does not depend on batch mates or order."""
    drawn = secrets.randbits(64) if seed is None else seed
    digest = hashlib.sha256(f"{drawn}\0{prompt}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - bits)
