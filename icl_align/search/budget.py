"""What a sweep may spend, and what it has spent."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from icl_align.errors import UserError
from icl_align.types import Usage

if TYPE_CHECKING:
    from icl_align.search.study import TrialRecord

_PER = 1_000_000


@dataclass(frozen=True, slots=True)
class Prices:
    """What tokens cost, in any currency, per million.

    Attributes:
        prompt: Prompt tokens that have to be computed.
        reused: Prompt tokens that a prefix cache gives.
        generated: Generated tokens.
    """

    prompt: float = 0.0
    reused: float = 0.0
    generated: float = 0.0

    def of(self, usage: Usage) -> float:
        """Gives what a usage has cost."""
        total = (
            self.prompt * usage.computed_tokens
            + self.reused * usage.reused_tokens
            + self.generated * usage.generated_tokens
        )
        return total / _PER


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of a sweep; it ends at the one that is reached first. None is no limit.

    Trials and generations are never exceeded. Tokens, seconds and money are known only when a batch has
    been measured, so they may be exceeded by one batch.

    Attributes:
        trials: Trials in all.
        generations: Prompts measured on examples: one for each pair, whether a ledger knew it or not.
        tokens: Generated tokens.
        seconds: Time spent measuring, that of earlier processes included.
        money: By `prices`.
        prices: What tokens cost.
    """

    trials: int | None = None
    generations: int | None = None
    tokens: int | None = None
    seconds: float | None = None
    money: float | None = None
    prices: Prices = Prices()

    def __post_init__(self) -> None:
        """Refuses a budget without end.

        Raises:
            UserError: no limit, a limit that is not positive, or money without prices.
        """
        limits = {name: value for name, value in asdict(self).items() if name != "prices"}
        if all(value is None for value in limits.values()):
            raise UserError(f"a sweep needs a budget: give at least one of {', '.join(limits)}")
        for name, value in limits.items():
            if value is not None and not value > 0:
                raise UserError(f"a budget of {name} must be above 0, got {value}")
        if self.money is not None and self.prices == Prices():
            raise UserError("a budget of money needs prices: give the price of a million tokens")

    def spent(self, trials: Iterable[TrialRecord]) -> Spent:
        """Adds up what told trials have cost."""
        told = [trial for trial in trials if trial.state not in ("running", "waiting")]
        usage = sum((trial.usage for trial in told), Usage())
        return Spent(
            len(told),
            sum(trial.measured for trial in told),
            usage.generated_tokens,
            math.fsum(trial.seconds for trial in told),
            self.prices.of(usage),
        )

    def share(self, spent: Spent) -> float:
        """Gives the share of the budget that is used up: the largest of its limits' shares."""
        shares: list[float] = [
            getattr(spent, name) / limit
            for name in ("trials", "generations", "tokens", "seconds", "money")
            if (limit := getattr(self, name)) is not None
        ]
        return max(shares)

    def to_json(self) -> dict[str, Any]:
        """Gives the limits that there are."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class Spent:
    """What a sweep has spent, in the units of `Budget`."""

    trials: int = 0
    generations: int = 0
    tokens: int = 0
    seconds: float = 0.0
    money: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Gives the numbers."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}
