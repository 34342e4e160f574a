"""A Hugging Face sequence classifier read as a reward model: texts in, one row of logits each out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icl_align.errors import UserError
from icl_align.scorers._reward_text import Encoded, RewardText
from icl_align.types import Example

_STEP = 32
"""Padded lengths are multiples of it."""
_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Reward:
    """What a reward model makes of one answer.

    Attributes:
        value: The raw reward, of no particular range, rounded to 4 digits; None for no verdict.
        note: What is to be known about it: cut answers, broken-up control tokens, single outputs;
            the reason where value is None.
    """

    value: float | None
    note: str = ""


class RewardModel:
    """A loaded model with its tokenizer; rewards of a text depend on nothing but the text.

    Batches always have the same number of rows and one of few lengths, every row is padded by at
    least one token on the right, so that the same kernels run whatever stands beside a text.
    """

    def __init__(
        self, folder: Path, *, device: str | None, dtype: str, rows: int, max_tokens: int
    ) -> None:
        """Loads the model.

        Raises:
            UserError: no safetensors, no classifier with a trained head, or a bad device or dtype.
        """
        import torch

        self.rows, self.folder = rows, folder
        self._tokenizer, self._model = _load(folder, getattr(torch, dtype))
        chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            self._model = self._model.to(chosen).eval()
        except (RuntimeError, AssertionError, ValueError) as error:
            reason = " ".join(str(error).split())[:160]
            raise UserError(
                f"the reward model {folder} cannot be put on device {chosen!r}: {reason}"
            ) from error
        self._config = self._model.config.get_text_config()
        self._text = RewardText(self._tokenizer, self._config, folder, max_tokens)

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the model's outputs, in order."""
        names = self._model.config.id2label
        return tuple(str(names[number]) for number in sorted(names))

    def weights(self, labels: Mapping[str, float] | None) -> list[float]:
        """Gives each output's weight in the reward; None is for a model of one output.

        Raises:
            UserError: no weights for several outputs, or a weight of an output that there is not.
        """
        known = self.labels
        if labels is None:
            if len(known) != 1:
                raise UserError(
                    f"the reward model {self.folder} has {len(known)} outputs "
                    f"({', '.join(known[:8])}); say in labels with which weights they make a reward"
                )
            return [1.0]
        strangers = sorted(set(labels) - set(known))
        if strangers:
            raise UserError(
                f"the reward model {self.folder} has no output {strangers[0]!r}; "
                f"known are {', '.join(known)}"
            )
        return [float(labels.get(label, 0.0)) for label in known]

    def rewards(
        self, rows: Sequence[tuple[Example, str]], weights: Sequence[float]
    ) -> list[Reward]:
        """Gives the rewards of conversations with answers that have text, in order."""
        encoded = [self._text.encode(example, answer) for example, answer in rows]
        there = [number for number, one in enumerate(encoded) if one.ids]
        found = [
            Reward(None, "the conversation before the answer is too long for the model")
        ] * len(rows)
        for numbers, length in self._batches(there, encoded):
            outputs = self._forward([encoded[number] for number in numbers], length)
            for number, output in zip(numbers, outputs, strict=True):
                found[number] = self._reward(encoded[number], output, weights)
        return found

    def _reward(
        self, one: Encoded, output: NDArray[np.float64], weights: Sequence[float]
    ) -> Reward:
        value = float(output @ np.asarray(weights))
        if not math.isfinite(value):
            return Reward(None, f"the reward is {value}")
        note = f"; only the first {one.kept:.1%} of the answer was read" if one.kept < 1 else ""
        if one.broken:
            note += f"; {one.broken} control tokens in the texts were broken up"
        if len(output) > 1:
            pairs = zip(self.labels, output, strict=True)
            note += "; " + ", ".join(f"{label} {number:.4g}" for label, number in pairs)
        return Reward(round(value, _DIGITS) + 0.0, note)

    def _batches(
        self, there: Sequence[int], encoded: Sequence[Encoded]
    ) -> Iterator[tuple[list[int], int]]:
        """Indices of texts of about one length, up to `rows` of them, and their padded length."""
        by_length: dict[int, list[int]] = {}
        for number in there:
            length = min(self._text.bound, (len(encoded[number].ids) // _STEP + 1) * _STEP)
            by_length.setdefault(length, []).append(number)
        for length, group in sorted(by_length.items()):
            for start in range(0, len(group), self.rows):
                yield group[start : start + self.rows], length

    def _forward(self, texts: Sequence[Encoded], length: int) -> NDArray[np.float64]:
        """Runs at most `rows` texts, filled up with the last; float64 (len(texts), labels)."""
        import torch

        rows = [*texts, *[texts[-1]] * (self.rows - len(texts))]
        pad = self._pad(rows)
        shape = (self.rows, length)
        ids = np.full(shape, pad, dtype=np.int64)
        types, mask = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        for number, one in enumerate(rows):
            ids[number, : len(one.ids)] = one.ids
            types[number, : len(one.types)] = one.types
            mask[number, : len(one.ids)] = 1
        given = {"input_ids": ids, "attention_mask": mask}
        if "token_type_ids" in self._tokenizer.model_input_names:
            given["token_type_ids"] = types
        before, self._config.pad_token_id = self._config.pad_token_id, pad
        try:
            with torch.inference_mode():
                on_device = {
                    name: torch.from_numpy(array).to(self._model.device)
                    for name, array in given.items()
                }
                logits = self._model(**on_device).logits[: len(texts)].double().cpu().numpy()
        finally:
            self._config.pad_token_id = before
        return np.asarray(logits, dtype=np.float64)

    def _pad(self, rows: Sequence[Encoded]) -> int:
        """The model's padding token; where it names none, a token that occurs in none of the rows.

        A decoder's reward is read at the last token that is not padding, so padding with a token that
        the texts may end in (as end-of-sequence) would move the place.
        """
        size = int(self._config.vocab_size)
        named = self._config.pad_token_id
        if named is not None and 0 <= named < size:
            return int(named)
        used = {token for one in rows for token in one.ids}
        return next(token for token in range(size) if token not in used)


def _load(folder: Path, dtype: Any) -> tuple[Any, Any]:
    """Loads tokenizer and model; weights from safetensors alone, code from transformers alone."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils import logging

    if not any(folder.rglob("*.safetensors")):
        raise UserError(f"the reward model folder {folder} holds no *.safetensors weights")
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model, info = AutoModelForSequenceClassification.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told below, with the missing ones
        )
    except Exception as error:  # the loaders let any kind of error of a file pass
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{folder} is no reward model that can be loaded: {reason}; it must be a sequence "
            "classifier that transformers itself knows, with its tokenizer"
        ) from error
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
    wrong = sorted({*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])})
    if wrong:
        raise UserError(
            f"{folder} is no trained reward model: {len(wrong)} of its tensors are missing or have "
            f"another shape, {wrong[0]} for one, and would be random; name a sequence classifier"
        )
    return tokenizer, model
