"""What is compared. Each contestant takes whole prompts as text and gives the new tokens as words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from os.path import commonprefix
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    ContinuousBatchingConfig,
    GenerationConfig,
)

from icl_align.engines.hf import HFEngine
from icl_align.types import Decoding

Words = list[list[str]]
ONE_BY_ONE = "one-by-one"
OURS = "icl_align"


class Contestant(Protocol):
    """Continues prompts greedily by exactly `new` tokens each."""

    def run(self, prompts: Sequence[str], new: int) -> Words:
        """New words of each prompt."""
        ...


class Plain:
    """A model and its tokenizer as `transformers` loads them, and three ways to use them."""

    def __init__(self, folder: Path, device: str, dtype: str) -> None:
        """Loads both."""
        self.device = device
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
        self.model = model.to(device).eval()

    def ids(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of each prompt."""
        found: list[list[int]] = self.tokenizer(list(prompts))["input_ids"]
        return found

    def words(self, rows: Sequence[Sequence[int]]) -> Words:
        """New tokens as words."""
        return [self.tokenizer.decode(list(row)).split() for row in rows]

    def generate(self, ids: list[list[int]], mask: list[list[int]], new: int) -> list[list[int]]:
        """New tokens of one plain `generate`; ids and mask are (rows, length)."""
        out = self.model.generate(
            torch.tensor(ids, device=self.device),
            attention_mask=torch.tensor(mask, device=self.device),
            max_new_tokens=new,
            do_sample=False,
            pad_token_id=0,
        )
        found: list[list[int]] = out[:, len(ids[0]) :].tolist()
        return found


class OneByOne(Plain):
    """One `generate` per prompt, as URIAL's own script does."""

    def run(self, prompts: Sequence[str], new: int) -> Words:
        """New words of each prompt."""
        return self.words(
            [self.generate([ids], [[1] * len(ids)], new)[0] for ids in self.ids(prompts)]
        )


class LeftPadded(Plain):
    """One `generate` for all prompts, padded on the left to the longest."""

    def run(self, prompts: Sequence[str], new: int) -> Words:
        """New words of each prompt."""
        rows = self.ids(prompts)
        width = max(map(len, rows))
        padded = [[0] * (width - len(row)) + row for row in rows]
        mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
        return self.words(self.generate(padded, mask, new))


class GenerateBatch(Plain):
    """Continuous batching of `transformers`, its cache in pages that rows with a common prefix share."""

    PAGE = 32
    """Tokens per page; only whole pages are shared, the default of 256 would share less."""

    def run(self, prompts: Sequence[str], new: int) -> Words:
        """New words of each prompt.

        Raises:
            RuntimeError: it gave up on some rows; the reason is in its log.
        """
        rows = self.ids(prompts)
        found = self.model.generate_batch(
            rows,
            GenerationConfig(max_new_tokens=new, do_sample=False, eos_token_id=-1, pad_token_id=0),
            continuous_batching_config=self.settings(rows, new),
            progress_bar=False,
            # With CUDA the graphs are captured in the warm-up call, and kept.
            persistent_manager=self.device != "cpu",
        )
        tokens = [list(one.generated_tokens) for one in found.values()]
        if [len(row) for row in tokens] != [new] * len(rows):
            raise RuntimeError("generate_batch did not give all tokens of all rows")
        return self.words(tokens)

    def settings(self, rows: list[list[int]], new: int) -> ContinuousBatchingConfig:
        """The best found; with CUDA what it finds itself.

        On a CPU its time grows with the size of the cache, used or not: a cache for all rows without
        sharing took 124 s where one that just holds the shared prefix once and each row's own part
        took 27 s (30M, 1500 x 32 x 64), and its own choice 177 s. A step of one prompt's length lets
        the first row's prefix be there for the second.
        """
        if self.device != "cpu":
            return ContinuousBatchingConfig(page_size=self.PAGE)
        shared = len(commonprefix(rows)) // self.PAGE
        own = sum(ceil((len(row) + new) / self.PAGE) - shared + 1 for row in rows)
        return ContinuousBatchingConfig(
            page_size=self.PAGE,
            num_blocks=shared + own + 8,
            max_batch_tokens=max(*map(len, rows), len(rows)),
        )


class Ours:
    """Engine `hf` of this project."""

    def __init__(self, folder: Path, device: str, dtype: str, strategy: str = "auto") -> None:
        """Makes the engine; it loads the model at its first prompt."""
        self.engine = HFEngine(folder, device=device, dtype=dtype, strategy=strategy)

    def run(self, prompts: Sequence[str], new: int) -> Words:
        """New words of each prompt."""
        decoding = Decoding(max_tokens=new)
        found = self.engine.generate(prompts, stop=(), decoding=decoding)
        return [response.text.split() for response in found]


CONTESTANTS: dict[str, Callable[[Path, str, str], Contestant]] = {
    ONE_BY_ONE: OneByOne,
    "left-padded": LeftPadded,
    "generate_batch": GenerateBatch,
    OURS: Ours,
    "packed": lambda folder, device, dtype: Ours(folder, device, dtype, "packed"),
    "repeated": lambda folder, device, dtype: Ours(folder, device, dtype, "repeated"),
}
"""Contestants by name; "icl_align" chooses its strategy, the two after it are fixed ones."""
