"""Tiny random checkpoints of several architectures, with a real byte-level tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTJConfig,
    GPTNeoXConfig,
    GptOssConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

VOCABULARY = 384
_GROUPED = {"num_key_value_heads": 2, "head_dim": 8}
_OLD = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}
_ARCHITECTURES: dict[str, tuple[Any, dict[str, Any]]] = {
    "llama": (LlamaConfig, {"num_key_value_heads": 2}),
    "qwen2": (Qwen2Config, {"num_key_value_heads": 2}),
    "gpt2": (GPT2Config, _OLD),
    "gpt_neox": (GPTNeoXConfig, {}),
    "mistral": (MistralConfig, {"num_key_value_heads": 2, "sliding_window": 8}),
    # soft caps and, like the next one, full and sliding layers in turn
    "gemma2": (Gemma2Config, {**_GROUPED, "sliding_window": 16}),
    "gemma3": (Gemma3TextConfig, {**_GROUPED, "num_hidden_layers": 6, "sliding_window": 64}),
    # sinks, a window, and experts
    "gpt_oss": (
        GptOssConfig,
        {**_GROUPED, "sliding_window": 16, "num_local_experts": 4, "num_experts_per_tok": 2},
    ),
    # attention of its own: the prefix is repeated
    "gptj": (GPTJConfig, {**_OLD, "rotary_dim": 4}),
    # biases by distance and no positions; states for a cache: each row alone
    "bloom": (BloomConfig, {"n_layer": 2, "n_head": 4}),
    "mamba": (MambaConfig, {"state_size": 8}),
}
KINDS = tuple(_ARCHITECTURES)
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
    config, more = _ARCHITECTURES[kind]
    settings = {
        "vocab_size": VOCABULARY,
        "bos_token_id": None,
        "eos_token_id": 0,
        "pad_token_id": 0,
        "tie_word_embeddings": False,
        "initializer_range": 0.3,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 128,
        **more,
    }
    return AutoModelForCausalLM.from_config(config(**settings)).eval()


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of random checkpoints by architecture."""
    folders = {}
    for kind in KINDS:
        folders[kind] = tmp_path_factory.mktemp(kind)
        tiny_model(kind).save_pretrained(folders[kind])
        tiny_tokenizer().save_pretrained(folders[kind])
    return folders
