"""How far the sibling's answers are from the base model, zero-shot and behind a prompt.

    python -m organism.shift --pack runs/quickstart/pack.json

For the sibling's greedy zero-shot answers: the base model's rank of each token, teacher-forced, with the
zero-shot template, the hand-written prompt, or a pack as context. Rank 1 is unshifted, 2-3 marginal, above 3
shifted (URIAL, 2312.01552).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from icl_align.data import read_examples
from icl_align.engines.hf import HFEngine
from icl_align.models import bundled
from icl_align.pack import Pack
from icl_align.prompt import FORMATS, Prompt
from icl_align.types import Decoding


def ranks(model: Any, tokenizer: Any, context: str, answer: str) -> list[int]:
    """Rank, from 1, of each token of an answer (and of what closes it) behind a context."""
    head = tokenizer(context)["input_ids"]
    tail = tokenizer(answer, add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        logits = model(torch.tensor([head + tail])).logits[0, len(head) - 1 : -1]
    own = logits.gather(1, torch.tensor(tail)[:, None])
    return [int(rank) for rank in (logits > own).sum(1) + 1]


def main() -> None:
    """Prints one JSON object: shares of unshifted, marginal and shifted tokens per context."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pack", type=Path)
    parser.add_argument("--limit", type=int, default=120)
    args = parser.parse_args()
    zero = Prompt("", (), FORMATS["block"], Decoding(max_tokens=96))
    contexts = {
        "zero-shot": zero,
        "hand-written": Prompt.from_text(bundled("baseline.txt").read_text()),
    }
    if args.pack:
        contexts["pack"] = Pack.load(args.pack).prompt
    examples = read_examples(bundled("test.jsonl"))[: args.limit]
    texts = [zero.render(e) for e in examples]
    answers = HFEngine(bundled("aligned")).generate(texts, stop=zero.stop, decoding=zero.decoding)
    model = AutoModelForCausalLM.from_pretrained(bundled("base"), dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(bundled("base"))
    found = {}
    for name, prompt in contexts.items():
        close = prompt.format.answer_close
        per_answer = [
            ranks(model, tokenizer, prompt.render(e), zero.parse(r.text) + close)
            for e, r in zip(examples, answers, strict=True)
        ]
        every = [rank for one in per_answer for rank in one]
        first = [one[0] for one in per_answer]
        found[name] = {
            "tokens": len(every),
            "unshifted": round(sum(r == 1 for r in every) / len(every), 4),
            "marginal": round(sum(r in (2, 3) for r in every) / len(every), 4),
            "shifted": round(sum(r > 3 for r in every) / len(every), 4),
            "first token unshifted": round(sum(r == 1 for r in first) / len(first), 4),
        }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
