"""Checkpoints and prompts of exact sizes for the benchmark; everything is made here, nothing is fetched.

Random shapes have an untied head and a wide initialisation (standard deviation 0.08): with a tied head, or
a narrow one, a random model repeats its last token, and equal texts would prove nothing. No checkpoint has
an end-of-sequence token, so every contestant generates exactly the tokens asked for.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from icl_align.models import bundled

BUNDLED = "bundled"
SUFFIX = (20, 60)
"""Fewest and most tokens of a query behind the shared prefix."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a Llama-shape model, in the words of its configuration.

    Attributes:
        context: Most positions of a row.
        tied: Whether the head is the embedding; then it is no further parameter.
    """

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    context: int = 4096
    tied: bool = False

    @property
    def body(self) -> int:
        """Parameters of the matrices that every token goes through: attention and feed-forward."""
        attention = self.hidden * self.head_dim * 2 * (self.heads + self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def head(self) -> int:
        """Parameters of the matrix that gives logits."""
        return self.hidden * self.vocabulary

    @property
    def parameters(self) -> int:
        """All matrices; the norms' vectors are left out."""
        return self.body + self.head * (1 if self.tied else 2)

    @property
    def kv_values(self) -> int:
        """Numbers kept per token: keys and values of all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim


SHAPES = {
    "3M": Shape(192, 5, 6, 2, 32, 576, 2048),
    "30M": Shape(512, 8, 8, 4, 64, 1152, 8192),
    "135M": Shape(576, 30, 9, 3, 64, 1536, 49152),  # SmolLM2-135M, but with a head of its own
    "8B": Shape(4096, 32, 32, 8, 128, 14336, 128256, 8192),  # Llama 3 8B
    "tiny": Shape(32, 2, 4, 2, 8, 64, 128, 512),  # for the smoke test
}


def shape_of(config: Any) -> Shape:
    """The sizes a Llama configuration states."""
    return Shape(
        config.hidden_size,
        config.num_hidden_layers,
        config.num_attention_heads,
        config.num_key_value_heads,
        config.head_dim,
        config.intermediate_size,
        config.vocab_size,
        config.max_position_embeddings,
        config.tie_word_embeddings,
    )


def save_checkpoint(name: str, folder: Path, *, device: str, dtype: str) -> Shape:
    """Writes a model with the tokenizer of `words` into a folder.

    Args:
        name: A key of `SHAPES`, or "bundled": the bundled base model's weights.
        folder: An empty folder.
        device: Where random weights are drawn; large ones take minutes on a CPU.
        dtype: "float32" or "bfloat16".
    """
    if name == BUNDLED:
        model = AutoModelForCausalLM.from_pretrained(bundled("base"), dtype=getattr(torch, dtype))
    else:
        model = _random(SHAPES[name], device, dtype)
    for config in (model.config, model.generation_config):
        config.bos_token_id = config.eos_token_id = config.pad_token_id = None
    model.save_pretrained(folder)
    shape = shape_of(model.config)
    words(shape.vocabulary).save_pretrained(folder)
    if device == "cuda":  # the contestants are to find the GPU empty
        del model
        torch.cuda.empty_cache()
    return shape


def _random(shape: Shape, device: str, dtype: str) -> Any:
    config = LlamaConfig(
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        intermediate_size=shape.intermediate,
        vocab_size=shape.vocabulary,
        max_position_embeddings=shape.context,
        tie_word_embeddings=shape.tied,
        initializer_range=0.08,
        bos_token_id=None,
        eos_token_id=None,
    )
    torch.manual_seed(0)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))


def words(size: int) -> PreTrainedTokenizerFast:
    """A tokenizer of one word per token, so that prompts of exact lengths can be written as text."""
    vocabulary = {f"w{i}": i for i in range(size)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))  # noqa: S106 - no secret
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


@dataclass(frozen=True, slots=True)
class Cell:
    """One size of the benchmark: `batch` prompts that share `prefix` tokens, `new` tokens for each."""

    prefix: int
    batch: int
    new: int
    seed: int = 0

    def suffixes(self) -> list[int]:
        """Lengths of the rows' own parts."""
        draw = random.Random(f"lengths {self.seed} {self.batch}")
        return [draw.randint(*SUFFIX) for _ in range(self.batch)]

    def prompts(self, vocabulary: int) -> list[str]:
        """The prompts, random words; the same for every contestant and round."""
        draw = random.Random(f"words {self.seed} {self.prefix} {self.batch}")
        shared = " ".join(f"w{draw.randrange(vocabulary)}" for _ in range(self.prefix))
        return [
            " ".join([shared, *(f"w{draw.randrange(vocabulary)}" for _ in range(length))])
            for length in self.suffixes()
        ]

    @property
    def longest(self) -> int:
        """Positions of the longest row, its new tokens included."""
        return self.prefix + max(self.suffixes()) + self.new
