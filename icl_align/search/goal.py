"""What a search wants besides quality: short prompts, and an aspect that must not fall below a level."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Goal:
    """What a search looks at besides the mean score.

    Attributes:
        tokens: Whether short prompts are wanted too; then prompts of all lengths are tried, and a front
            of quality and length is what one takes away.
        aspect: An aspect of the scores that is constrained; empty for none.
        at_least: The least mean of that aspect.
    """

    tokens: bool = False
    aspect: str = ""
    at_least: float = 0.0
