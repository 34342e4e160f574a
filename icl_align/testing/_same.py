"""Whether an engine says the same again, for all responses or for the share that it is held to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Agreement:
    """How many of the texts that a promise is about must stay the same.

    Attributes:
        least: Least share, in (0, 1]; 1 where arithmetic is exact enough (float32).
    """

    least: float = 1.0

    def check(self, found: Sequence[str], wanted: Sequence[str], promise: str) -> None:
        """Compares texts in order.

        Raises:
            AssertionError: with the promise, the share found and the first text that differs.
        """
        assert len(found) == len(wanted), f"{promise}: {len(found)} texts instead of {len(wanted)}"
        other = [pair for pair in zip(found, wanted, strict=True) if pair[0] != pair[1]]
        share = 1 - len(other) / len(found) if found else 1.0
        if share >= self.least:
            return
        one, two = (text if len(text) <= _SHOWN else text[:_SHOWN] + "..." for text in other[0])
        raise AssertionError(
            f"{promise}: {share:.0%} of {len(found)} texts agree where at least {self.least:.0%} "
            f"must; the first that does not is {one!r} instead of {two!r}"
        )
