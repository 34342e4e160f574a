"""Embeddings of a text's tokens by a local encoder; they depend on nothing but the text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icl_align.errors import UserError
from icl_align.scorers.fence import whole

_ROWS = 8
_STEP = 32
_NO_BOUND = 1 << 20
"""Tokenizers without a bound of their own name an absurdly large one."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text as token embeddings.

    Attributes:
        ids: Token ids, the control tokens at the ends included.
        control: Which of them are control tokens, bool (tokens,).
        rows: Unit rows, float32 (tokens, dim).
        cut: Whether the text was longer than what was read.
    """

    ids: tuple[int, ...]
    control: NDArray[np.bool_]
    rows: NDArray[np.float32]
    cut: bool


class TokenEncoder:
    """An encoder that gives one layer's token embeddings.

    As in `EmbeddingScorer`, batches always have the same number of rows and one of few lengths; every
    row is padded by one token at least, so the same kernels run whatever stands beside a text.
    """

    def __init__(
        self, folder: Path, *, layer: int | None, max_tokens: int, device: str | None
    ) -> None:
        """Loads the encoder.

        Raises:
            UserError: no safetensors, no encoder, or no such layer.
        """
        self._tokenizer, self._model = _load(folder)
        depth = int(self._model.config.num_hidden_layers)
        self.layer = depth if layer is None else layer
        if not 0 <= self.layer <= depth:
            raise UserError(f"layer must be 0 to {depth} in {folder}, got {layer}")
        import torch

        chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._model = self._model.to(chosen).eval()
        bounds = (
            self._tokenizer.model_max_length,
            getattr(self._model.config, "max_position_embeddings", None),
        )
        self._bound = min(max_tokens, *(int(b) for b in bounds if b and b < _NO_BOUND), _NO_BOUND)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts, control tokens included, cut to what the encoder reads.

        A control token that a text spells out is plain text.
        """
        if not texts:
            return []
        encoded = self._tokenizer(
            list(map(whole, texts)),
            truncation=True,
            max_length=self._bound - 1,
            split_special_tokens=True,
        )
        return [list(ids) for ids in encoded["input_ids"]]

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """Embeds texts, in order."""
        ids = self.ids(texts)
        found: dict[int, Tokens] = {}
        for numbers, length in self._batches(ids):
            rows = self._forward([ids[number] for number in numbers], length)
            for number, row in zip(numbers, rows, strict=True):
                control = np.isin(ids[number], self._tokenizer.all_special_ids)
                cut = len(ids[number]) == self._bound - 1 and self._cut(texts[number])
                kept = row[: len(ids[number])]
                found[number] = Tokens(tuple(ids[number]), control, kept, cut)
        return [found[number] for number in range(len(texts))]

    def _cut(self, text: str) -> bool:
        ids = self._tokenizer(whole(text), split_special_tokens=True, verbose=False)["input_ids"]
        return len(ids) > self._bound - 1

    def _batches(self, ids: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], int]]:
        by_length: dict[int, list[int]] = {}
        for number, one in enumerate(ids):
            length = min(self._bound, (len(one) // _STEP + 1) * _STEP)
            by_length.setdefault(length, []).append(number)
        for length, group in sorted(by_length.items()):
            for start in range(0, len(group), _ROWS):
                yield group[start : start + _ROWS], length

    def _forward(self, ids: Sequence[Sequence[int]], length: int) -> NDArray[np.float32]:
        """Unit rows of at most `_ROWS` texts, float32 (len(ids), length, dim)."""
        import torch

        rows = [*ids, *[ids[-1]] * (_ROWS - len(ids))]
        tokens = np.full((_ROWS, length), self._tokenizer.pad_token_id or 0, dtype=np.int64)
        mask = np.zeros((_ROWS, length), dtype=np.int64)
        for number, one in enumerate(rows):
            tokens[number, : len(one)], mask[number, : len(one)] = one, 1
        with torch.inference_mode():
            given = {"input_ids": tokens, "attention_mask": mask}
            on_device = {
                name: torch.from_numpy(array).to(self._model.device)
                for name, array in given.items()
            }
            states = self._model(**on_device, output_hidden_states=True).hidden_states
            chosen = states[self.layer][: len(ids)].float()
            unit = torch.nn.functional.normalize(chosen, dim=2).cpu().numpy()
        return np.asarray(unit, dtype=np.float32)


def greedy_match(
    response: Tokens, reference: Tokens, weights: dict[int, float] | None, unseen: float
) -> tuple[float, float, float]:
    """Precision, recall and F1 of greedily matched tokens (Zhang et al., 1904.09675, section 3).

    Each token of one text is matched with the most similar one of the other. Precision is the mean of
    the response's tokens, recall that of the reference's; control tokens can be matched with, but do
    not count.

    Args:
        response: The text to be graded.
        reference: What it is compared with.
        weights: Inverse document frequencies by token id; None where all tokens count alike.
        unseen: The weight of the others.
    """
    similar = response.rows.astype(np.float64) @ reference.rows.astype(np.float64).T
    sides = [(response, similar.max(axis=1)), (reference, similar.max(axis=0))]
    means = []
    for text, best in sides:
        weight = np.asarray([1.0 if weights is None else weights.get(i, unseen) for i in text.ids])
        weight[text.control] = 0.0
        total = float(weight.sum())
        means.append(float(best @ weight) / total if total > 0 else math.nan)
    precision, recall = means
    whole = precision + recall
    return precision, recall, 2 * precision * recall / whole if whole > 0 else 0.0


def _load(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    if not any(folder.rglob("*.safetensors")):
        raise UserError(f"the encoder folder {folder} holds no *.safetensors weights")
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model = AutoModel.from_pretrained(folder, use_safetensors=True, trust_remote_code=False)
    except Exception as error:  # the loaders let any kind of error of a file pass
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{folder} is no encoder that can be loaded: {reason}; name a folder or Hub id of one "
            "that transformers itself knows"
        ) from error
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
    return tokenizer, model
