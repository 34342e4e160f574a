"""What every engine does with a request before any work."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence

from icl_align.engines import ContextOverflowError
from icl_align.errors import UserError


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


def row_seed(seed: int | None, prompt: str, bits: int) -> int:
    """Seed of a row's own random stream, of so many bits: it does not depend on batch mates or order."""
    drawn = secrets.randbits(64) if seed is None else seed
    digest = hashlib.sha256(f"{drawn}\0{prompt}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - bits)
