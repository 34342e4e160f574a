"""Puts a judge's scores on a common scale, at equal length: absolute scores do not transfer between judges."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

from icl_align.errors import UserError
from icl_align.scorers import Scorer
from icl_align.types import Example, Response, Score

VERSION = 1
_LEAST_SPREAD = 0.02


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a judge's scores were on the dev examples, before a sweep.

    Attributes:
        fingerprint: The judge's.
        mean: Of its scores.
        spread: Their standard deviation.
        length_slope: What the score gains per unit of `length_unit`, within one instruction; 0 where
            length is left alone.
        length_mean: Mean length of the responses, in characters.
        length_unit: Their standard deviation.
        n: How many scores it rests on.
    """

    fingerprint: str
    mean: float
    spread: float
    length_slope: float = 0.0
    length_mean: float = 0.0
    length_unit: float = 1.0
    n: int = 0

    def __post_init__(self) -> None:
        """Refuses what no scores can give.

        Raises:
            UserError: a value out of range.
        """
        numbers = (self.mean, self.spread, self.length_slope, self.length_mean, self.length_unit)
        if not all(math.isfinite(number) for number in numbers):
            raise UserError(f"a calibration needs finite numbers, got {numbers}")
        if self.spread <= 0 or self.length_unit <= 0:
            raise UserError("a calibration needs a spread and a length unit above 0")

    def value(self, score: float, length: int) -> float:
        """Gives the place of a score among the judge's scores at equal length, in [0, 1].

        The normal distribution function of (score - mean - slope t) / spread, with t = tanh((length -
        length mean) / length unit): the length term of AlpacaEval's control (Dubois et al., 2404.04475),
        which saturates, taken off an absolute score.
        """
        t = math.tanh((length - self.length_mean) / self.length_unit)
        return NormalDist().cdf((score - self.mean - self.length_slope * t) / self.spread)


class CalibratedScorer:
    """A scorer on the common scale; its own value is the aspect "raw"."""

    def __init__(self, scorer: Scorer, calibration: Calibration) -> None:
        """Stores both.

        Raises:
            UserError: the calibration is another scorer's.
        """
        if calibration.fingerprint != scorer.fingerprint:
            raise UserError(
                f"the calibration is not of this {scorer.name!r}: its settings, model or wording have changed; "
                "run icl-align judge calibrate again"
            )
        self.scorer, self.calibration = scorer, calibration

    @property
    def name(self) -> str:
        """The scorer's name."""
        return self.scorer.name

    @property
    def fingerprint(self) -> str:
        """The scorer's, and all numbers of the calibration."""
        text = json.dumps(asdict(self.calibration), sort_keys=True)
        return (
            f"{self.scorer.fingerprint}:calibrated:{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        )

    def score(self, examples: Sequence[Example], responses: Sequence[Response]) -> list[Score]:
        """Grades `responses[i]` as an answer to `examples[i]`."""
        return self.combine([self.scorer.score(examples, responses)], responses)

    @property
    def parts(self) -> tuple[Scorer, ...]:
        """The one scorer."""
        return (self.scorer,)

    def combine(
        self, columns: Sequence[Sequence[Score]], responses: Sequence[Response]
    ) -> list[Score]:
        """Puts the scorer's scores on the common scale."""
        (raw,) = columns
        return [self.on_scale(score, answer) for score, answer in zip(raw, responses, strict=True)]

    def on_scale(self, score: Score, response: Response) -> Score:
        """Puts one score on the common scale."""
        if score.value is None:
            return score
        value = self.calibration.value(score.value, len(response.text))
        return replace(score, value=value, aspects={**score.aspects, "raw": score.value})


def calibrated(
    scorer: Scorer,
    scores: Sequence[Sequence[Score]],
    responses: Sequence[Sequence[Response]],
    *,
    length: bool = True,
) -> Calibration:
    """Measures a judge's scale on several prompts' responses to the same examples.

    The slope on length is fitted within each instruction (its mean taken off score and length), so that
    hard instructions, which have long answers, do not count as a taste for length.

    Args:
        scorer: Whose scores they are.
        scores: One row per prompt, one score per example.
        responses: Likewise.
        length: Whether to measure the slope; it needs at least two prompts.

    Raises:
        UserError: there are too few scores, or they are all alike.
    """
    import numpy as np

    cells = [
        (place, score.value, len(response.text))
        for row, answers in zip(scores, responses, strict=True)
        for place, (score, response) in enumerate(zip(row, answers, strict=True))
        if score.value is not None
    ]
    if len(cells) < 10:  # noqa: PLR2004 (fewer say nothing of a spread)
        raise UserError(f"a calibration needs at least 10 scored responses, got {len(cells)}")
    place = np.array([cell[0] for cell in cells])
    value = np.array([cell[1] for cell in cells], dtype=np.float64)
    chars = np.array([cell[2] for cell in cells], dtype=np.float64)
    unit = max(1.0, float(chars.std(ddof=1)))
    t = np.tanh((chars - chars.mean()) / unit)
    slope = 0.0
    if length and len(scores) > 1:
        counts = np.maximum(np.bincount(place), 1)
        inner_t = t - (np.bincount(place, t) / counts)[place]
        inner_value = value - (np.bincount(place, value) / counts)[place]
        square = float((inner_t**2).sum())
        slope = float((inner_t * inner_value).sum()) / square if square > _LEAST_SPREAD else 0.0
    rest = value - slope * t
    spread = float(rest.std(ddof=1))
    if spread < _LEAST_SPREAD:
        raise UserError(
            f"{scorer.name!r} gives nearly the same score to all {len(cells)} responses (standard deviation "
            f"{spread:.3f}): it cannot tell them apart"
        )
    return Calibration(
        scorer.fingerprint, float(rest.mean()), spread, slope, float(chars.mean()), unit, len(cells)
    )


def save_calibrations(calibrations: Mapping[str, Calibration], path: Path) -> None:
    """Writes calibrations by term."""
    content = {"version": VERSION, "terms": {name: asdict(c) for name, c in calibrations.items()}}
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def load_calibrations(path: Path | str) -> dict[str, Calibration]:
    """Reads calibrations by term.

    Raises:
        UserError: the file cannot be read, is of another version, or has wrong entries.
    """
    try:
        content: Any = json.loads(Path(path).read_text(encoding="utf-8"))
        if content["version"] != VERSION:
            raise UserError(
                f"{path} has version {content['version']!r}, this icl_align reads {VERSION}"
            )
        return {name: Calibration(**entry) for name, entry in content["terms"].items()}
    except OSError as error:
        raise UserError(f"cannot read the calibration {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is no calibration: {type(error).__name__}: {error}") from error
