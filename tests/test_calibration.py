"""Calibrated scores: one scale for all judges, and no gain from words alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from icl_align.engines.scripted import ScriptedEngine
from icl_align.errors import UserError
from icl_align.evaluate import EngineEvaluator
from icl_align.ledger import Ledger, sqlite_url
from icl_align.prompt import FORMATS, Prompt
from icl_align.scorers.calibration import (
    CalibratedScorer,
    Calibration,
    calibrated,
    load_calibrations,
    save_calibrations,
)
from icl_align.scorers.objective import Objective, Term
from icl_align.types import Decoding, Example, Response, Score


class Verbose:
    """Grades by length, beside what the text is worth: its first character, a digit."""

    def __init__(self, slope: float = 0.3) -> None:
        self.slope, self.asked = slope, 0

    name = "verbose"

    @property
    def fingerprint(self) -> str:
        """The slope."""
        return f"verbose:{self.slope}"

    def score(self, examples: Sequence[Example], responses: Sequence[Response]) -> list[Score]:
        """Adds worth and length."""
        self.asked += len(responses)
        del examples
        return [
            Score(
                min(1.0, 0.05 * int(r.text[0]) + self.slope * math.tanh((len(r.text) - 200) / 100))
            )
            if r.text
            else Score(None, note="empty")
            for r in responses
        ]


def worlds(seed: int = 0) -> tuple[list[Example], list[list[Response]]]:
    """Four prompts of other lengths on 60 examples of other worth."""
    rng = np.random.default_rng(seed)
    examples = [Example(f"Q{n}?", id=str(n)) for n in range(60)]
    worth = rng.integers(6, 9, 60)
    rows = []
    for mean in (150, 200, 250, 300):
        lengths = rng.normal(mean, 30, 60).clip(120, 400).astype(int)
        rows.append([Response(f"{w}" * n, n, "stop") for w, n in zip(worth, lengths, strict=True)])
    return examples, rows


def test_words_alone_gain_nothing_and_worth_still_counts() -> None:
    """Padding a response leaves its calibrated score; a better one of equal length has more."""
    examples, rows = worlds()
    scorer = Verbose()
    scale = calibrated(scorer, [scorer.score(examples, row) for row in rows], rows)
    even = CalibratedScorer(scorer, scale)

    def value(worth: str, length: int) -> float:
        (score,) = even.score(examples[:1], [Response(worth * length, 1, "stop")])
        assert score.value is not None
        return score.value

    raw = [score.value or 0 for score in scorer.score(examples[:2], [rows[0][0], rows[3][0]])]
    assert raw[1] - raw[0] > 0.15
    assert abs(value("7", 300) - value("7", 150)) < 0.12
    assert value("8", 150) - value("6", 300) > 0.3
    flat = calibrated(scorer, [scorer.score(examples, row) for row in rows], rows, length=False)
    assert flat.length_slope == 0.0


def test_the_scale_is_the_judges_own() -> None:
    """On the examples it was measured with the scores are about uniform; the raw value is kept."""
    examples, rows = worlds()
    scorer = Verbose(0.0)
    scale = calibrated(scorer, [scorer.score(examples, row) for row in rows], rows)
    scores = CalibratedScorer(scorer, scale).score(examples, rows[0])
    values = np.array([score.value for score in scores], dtype=float)
    assert 0.4 < values.mean() < 0.6
    assert values.std() > 0.2
    assert scores[0].aspects["raw"] == scorer.score(examples[:1], rows[0][:1])[0].value
    (none,) = CalibratedScorer(scorer, scale).score(examples[:1], [Response("", 0, "stop")])
    assert none.value is None


def test_new_weights_and_new_calibrations_ask_no_judge(tmp_path: Path) -> None:
    """The ledger remembers each term's own scores, whatever is made of them."""
    examples, rows = worlds()
    texts = {f"Q{n}?": row.text for n, row in enumerate(rows[0])}
    engine = ScriptedEngine(lambda prompt: next(t for q, t in texts.items() if q in prompt))
    ledger = Ledger(sqlite_url(tmp_path / "run.db"))
    prompt = Prompt("", (), FORMATS["block"], Decoding())
    first, second = Verbose(0.3), Verbose(0.1)

    def run(weight: float, shift: float) -> list[Score]:
        scale = Calibration(first.fingerprint, 0.3 + shift, 0.2)
        terms = (Term("a", weight, CalibratedScorer(first, scale)), Term("b", 1.0, second))
        return EngineEvaluator(engine, Objective(terms), ledger)(prompt, examples)

    before = run(1.0, 0.0)
    asked = first.asked, second.asked
    after = run(2.0, 0.1)
    assert (first.asked, second.asked) == asked == (60, 60)
    assert [score.value for score in before] != [score.value for score in after]
    ledger.close()


def test_files_and_mistakes(tmp_path: Path) -> None:
    """A calibration is read back as it was; another judge's, or a damaged one, is refused."""
    scale = Calibration("verbose:0.3", 0.4, 0.2, 0.1, 200.0, 50.0, 240)
    file = tmp_path / "scale.json"
    save_calibrations({"judge": scale}, file)
    assert load_calibrations(file) == {"judge": scale}
    with pytest.raises(UserError, match="not of this 'verbose'.*judge calibrate again"):
        CalibratedScorer(Verbose(0.2), scale)
    with pytest.raises(UserError, match="cannot read the calibration"):
        load_calibrations(tmp_path / "none.json")
    for text in (
        "{}",
        "[",
        '{"version": 1, "terms": {"a": {"x": 1}}}',
        '{"version": 1, "terms": 3}',
    ):
        file.write_text(text)
        with pytest.raises(UserError, match="is no calibration"):
            load_calibrations(file)
    file.write_text('{"version": 9, "terms": {}}')
    with pytest.raises(UserError, match="version 9"):
        load_calibrations(file)
    with pytest.raises(UserError, match="spread"):
        Calibration("x", 0.5, 0.0)
    with pytest.raises(UserError, match="finite"):
        Calibration("x", math.nan, 1.0)
    same = [[Score(0.5)] * 20]
    with pytest.raises(UserError, match="cannot tell them apart"):
        calibrated(Verbose(), same, [[Response("x", 1, "stop")] * 20])
    with pytest.raises(UserError, match="at least 10"):
        calibrated(Verbose(), [[Score(0.5)]], [[Response("x", 1, "stop")]])
