"""Tiny random checkpoints of several architectures, with a real byte-level tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

VOCABULARY = 384
KINDS = ("llama", "gpt2", "gpt_neox", "gemma3", "mistral", "bloom", "mamba")
TEXT = [
    "One, two, three, four, five, six",
    "The sea is blue and the sky is grey",
    "# Query:\n```\nHow? é ü 你好\n```",
]


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE whose tokens often hold a part of a character."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT * 5, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")


def tiny_model(kind: str) -> Any:
    """A random model that does not repeat one token: untied head, wide initialisation."""
    torch.manual_seed(0)
    common: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "bos_token_id": None,
        "eos_token_id": 0,
        "tie_word_embeddings": False,
        "initializer_range": 0.3,
    }
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    }
    if kind == "gpt2":
        config = GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=128, **common)
        model: Any = GPT2LMHeadModel(config)
    elif kind == "gpt_neox":
        model = GPTNeoXForCausalLM(GPTNeoXConfig(**sizes, max_position_embeddings=128, **common))
    elif kind == "bloom":  # takes no positions: not for our own loop
        model = BloomForCausalLM(BloomConfig(hidden_size=32, n_layer=2, n_head=4, **common))
    elif kind == "mamba":  # keeps states, not keys and values
        model = MambaForCausalLM(
            MambaConfig(hidden_size=32, num_hidden_layers=2, state_size=8, **common)
        )
    elif kind == "gemma3":  # full and sliding layers in turn
        model = Gemma3ForCausalLM(
            Gemma3TextConfig(
                **{**sizes, "num_hidden_layers": 6},
                head_dim=8,
                num_key_value_heads=2,
                max_position_embeddings=128,
                sliding_window=64,
                pad_token_id=0,
                **common,
            )
        )
    elif kind == "mistral":  # its window is shorter than the prompts: no shared prefix
        model = MistralForCausalLM(
            MistralConfig(
                **sizes,
                max_position_embeddings=128,
                num_key_value_heads=2,
                sliding_window=8,
                **common,
            )
        )
    else:
        model = LlamaForCausalLM(
            LlamaConfig(**sizes, max_position_embeddings=128, num_key_value_heads=2, **common)
        )
    return model.eval()


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of random checkpoints by architecture."""
    folders = {}
    for kind in KINDS:
        folders[kind] = tmp_path_factory.mktemp(kind)
        tiny_model(kind).save_pretrained(folders[kind])
        tiny_tokenizer().save_pretrained(folders[kind])
    return folders
