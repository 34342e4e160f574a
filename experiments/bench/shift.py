"""How much quicker the shift is read than by one forward pass per token, on the bundled pair.

    PYTHONPATH=. python experiments/bench/shift.py --tokens 200

Both ways give rank, probabilities and KL both ways of each token of the same texts, from both models in
one dtype. The other way runs the whole text so far again for each token, as URIAL's released code does. The
agreement of both is asserted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from icl_align.analysis._shift_compare import Figures, compared
from icl_align.analysis._shift_forward import Part, Reader
from icl_align.data import read_examples
from icl_align.models import bundled
from icl_align.prompt import FORMATS, Prompt


def texts(reader: Reader, count: int, tokens: int) -> list[Part]:
    """Instructions with so many tokens of reference answers behind them, each its own mix."""
    examples = read_examples(bundled("test.jsonl"))
    zero = Prompt("", (), FORMATS["block"])
    found = []
    for index in range(count):
        ids = [
            token
            for example in examples[index : index + 20]
            for token in reader.encode(f"{example.answer}\n\n")
        ]
        found.append(Part(reader.encode(zero.render(examples[index])), ids[:tokens]))
    return found


def together(base: Reader, aligned: Reader, parts: list[Part]) -> list[list[Figures]]:
    """All positions of all texts at once."""
    size = base.vocabulary
    pairs = zip(parts, base.logits(parts), aligned.logits(parts), strict=True)
    return [compared(one, part.tokens, other, size) for part, one, other in pairs]


def one_by_one(models: list[torch.nn.Module], part: Part) -> list[tuple[int, float, float]]:
    """Rank and both KL of each token, by a forward pass of each model per token."""
    found = []
    for place, token in enumerate(part.tokens):
        ids = torch.tensor([[*part.before, *part.tokens[:place]]])
        with torch.inference_mode():
            base, aligned = (
                model(input_ids=ids).logits[0, -1].double().numpy() for model in models
            )
        rank = 1 + int((base > base[token]).sum())
        p, q = (x - x.max() - np.log(np.exp(x - x.max()).sum()) for x in (aligned, base))
        found.append((rank, float((np.exp(p) * (p - q)).sum()), float((np.exp(q) * (q - p)).sum())))
    return found


def main() -> None:
    """Prints seconds per text of both ways, in turns, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--texts", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64")
    given = parser.parse_args()
    torch.set_num_threads(1)
    names = [str(bundled("base")), str(bundled("aligned"))]
    base, aligned = (Reader(name, device="cpu", dtype=given.dtype) for name in names)
    models = [
        AutoModelForCausalLM.from_pretrained(name, dtype=getattr(torch, given.dtype)).eval()
        for name in names
    ]
    parts = texts(base, given.texts, given.tokens)
    together(base, aligned, parts[:1])
    seconds: dict[str, list[float]] = {"one by one": [], "one text": [], "all texts": []}
    for turn in range(given.rounds):
        part = parts[turn % len(parts)]
        start = time.process_time()
        slow = one_by_one(models, part)
        seconds["one by one"].append(time.process_time() - start)
        for name, several in (("one text", [part]), ("all texts", parts)):
            for reader in (base, aligned):
                reader.forget()
            start = time.process_time()
            found = together(base, aligned, several)
            seconds[name].append((time.process_time() - start) / len(several))
        quick = found[turn % len(parts)]
        assert [one.rank for one in quick] == [rank for rank, *_ in slow]
        worst = max(
            max(abs((one.kl or 0.0) - kl), abs((one.kl_back or 0.0) - back))
            for one, (_, kl, back) in zip(quick, slow, strict=True)
        )
        assert worst <= (1e-5 if given.dtype == "float64" else 1e-3), worst
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = {name: medians["one by one"] / medians[name] for name in ("one text", "all texts")}
    content = {
        "dtype": given.dtype,
        "tokens": given.tokens,
        "texts": given.texts,
        "cpu_seconds_per_text": medians,
    }
    print(json.dumps({**content, "times_quicker": ratios, "threads": 1}, indent=1))


if __name__ == "__main__":
    main()
