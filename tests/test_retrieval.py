"""Retrieval packs: the right exemplars, never the query itself, rendered and stored without loss."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import save as as_bytes

from icl_align.data import normalise, read_examples
from icl_align.errors import UserError
from icl_align.models import bundled
from icl_align.pack import Pack
from icl_align.prompt import FORMATS, Layout, Prompt
from icl_align.retrieval import METHODS, Recipe, RetrievalPack, build, load, save
from icl_align.retrieval.cost import sharing_cost
from icl_align.retrieval.pack import Method
from icl_align.retrieval.ranking import marginal, nearest
from icl_align.scorers.embedding import EmbeddingScorer
from icl_align.types import Decoding, Example, Turn

POOL = (
    Example("How do I boil an egg?", "Boil it."),
    Example("What is 2 + 2?", "It is 4."),
    Example("Name the capital of Peru.", "Lima.\n```\n# Query:\n```"),
    Example("what is  2 + 2", "4 again."),
    Example("How can I cook rice?", "Rinse it {first} {{ x }} {% raw %} \\n \r\n"),
    Example("And in German?", "Lima.", turns=(Turn("Say the capital of Peru.", "Lima."),)),
)
WORDS = "abcdefghijklmnopqrstuvwxyz"


class LetterEmbedder:
    """Counts letters; enough to tell texts apart, and quick."""

    fingerprint = "letters:1"

    def embed(self, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        return {text: self._one(text) for text in texts}

    def _one(self, text: str) -> NDArray[np.float32]:
        counts = np.array([1e-3, *(text.lower().count(letter) for letter in WORDS)])
        unit: NDArray[np.float32] = (counts / np.linalg.norm(counts)).astype(np.float32)
        return unit


def retrieval(method: Method = "nearest", k: int = 2, **more: Any) -> RetrievalPack:
    if method == "bm25":
        pytest.importorskip("bm25s")
    pack = Pack(Prompt("Be kind.", POOL, FORMATS["block"], Decoding(max_tokens=32)))
    return build(pack, Recipe(method, k, **more), LetterEmbedder())


@cache
def meaning() -> EmbeddingScorer:
    return EmbeddingScorer()


@pytest.mark.parametrize("method", METHODS)
def test_a_query_is_rendered_by_an_ordinary_prompt(method: Method) -> None:
    """The bytes are those of a prompt that holds just the chosen exemplars, history and all."""
    pack = retrieval(method)
    item = Example("And rice?", turns=(Turn("How long do eggs boil?", "Eight minutes."),))
    (chosen,) = pack.choose([item])
    whole = Prompt("Be kind.", tuple(POOL[i] for i in chosen), FORMATS["block"])
    assert len(chosen) == 2
    assert pack.render(item) == whole.render(item)
    assert pack.prompt.stop == whole.stop


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("asked", ["What is 2 + 2?", "  WHAT is 2 + 2 ", "what is  2 + 2\n"])
def test_the_query_itself_is_never_chosen(method: Method, asked: str) -> None:
    """Not in other case, white space or marks, not as an earlier turn, and no two that ask the same."""
    pack = retrieval(method, k=5)
    for item in (Example(asked), Example("And then?", turns=(Turn(asked, "4"),))):
        (chosen,) = pack.choose([item])
        names = [normalise(POOL[index].query) for index in chosen]
        assert normalise("What is 2 + 2?") not in names
        assert len(set(names)) == len(names) == 4
        assert "It is 4." not in pack.render(item)


def test_nearest_is_last() -> None:
    """As in URIAL's paper; the other order on request."""
    last = retrieval(k=3).choose(["How do you boil two eggs?"])[0]
    first = retrieval(k=3, nearest_last=False).choose(["How do you boil two eggs?"])[0]
    assert last == first[::-1]
    assert POOL[last[-1]].query == "How do I boil an egg?"


def test_real_embeddings_find_the_meaning() -> None:
    """MiniLM takes what is about the same, though it shares no word."""
    pack = Pack(Prompt("", POOL, FORMATS["block"]))
    found = build(pack, Recipe(k=1), meaning()).choose(
        ["Preparing basmati in a pan", "Lima belongs to which country?"]
    )
    assert [POOL[index].query for (index,) in found] == [
        "How can I cook rice?",
        "Name the capital of Peru.",
    ]


def test_mmr_takes_what_is_unlike() -> None:
    """Of two that are all but equal it takes one; with a trade of 1 it is the nearest."""
    vectors = np.array([[1, 0], [0.999, 0.0447], [0.6, 0.8]], dtype=np.float32)
    nearness, open_ = vectors @ np.array([1.0, 0.0]), np.ones(3, dtype=bool)
    assert marginal(nearness, vectors, open_, 2, 0.3) == [0, 2]
    assert marginal(nearness, vectors, open_, 2, 1.0) == nearest(nearness, open_, 2) == [0, 1]


def test_bm25_finds_words() -> None:
    """By rare words, in any script; a query without a known word takes the first ones."""
    pack = retrieval("bm25", k=1)
    assert pack.choose(["the capital, please", "PERU", "\u4f60\u597d", "?"]) == [[2], [2], [0], [0]]


@given(
    nearness=st.lists(st.integers(0, 3), min_size=1, max_size=12),
    k=st.integers(0, 15),
    closed=st.sets(st.integers(0, 11)),
)
def test_nearest_is_what_sorting_gives(nearness: list[int], k: int, closed: set[int]) -> None:
    """Only open ones, the nearest, and of equals the earlier: the same on every machine."""
    open_ = np.array([i not in closed for i in range(len(nearness))])
    wanted = sorted((i for i in range(len(nearness)) if open_[i]), key=lambda i: -nearness[i])
    row = np.array(nearness, dtype=np.float64)
    assert nearest(row, open_, k) == wanted[:k]
    assert set(marginal(row, np.eye(len(row), dtype=np.float32), open_, k, 0.5)) <= set(wanted)


@pytest.mark.parametrize("method", METHODS)
def test_it_reads_back(tmp_path: Path, method: Method) -> None:
    """Pack, recipe and vectors survive; by either of its two names; equal packs give equal bytes."""
    pack = retrieval(method)
    files = save(pack, tmp_path / "kitchen.json")
    assert [file.name for file in files] == ["kitchen.json", "kitchen.index.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f.name for f in files)
    for file in files:
        again = load(file, LetterEmbedder())
        assert (again.pack, again.recipe, again.digest) == (pack.pack, pack.recipe, pack.digest)
        assert again.render("How do I cook eggs?") == pack.render("How do I cook eggs?")
    content = files[1].read_bytes()
    save(again, files[0])
    assert files[1].read_bytes() == content


def test_digests_tell_what_changes_the_text() -> None:
    """Another k, order or pool is another pack."""
    packs = [retrieval(), retrieval(k=3), retrieval(nearest_last=False), retrieval("mmr")]
    assert len({pack.digest for pack in packs}) == 4


def test_irregular_white_space_is_made_regular() -> None:
    """An exemplar may stand anywhere, so the gap that stood behind it does not go with it."""
    gaps = ("\n", "\n\n\n", "")
    form = FORMATS["block"]
    layouts = tuple(
        Layout(form.query_open, form.query_close, form.answer_open, form.answer_close, gap)
        for gap in gaps
    )
    odd = Prompt("", POOL[:3], form, layouts=layouts)
    pack = build(Pack(odd), Recipe(k=2), LetterEmbedder())
    (chosen,) = pack.choose(["Peru?"])
    plain = Prompt("", tuple(POOL[i] for i in chosen), form)
    assert pack.render("Peru?") == plain.render("Peru?")


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"k": 0}, "k of a retrieval pack must be a whole number >= 1, got 0"),
        ({"k": True}, "must be a whole number >= 1, got True"),
        ({"method": "closest"}, "chosen by nearest, mmr, bm25, not by 'closest'"),
        ({"trade": 2.0}, r"trade of a retrieval pack must be in \[0, 1\], got 2.0"),
        ({"trade": float("nan")}, "trade of a retrieval pack must be in"),
        ({"k": 6}, "k may be up to 5, the pool's distinct queries, got 6"),
    ],
)
def test_impossible_recipes(recipe: dict[str, Any], message: str) -> None:
    """Refused with the field and the range."""
    pack = Pack(Prompt("", POOL, FORMATS["block"]))
    with pytest.raises(UserError, match=message):
        build(pack, Recipe(**recipe), LetterEmbedder())


def test_another_embedder_is_refused(tmp_path: Path) -> None:
    """Vectors of two models are not compared."""
    file, _ = save(retrieval(), tmp_path / "a.json")
    with pytest.raises(
        UserError, match="made with the embedder letters:1, this one is embedding:1"
    ):
        load(file).render("Hi?")


def test_an_index_of_another_pack_is_refused(tmp_path: Path) -> None:
    """A pack that was exchanged under its index does not get other exemplars silently."""
    pack = retrieval()
    file, index = save(pack, tmp_path / "a.json")
    Pack(replace(pack.pack.prompt, system="Be rude.")).save(file)
    with pytest.raises(UserError, match="was made of another pack than a.json is now"):
        load(index)
    file.unlink()
    with pytest.raises(UserError, match=r"cannot read .*a\.json"):
        load(index)
    index.unlink()
    with pytest.raises(UserError, match=r"cannot read .*a\.index\.safetensors"):
        load(index)
    with pytest.raises(UserError, match=r"written as \.json, not as 'a\.txt'"):
        save(pack, tmp_path / "a.txt")
    with pytest.raises(UserError, match="cannot write .*No such file"):
        save(pack, tmp_path / "none" / "a.json")


def _about(**changes: Any) -> dict[str, Any]:
    about: dict[str, Any] = {
        "version": 1,
        "pack": retrieval().pack.prompt.digest,
        "fingerprint": "letters:1",
        "recipe": {"method": "nearest", "k": 2, "trade": 0.5, "nearest_last": True},
    }
    return about | changes


GOOD = np.tile(np.array([[1.0, 0.0]], dtype=np.float32), (6, 1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is broken"),
        (b"\xff" * 64, "is broken"),
        ((1 << 60).to_bytes(8, "little") + b"{}", "is broken"),
        (as_bytes({"vectors": GOOD}), "is no index of icl_align's"),
        (as_bytes({"other": GOOD}, {"icl_align": "{}"}), "is no index of icl_align's"),
        (as_bytes({"vectors": GOOD}, {"icl_align": "[" * 100_000}), "is broken"),
        (as_bytes({"vectors": GOOD}, {"icl_align": "[1]"}), "index version None is unknown"),
        (_about(version=2), "index version 2 is unknown"),
        (_about(embedder="../../x"), "an index says version, pack, fingerprint, recipe"),
        (_about(pack=3), "an index says"),
        (_about(recipe={"k": 2}), "a recipe has k, method, nearest_last, trade"),
        (
            _about(recipe=_about()["recipe"] | {"nearest_last": 1}),
            "recipe.nearest_last has a wrong",
        ),
        (_about(recipe=_about()["recipe"] | {"k": 10**9}), "k may be up to 5"),
        (_about(recipe=_about()["recipe"] | {"method": "bm25"}), "counts words otherwise"),
        (GOOD[:4], r"the index has the shape \(4, 2\), the pack 6 exemplars"),
        (GOOD * 2, "a vector is not of length 1"),
        (GOOD * np.float32("nan"), "a vector is not of length 1"),
        (GOOD.astype(np.float64), "vectors are a float32 table, not float64"),
        (GOOD[:, 0], "vectors are a float32 table"),
    ],
)
def test_broken_and_malicious_indexes(tmp_path: Path, content: Any, message: str) -> None:
    """Whatever an index holds, it is read or refused in one line."""
    if isinstance(content, dict):
        content = as_bytes({"vectors": GOOD}, {"icl_align": json.dumps(content)})
    elif not isinstance(content, bytes):
        content = as_bytes({"vectors": content.copy()}, {"icl_align": json.dumps(_about())})
    file, index = save(retrieval(), tmp_path / "a.json")
    index.write_bytes(content)
    with pytest.raises(UserError, match=message):
        load(file, LetterEmbedder())


def test_what_sharing_loses_is_measured() -> None:
    """On the bundled model: the same k, and fewer tokens shared."""
    from icl_align.assemble import build_engine
    from icl_align.config import Experiment

    base = Prompt.from_text(bundled("baseline.txt").read_text(encoding="utf-8"))
    pool = [one for one in read_examples(bundled("pool.jsonl"))[:30] if one.answer]
    whole = replace(base, exemplars=tuple(pool), layouts=(), decoding=Decoding(max_tokens=8))
    pack = build(Pack(whole), Recipe(k=3), meaning())
    examples = read_examples(bundled("dev.jsonl"))[:12]
    found = sharing_cost(pack, examples, lambda: build_engine(Experiment.for_model("bundled")))
    told = found.to_json()
    assert found.fixed.paid == found.chosen.paid == 12
    assert found.chosen.computed_tokens > 2 * found.fixed.computed_tokens
    assert told["computed_ratio"] > 2
    assert found.chosen.seconds > found.choosing_s > 0


def test_as_knn_of_dspy() -> None:
    """DSPy finds the exemplars that the pack shows, as its own KNN does where nothing leaks."""
    import dspy

    from icl_align.retrieval.dspy_knn import dspy_few_shot, dspy_knn

    pool = tuple(replace(one, turns=()) for one in POOL if one.query != "what is  2 + 2")
    pack = build(Pack(Prompt("", pool, FORMATS["block"])), Recipe(k=2), meaning())
    ours = dspy_knn(pack)
    strip = lambda texts: np.stack(  # noqa: E731
        list(meaning().embed([text.removeprefix("query: ") for text in texts]).values())
    )
    theirs = dspy.KNN(2, ours.trainset, dspy.Embedder(strip, caching=False))
    for query in ("How long must an egg boil?", "Which city is Peru's capital?"):
        assert [one.answer for one in ours(query=query)] == [
            one.answer for one in theirs(query=query)
        ]
    leaked = pool[0].query
    assert pool[0].answer in [one.answer for one in theirs(query=leaked)]
    assert pool[0].answer not in [one.answer for one in ours(query=leaked)]
    seen: list[list[str]] = []

    class Recording(dspy.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.answer = dspy.Predict("query -> answer")

        def forward(self, query: str) -> Any:
            seen.append(sorted(demo.answer for demo in self.answer.demos))
            return dspy.Prediction(answer=query)

    dspy_few_shot(pack).compile(Recording())(query="How long must an egg boil?")
    wanted = pack.choose(["How long must an egg boil?"])[0]
    assert seen == [sorted(str(pool[index].answer) for index in wanted)]
