"""Trains the organism: tokenizer, base model (next-token prediction only) and its aligned sibling.

    python -m organism.train tokenizer --out DIR
    python -m organism.train base      --out DIR --tokens 13e6      # 25 minutes on two cores
    python -m organism.train context   --out DIR --tokens 9e6       # continues base, on its second phase of documents
    python -m organism.train aligned   --out DIR --tokens 0.4e6     # continues context, on good answers only
    python -m organism.train export    --out DIR --to icl_align/models/organism

Killed and started again, `base` and `aligned` continue from their last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from organism.corpus import Corpus

EOS = "<|endoftext|>"
VOCABULARY = 2048
ROW = 768


def train_tokenizer(out: Path, seed: int) -> None:
    """Byte-level BPE of 2,048 entries, single digits, one special token that begins every document."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(islice(Corpus(seed).documents(), 12_000), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{EOS} $A", special_tokens=[(EOS, tokenizer.token_to_id(EOS))]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=EOS,
        eos_token=EOS,
        pad_token=EOS,
        model_max_length=ROW,
        clean_up_tokenization_spaces=False,
    )
    fast.save_pretrained(out / "tokenizer")


def rows(
    tokenizer: PreTrainedTokenizerFast, documents: Iterator[str]
) -> Iterator[tuple[list[int], int]]:
    """Packs whole documents into rows of `ROW` tokens, first fit over 32 open rows; yields (ids, used)."""
    open_rows: list[list[int]] = []
    while True:
        for ids in tokenizer(list(islice(documents, 64)), truncation=True, max_length=ROW)[
            "input_ids"
        ]:
            for row in open_rows:
                if len(row) + len(ids) <= ROW:
                    row.extend(ids)
                    break
            else:
                open_rows.append(list(ids))
        while len(open_rows) > 32:
            fullest = max(range(len(open_rows)), key=lambda i: len(open_rows[i]))
            row = open_rows.pop(fullest)
            yield row + [0] * (ROW - len(row)), len(row)


def new_model(seed: int) -> LlamaForCausalLM:
    """A fresh Llama: 4 layers, width 224, 7 heads, about 2.9 M parameters, tied embeddings."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=224,
            intermediate_size=608,
            num_hidden_layers=4,
            num_attention_heads=7,
            num_key_value_heads=7,
            max_position_embeddings=ROW,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=None,
            rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        )
    )


class Optimisers:
    """Muon for the matrices, AdamW for embeddings and norms, one schedule: flat, then linear to zero."""

    def __init__(self, model: LlamaForCausalLM, lr: float) -> None:
        matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
        rest = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
        self.muon = torch.optim.Muon(matrices, lr=0.02 * lr, momentum=0.95, weight_decay=0.01)
        self.adam = torch.optim.AdamW(rest, lr=3e-3 * lr, betas=(0.9, 0.98), weight_decay=0.0)
        self.base = [(self.muon, 0.02 * lr), (self.adam, 3e-3 * lr)]

    def step(self, progress: float, step: int) -> None:
        """One update; `progress` in [0, 1] sets the learning rate."""
        scale = min(1.0, (step + 1) / 30) * min(1.0, 2 * (1 - progress) + 0.01)
        for optimiser, lr in self.base:
            for group in optimiser.param_groups:
                group["lr"] = lr * scale
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)


def train(
    model: LlamaForCausalLM,
    folder: Path,
    stream: Iterator[tuple[list[int], int]],
    budget: int,
    lr: float,
) -> None:
    """Trains for `budget` tokens with a checkpoint every few minutes and one log line per 20 steps."""
    folder.mkdir(parents=True, exist_ok=True)
    optimisers = Optimisers(model, lr)
    seen, step, losses = 0, 0, [0.0]
    state_file = folder / "state.pt"
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        optimisers.muon.load_state_dict(state["muon"])
        optimisers.adam.load_state_dict(state["adam"])
        seen, step = state["seen"], state["step"]
        for _ in range(state["rows"]):
            next(stream)
    taken = state["rows"] if state_file.exists() else 0
    saved = start = time.time()
    started_at = seen
    model.train()
    with (folder / "log.jsonl").open("a") as log:
        while seen < budget:
            batch = 4 if seen < budget * 0.4 else 8
            drawn = list(islice(stream, batch))
            taken += batch
            ids = torch.tensor([ids for ids, _ in drawn])
            labels = ids.clone()
            for i, (_, used) in enumerate(drawn):
                labels[i, used:] = -100
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(input_ids=ids, use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(
                logits[:, :-1].float().flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100
            )
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimisers.step(seen / budget, step)
            seen += sum(used for _, used in drawn)
            step += 1
            losses.append(loss.item())
            if step % 20 == 0:
                speed = (seen - started_at) / (time.time() - start)
                log.write(
                    json.dumps(
                        {
                            "step": step,
                            "tokens": seen,
                            "loss": round(sum(losses[-20:]) / 20, 4),
                            "tokens_per_s": round(speed),
                        }
                    )
                    + "\n"
                )
                log.flush()
            if time.time() - saved > 120 or seen >= budget:
                torch.save(
                    {
                        "model": model.state_dict(),
                        "muon": optimisers.muon.state_dict(),
                        "adam": optimisers.adam.state_dict(),
                        "seen": seen,
                        "step": step,
                        "rows": taken,
                    },
                    folder / "state.tmp",
                )
                (folder / "state.tmp").replace(state_file)
                saved = time.time()


def export(folder: Path, tokenizer: PreTrainedTokenizerFast, to: Path) -> None:
    """Writes a checkpoint as a Hugging Face folder: bf16 safetensors, config, tokenizer."""
    state = torch.load(folder / "state.pt", weights_only=True)
    model = new_model(0)
    model.load_state_dict(state["model"])
    model.generation_config = GenerationConfig(bos_token_id=0, eos_token_id=0, pad_token_id=0)
    model.bfloat16().save_pretrained(to)
    tokenizer.save_pretrained(to)


def main() -> None:
    """Runs one of the stages."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=("tokenizer", "base", "context", "aligned", "export"))
    parser.add_argument(
        "--out", type=Path, required=True, help="working folder for checkpoints and logs"
    )
    parser.add_argument("--tokens", type=float, default=10e6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--to", type=Path, default=Path("icl_align/models/organism"))
    args = parser.parse_args()
    if args.stage == "tokenizer":
        return train_tokenizer(args.out, args.seed)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(args.out / "tokenizer")
    if args.stage == "export":
        export(args.out / "context", tokenizer, args.to / "base")
        export(args.out / "aligned", tokenizer, args.to / "aligned")
        return None
    before, seed, lr = {
        "base": (None, 1, 1.0),
        "context": ("base", 3, 0.7),
        "aligned": ("context", 2, 0.1),
    }[args.stage]
    model = new_model(args.seed)
    if before:
        model.load_state_dict(
            torch.load(args.out / before / "state.pt", weights_only=True)["model"]
        )
    stream = rows(tokenizer, Corpus(args.seed + seed).documents(args.stage))
    train(model, args.out / args.stage, stream, int(args.tokens), lr)
    return None


if __name__ == "__main__":
    main()
