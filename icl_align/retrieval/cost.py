"""What choosing exemplars per query costs: prompts then share less, and each is computed anew."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from icl_align.engines import Engine
from icl_align.prompt import Prompt
from icl_align.retrieval.pack import RetrievalPack
from icl_align.types import Decoding, Example, Usage


@dataclass(frozen=True, slots=True)
class SharingCost:
    """What answering the same examples cost with fixed and with chosen exemplars.

    Attributes:
        k: Exemplars in each prompt.
        fixed: With the pool's first k for every query.
        chosen: With each query's own; `seconds` includes choosing them.
        choosing_s: Seconds of that.
    """

    k: int
    fixed: Usage
    chosen: Usage
    choosing_s: float

    def to_json(self) -> dict[str, Any]:
        """Token counts and seconds of both, and how many times as much the chosen ones cost."""
        ratio = self.chosen.computed_tokens / max(1, self.fixed.computed_tokens)
        return {
            "k": self.k,
            "fixed": self.fixed.to_json(),
            "chosen": self.chosen.to_json(),
            "choosing_s": round(self.choosing_s, 3),
            "computed_ratio": ratio,
            "seconds_ratio": self.chosen.seconds / max(1e-9, self.fixed.seconds),
        }


def sharing_cost(
    pack: RetrievalPack, examples: Sequence[Example], engine: Callable[[], Engine]
) -> SharingCost:
    """Answers examples twice, by a fresh engine each, and counts what was shared.

    Args:
        pack: What is measured.
        examples: What is answered.
        engine: Makes an engine that remembers nothing; its model is loaded before time is taken.
    """
    pool = pack.pack.prompt.exemplars[: pack.recipe.k]
    fixed = replace(pack.prompt, exemplars=pool)
    pack.prompts([Example("?")])  # loads the embedding model
    one = _answered([fixed] * len(examples), examples, engine())
    start = time.perf_counter()
    prompts = pack.prompts(examples)
    choosing = time.perf_counter() - start
    other = _answered(prompts, examples, engine())
    return SharingCost(
        pack.recipe.k, one, replace(other, seconds=other.seconds + choosing), choosing
    )


def _answered(prompts: Sequence[Prompt], examples: Sequence[Example], engine: Engine) -> Usage:
    engine.generate(["."], stop=(), decoding=Decoding(max_tokens=1))
    texts = [prompt.render(item) for prompt, item in zip(prompts, examples, strict=True)]
    start = time.perf_counter()
    responses = engine.generate(texts, stop=prompts[0].stop, decoding=prompts[0].decoding)
    return Usage.of(responses, time.perf_counter() - start)
