"""Responses per second on the bundled model with its usual prompts, which end where the model ends them.

    PYTHONPATH=experiments python -m bench.usual --rounds 5

The hand-written prompt before 64 development and confirm instructions, greedy, with the prompt's own stop
strings. One plain `generate` per prompt is timed on a few of them, in turns with the engine; its texts must
be the engine's. The engine is made anew each round, so that no prefix is left from the round before.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from icl_align.data import read_examples
from icl_align.engines.hf import HFEngine
from icl_align.models import bundled
from icl_align.prompt import Prompt


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints one JSON object: responses per second of both, median, least and greatest."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument(
        "--rows", type=int, default=8, help="prompts that plain generate is timed on"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    prompt = Prompt.from_text(bundled("baseline.txt").read_text("utf-8"))
    examples = [e for name in ("dev", "confirm") for e in read_examples(bundled(f"{name}.jsonl"))]
    texts = [prompt.render(example) for example in examples[: args.batch]]
    model = AutoModelForCausalLM.from_pretrained(bundled("base"), dtype=torch.float32).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(bundled("base"))
    rates: dict[str, list[float]] = {"icl_align": [], "one-by-one": []}
    equal = tokens = 0
    for _ in range(args.rounds):
        engine = HFEngine(bundled("base"), dtype="float32")
        engine.generate(["Hello"], stop=(), decoding=prompt.decoding)  # loads the model
        start = time.perf_counter()
        ours = engine.generate(texts, stop=prompt.stop, decoding=prompt.decoding)
        rates["icl_align"].append(len(texts) / (time.perf_counter() - start))
        plain = []
        start = time.perf_counter()
        for text in texts[: args.rows]:
            ids = tokenizer(text, return_tensors="pt")
            out = model.generate(
                **ids,
                max_new_tokens=prompt.decoding.max_tokens,
                do_sample=False,
                stop_strings=list(prompt.stop) or None,
                tokenizer=tokenizer,
            )
            plain.append(
                tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
            )
        rates["one-by-one"].append(len(plain) / (time.perf_counter() - start))
        # plain generate keeps the stop string, and what its last token held behind it
        equal += sum(there.startswith(one.text) for one, there in zip(ours, plain, strict=False))
        tokens += sum(one.tokens for one in ours)
    found = {
        "batch": len(texts),
        "threads": args.threads,
        "rounds": args.rounds,
        "tokens_per_response": round(tokens / len(texts) / args.rounds, 1),
        "equal_text": equal / (args.rounds * min(args.rows, len(texts))),
    }
    for name, values in rates.items():
        spread = {"median": median(values), "min": min(values), "max": max(values)}
        found[f"{name} responses per second"] = {k: round(v, 2) for k, v in spread.items()}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
