"""What a prompt has scored on examples, and the difference between two prompts."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from icl_align.errors import UserError
from icl_align.ledger import example_digest
from icl_align.prompt import Prompt
from icl_align.stats import Interval, paired_bootstrap
from icl_align.types import Example, Score, Usage


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The scores of one prompt over examples.

    Attributes:
        prompt: What was evaluated.
        ids: One id per example, unique, in order.
        scores: One score per example, in order.
        usage: What measuring it has cost, where the evaluator keeps account.
    """

    prompt: Prompt
    ids: tuple[str, ...]
    scores: tuple[Score, ...]
    usage: Usage = field(default=Usage(), compare=False)

    @property
    def values(self) -> list[float]:
        """The verdicts there are, in order."""
        return [score.value for score in self.scores if score.value is not None]

    @property
    def n(self) -> int:
        """How many examples have a verdict."""
        return len(self.values)

    @property
    def missing(self) -> int:
        """How many examples have none."""
        return len(self.scores) - self.n

    @property
    def mean(self) -> float | None:
        """The mean over verdicts, None without any."""
        return math.fsum(self.values) / self.n if self.n else None

    @property
    def standard_error(self) -> float | None:
        """The standard error of the mean, None with fewer than two verdicts."""
        return statistics.stdev(self.values) / math.sqrt(self.n) if self.n > 1 else None

    def to_json(self) -> dict[str, Any]:
        """Gives the prompt, its scores by example, and what follows from them."""
        return {
            "prompt": self.prompt.to_json(),
            "digest": self.prompt.digest,
            "scores": {
                name: {**asdict(score), "aspects": dict(score.aspects)}
                for name, score in zip(self.ids, self.scores, strict=True)
            },
            "mean": self.mean,
            "standard_error": self.standard_error,
            "n": self.n,
            "missing": self.missing,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any], usage: Usage | None = None) -> Self:
        """Reads what `to_json` gives, and what measuring it has cost."""
        scores = content["scores"]
        return cls(
            Prompt.from_json(content["prompt"]),
            tuple(scores),
            tuple(Score(**score) for score in scores.values()),
            usage or Usage(),
        )


def example_ids(examples: Sequence[Example]) -> tuple[str, ...]:
    """Names examples: by their own id, or by the start of their digest where they have none.

    Raises:
        UserError: two examples share an id, so scores could not be told apart.
    """
    ids = tuple(example.id or example_digest(example)[:16] for example in examples)
    repeated = (
        sorted({name for name in ids if ids.count(name) > 1}) if len(set(ids)) < len(ids) else []
    )
    if repeated:
        raise UserError(f"example ids must be unique, but {repeated[0]!r} occurs more than once")
    return ids


def compare(a: Evaluation, b: Evaluation, *, level: float = 0.95, seed: int | None = 0) -> Interval:
    """Bounds by how much `a` is better than `b`, paired on the examples where both have a verdict.

    Raises:
        UserError: there is no such example.
    """
    other = dict(zip(b.ids, (score.value for score in b.scores), strict=True))
    pairs = [
        (score.value, value)
        for name, score in zip(a.ids, a.scores, strict=True)
        if score.value is not None and (value := other.get(name)) is not None
    ]
    if not pairs:
        raise UserError(
            f"two prompts can only be compared on examples that both have a verdict on; "
            f"of {len(a.ids)} and {len(b.ids)} examples there is none"
        )
    return paired_bootstrap([x for x, _ in pairs], [y for _, y in pairs], level=level, seed=seed)
