"""How much prefill a sweep on the bundled model saves: the engine's own count against another one.

    python experiments/bench/prefill.py --trials 60

The other count knows nothing of the engine's: it tokenizes every prompt that was sent, and counts the
tokens that reached the model's embedding.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from transformers import AutoTokenizer

from icl_align.assemble import build_objective, build_space, load_splits
from icl_align.config import BUNDLED, Experiment
from icl_align.engines.hf import HFEngine
from icl_align.evaluate import EngineEvaluator
from icl_align.ledger import Ledger, sqlite_url
from icl_align.models import bundled
from icl_align.search.sweep import run_sweep
from icl_align.types import Decoding, Response


class Watched(HFEngine):
    """The engine, with a list of all prompts that it was sent."""

    def __init__(self, model: Path) -> None:
        super().__init__(model)
        self.sent: list[str] = []

    def stream(
        self, prompts: Sequence[str], *, stop: Sequence[str], decoding: Decoding
    ) -> Iterator[tuple[int, Response]]:
        """Continues prompts as the engine does."""
        self.sent += prompts
        return super().stream(prompts, stop=stop, decoding=decoding)


def main() -> None:
    """Runs the sweep and prints the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()

    experiment = Experiment.for_model(BUNDLED)
    engine = Watched(bundled("base"))
    embedded = [0]
    model = engine._model  # noqa: SLF001 (what is counted is what reaches the model)

    def count(_module: object, args: tuple[object, ...], _out: object) -> None:
        embedded[0] += args[0].numel()  # type: ignore[attr-defined]

    model.get_input_embeddings().register_forward_hook(count)
    with tempfile.TemporaryDirectory() as folder:
        url = sqlite_url(Path(folder) / "run.db")
        evaluator = EngineEvaluator(engine, build_objective(experiment), Ledger(url))
        assert engine.strategy == "packed"
        embedded[0] = 0
        start = time.perf_counter()
        run_sweep(
            build_space(experiment),
            load_splits(experiment)["dev"],
            evaluator,
            url=url,
            trials=given.trials,
            seed=given.seed,
            sampler="tpe",
        )
        seconds = time.perf_counter() - start
    usage = evaluator.usage
    tokenizer = AutoTokenizer.from_pretrained(bundled("base"))
    sent = sum(len(ids) for ids in tokenizer(engine.sent)["input_ids"])
    # All but the last of a row's tokens are fed back; the rest of what was embedded is prefill.
    prefill = embedded[0] - (usage.generated_tokens - usage.paid)
    print(
        json.dumps(
            {
                "trials": given.trials,
                "responses": usage.paid,
                "seconds": round(seconds, 1),
                "engine": usage.to_json(),
                "counted": {"prompt": sent, "computed": prefill, "saved": 1 - prefill / sent},
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
