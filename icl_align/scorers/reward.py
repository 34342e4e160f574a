"""Scores answers, and compares two, by a reward model: any Hugging Face sequence classifier."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from icl_align.errors import UserError
from icl_align.scorers._folder import FILES, digest, model_folder
from icl_align.scorers._reward_model import Reward, RewardModel
from icl_align.types import Example, Preference, Response, Score

_FILES = (*FILES, "*.jinja")
_DTYPES = ("float32", "bfloat16", "float16")
_REMEMBERED = 50_000
_LEAST_TO_CALIBRATE = 8


class RewardScorer:
    """Grades a response by a reward model's number, and prefers the response with the larger one.

    As a scorer the value is `sigmoid((reward - centre) / scale)`: raw rewards have no range and no
    zero in common between models, so give `squash` or let `calibrated` find it on a dev set. As a
    judge of pairs it is the Bradley-Terry probability that such models are trained on,
    `sigmoid(reward_1 - reward_2)` (Ouyang et al., 2203.02155, equation 1); it needs no calibration.

    An answer without text is a bad answer: 0, and the loser against any text. The conversation is
    put into the tokenizer's chat template where there is one, else it and the answer make a text
    pair. An answer too long for the model is cut at its end, and the note says so; where the
    conversation alone is too long there is no verdict. Weights are read from safetensors alone, and
    no code of a model's own is run.

    A text's reward does not depend on its batch mates: see `RewardModel`.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        device: str | None = None,
        dtype: str = "float32",
        batch_size: int = 8,
        max_tokens: int = 2048,
        squash: Sequence[float] = (0.0, 1.0),
        labels: Mapping[str, float] | None = None,
    ) -> None:
        """Stores the settings; the model is loaded at first use.

        Args:
            model: The folder or Hub id of a sequence-classification model.
            device: A torch device; None for a GPU where there is one, else the CPU.
            dtype: "float32", "bfloat16" or "float16".
            batch_size: Rows computed together; fewer texts cost as much as so many.
            max_tokens: Tokens of conversation and answer, at most what the model can read. One token's
                place is kept for padding.
            squash: Centre and scale (> 0) of the sigmoid.
            labels: The weights by which a model's several outputs make one reward, by their names in
                its configuration; None for a model of one output. For two classes "bad" and "good",
                `{"good": 1, "bad": -1}` gives the log-odds.

        Raises:
            UserError: a setting is out of range.
        """
        if dtype not in _DTYPES:
            raise UserError(
                f"dtype of a reward term must be one of {', '.join(_DTYPES)}; got {dtype!r}"
            )
        for name, number in (("batch_size", batch_size), ("max_tokens", max_tokens)):
            if number < 1:
                raise UserError(f"{name} of a reward term must be >= 1, got {number}")
        if len(squash) != 2 or not all(map(math.isfinite, squash)) or not squash[1] > 0:  # noqa: PLR2004
            raise UserError(
                f"squash of a reward term is a centre and a scale above 0, got {list(squash)}"
            )
        self.model, self.device, self.dtype = str(model), device, dtype
        self.batch_size, self.max_tokens = batch_size, max_tokens
        self.squash = (float(squash[0]), float(squash[1]))
        self.labels = dict(labels) if labels else None
        self._known: dict[tuple[tuple[str, ...], str], Reward] = {}

    @property
    def name(self) -> str:
        """The term's name."""
        return "reward"

    @cached_property
    def fingerprint(self) -> str:
        """The digest of the model's files, and the settings."""
        labels = sorted((self.labels or {}).items())
        return (
            f"reward:1:{digest(self._folder, _FILES)}:{self.dtype}:rows={self.batch_size}:"
            f"max={self.max_tokens}:squash={self.squash}:labels={labels}"
        )

    def score(self, examples: Sequence[Example], responses: Sequence[Response]) -> list[Score]:
        """Grades `responses[i]` as an answer to `examples[i]`; the note gives the raw reward.

        Raises:
            UserError: the model cannot be had or used.
        """
        rewards = self.rewards(examples, responses)
        return [
            self._grade(response, reward)
            for response, reward in zip(responses, rewards, strict=True)
        ]

    def prefer(
        self,
        examples: Sequence[Example],
        first: Sequence[Response],
        second: Sequence[Response],
    ) -> list[Preference]:
        """Gives the probability that `first[i]` is the better answer to `examples[i]`.

        Raises:
            UserError: the model cannot be had or used.
        """
        rewards = self.rewards([*examples, *examples], [*first, *second])
        rows = zip(first, second, rewards[: len(first)], rewards[len(first) :], strict=True)
        return [self._compare(*row) for row in rows]

    def rewards(self, examples: Sequence[Example], responses: Sequence[Response]) -> list[Reward]:
        """Gives the raw rewards; equal texts are computed once, those without text not at all.

        Raises:
            UserError: the model cannot be had or used.
        """
        rows = [
            (_key(example, response.text), example, response)
            for example, response in zip(examples, responses, strict=True)
        ]
        new = {
            key: (example, response.text)
            for key, example, response in rows
            if key not in self._known and _judged(response)
        }
        if len(self._known) + len(new) > _REMEMBERED:
            self._known.clear()
            new = {key: (e, r.text) for key, e, r in rows if _judged(r)}
        if new:
            model, weights = self._loaded
            self._known |= zip(new, model.rewards(list(new.values()), weights), strict=True)
        return [
            self._known[key] if _judged(response) else Reward(None, _reason(response))
            for key, _, response in rows
        ]

    def calibrated(
        self, examples: Sequence[Example], responses: Sequence[Response]
    ) -> RewardScorer:
        """Gives a scorer whose squash fits these answers: half of them above 0.5, half of them in between.

        The centre is their median reward and the scale their interquartile range / (2 ln 3), which puts
        the quartiles of a symmetric distribution at 0.25 and 0.75. Calibrate once, on the answers of
        one prompt to the dev set, write the new scorer's `squash` into the experiment's file, and
        compare no scores of different squashes.

        Raises:
            UserError: fewer than 8 rewards, or all of about one value.
        """
        values = [r.value for r in self.rewards(examples, responses) if r.value is not None]
        if len(values) < _LEAST_TO_CALIBRATE:
            raise UserError(
                f"a reward term is calibrated on {_LEAST_TO_CALIBRATE} answers or more, "
                f"got {len(values)} with a reward"
            )
        low, centre, high = (float(x) for x in np.quantile(values, (0.25, 0.5, 0.75)))
        if not high > low:
            raise UserError(
                f"a reward term cannot be calibrated on {len(values)} answers of which half have "
                f"the reward {centre}; give it more diverse ones, or set squash"
            )
        scale = (high - low) / (2 * math.log(3))
        fitted = RewardScorer(
            self.model,
            device=self.device,
            dtype=self.dtype,
            batch_size=self.batch_size,
            max_tokens=self.max_tokens,
            squash=(round(centre, 6), float(f"{scale:.6g}")),
            labels=self.labels,
        )
        fitted.__dict__["_loaded"] = self._loaded  # one copy of the weights serves both
        fitted._known = self._known
        return fitted

    def _grade(self, response: Response, reward: Reward) -> Score:
        if response.finish != "error" and not response.text.strip():
            return Score(0.0, note=reward.note, judge=self.name)
        if reward.value is None:
            return Score(None, note=reward.note, judge=self.name)
        centre, scale = self.squash
        value = round(_sigmoid((reward.value - centre) / scale), 6)
        return Score(value, note=f"reward {reward.value:g}{reward.note}", judge=self.name)

    def _compare(self, first: Response, second: Response, one: Reward, other: Reward) -> Preference:
        if "error" in (first.finish, second.finish):
            return Preference(None, note="one of the responses failed", judge=self.name)
        texts = [bool(response.text.strip()) for response in (first, second)]
        if not all(texts):
            value = 0.5 + (texts[0] - texts[1]) / 2
            return Preference(value, note="an empty response is the worse", judge=self.name)
        if one.value is None or other.value is None:
            reason = one.note if one.value is None else other.note
            return Preference(None, note=reason, judge=self.name)
        value = round(_sigmoid(one.value - other.value), 6)
        note = f"rewards {one.value:g}{one.note} and {other.value:g}{other.note}"
        return Preference(value, note=note, judge=self.name)

    @cached_property
    def _folder(self) -> Path:
        return model_folder(self.model, "reward model", files=_FILES)

    @cached_property
    def _loaded(self) -> tuple[RewardModel, list[float]]:
        """The model, and the weight of each of its outputs."""
        model = RewardModel(
            self._folder,
            device=self.device,
            dtype=self.dtype,
            rows=self.batch_size,
            max_tokens=self.max_tokens,
        )
        return model, model.weights(self.labels)


def _judged(response: Response) -> bool:
    return response.finish != "error" and bool(response.text.strip())


def _reason(response: Response) -> str:
    if response.finish == "error":
        return f"no response: {response.error or 'the engine gave no reason'}"
    return "the response is empty"


def _key(example: Example, answer: str) -> tuple[tuple[str, ...], str]:
    turns = [text for turn in example.turns for text in (turn.query, turn.answer)]
    return (*turns, example.query), answer


def _sigmoid(x: float) -> float:
    return 0.5 * (1.0 + math.tanh(x / 2.0))
