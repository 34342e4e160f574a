"""From an experiment to its parts: space, examples, engine, objective, baselines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from icl_align.assemble import (
    build_baselines,
    build_engine,
    build_objective,
    build_space,
    load_splits,
)
from icl_align.config import Experiment
from icl_align.data import write_examples
from icl_align.errors import UserError
from icl_align.pack import Pack
from icl_align.prompt import FORMATS, Prompt
from icl_align.types import Check, Decoding, Example, Response

POOL = [Example("What is red?", "A colour.", "p1"), Example("What is two?", "A number.", "p2")]
PARTS = """
from icl_align.types import Response, Score

class Constant:
    name = "constant"
    def __init__(self, value=0.5):
        self.value, self.fingerprint = value, f"constant:{value}"
    def score(self, examples, responses):
        return [Score(self.value) for _ in responses]

class Echo:
    name = "echo"
    def __init__(self, model, *, suffix=""):
        self.fingerprint = f"echo:{model}:{suffix}"
        self.suffix = suffix
    def generate(self, prompts, *, stop, decoding):
        return [Response(self.suffix, 1, "stop") for _ in prompts]

def broken(model):
    return 3
"""


@pytest.fixture
def content(tmp_path: Path) -> dict[str, Any]:
    write_examples(tmp_path / "pool.jsonl", POOL)
    numbers = [
        Example(f"What is {i} plus one?", str(i + 1), f"n{i}", checks=(Check("stops"),))
        for i in range(20)
    ]
    write_examples(tmp_path / "dev.jsonl", numbers[:8])
    write_examples(tmp_path / "confirm.jsonl", numbers[8:12])
    write_examples(tmp_path / "test.jsonl", numbers[12:])
    write_examples(tmp_path / "all.jsonl", numbers)
    (tmp_path / "parts.py").write_text(PARTS, encoding="utf-8")
    (tmp_path / "systems.json").write_text(
        '["", {"id": "a", "text": "Be kind.", "kind": "good"}]', encoding="utf-8"
    )
    mine = Prompt("Be kind.", tuple(POOL), FORMATS["inline"])
    (tmp_path / "mine.txt").write_bytes(mine.to_text().encode())
    return {
        "version": 1,
        "name": "mine",
        "seed": 5,
        "model": {"id": "org/model"},
        "data": {f"{name}": f"{name}.jsonl" for name in ("dev", "confirm", "test")},
        "space": {
            "systems": ["", "Be kind."],
            "pool": "pool.jsonl",
            "k": [0, 2],
            "formats": ["block", "inline"],
            "temperatures": [0.2, 0.0],
            "max_tokens": 9,
        },
        "objective": {"checklist": {"weight": 1}},
        "confirm": {"baselines": {"mine": "mine.txt", "zero-shot": "zero-shot"}},
    }


def _made(content: dict[str, Any], folder: Path) -> Experiment:
    return Experiment.from_json(content, base=folder)


def test_space(content: dict[str, Any], tmp_path: Path) -> None:
    """The space holds what the file says; the seed of decoding is the experiment's."""
    space = build_space(_made(content, tmp_path))
    assert space.systems == ("", "Be kind.")
    assert space.pool == tuple(POOL)
    assert (space.k_min, space.k_max) == (0, 2)
    assert [form.name for form in space.formats] == ["block", "inline"]
    assert space.decoding.max_tokens == 9
    assert space.decoding.seed == 5


def test_systems_from_a_file(content: dict[str, Any], tmp_path: Path) -> None:
    """System texts may stand in a JSON file, plain or with an id; anything else is refused."""
    content["space"]["systems"] = "systems.json"
    assert build_space(_made(content, tmp_path)).systems == ("", "Be kind.")
    for text, message in (
        ('{"a": 1}', "are a list of texts"),
        ("[1]", "are a list"),
        ("[", r"systems\.json:1: broken JSON"),
    ):
        (tmp_path / "systems.json").write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=message):
            build_space(_made(content, tmp_path))


def test_an_empty_pool_and_a_large_k(content: dict[str, Any], tmp_path: Path) -> None:
    """K above the pool, and a pool without exemplars, name the file."""
    content["space"]["k"] = [0, 3]
    with pytest.raises(
        UserError, match=r"K may be up to 3 but the pool holds 2 exemplars .*pool\.jsonl"
    ):
        build_space(_made(content, tmp_path))
    (tmp_path / "pool.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match=r"pool\.jsonl holds no examples"):
        build_space(_made(content, tmp_path))


def test_splits_from_files(content: dict[str, Any], tmp_path: Path) -> None:
    """Each split is its file, cut to its size where one is given."""
    content["data"]["sizes"] = {"dev": 3}
    splits = load_splits(_made(content, tmp_path))
    assert {name: len(items) for name, items in splits.items()} == {
        "dev": 3,
        "confirm": 4,
        "test": 8,
    }
    assert splits["dev"][0].id == "n0"


@pytest.mark.parametrize(
    "origin", [{"source": "all.jsonl"}, {"hub": {"name": "all.jsonl", "answer_column": "answer"}}]
)
def test_splits_from_one_source(
    content: dict[str, Any], tmp_path: Path, origin: dict[str, Any]
) -> None:
    """One source is cut into disjoint splits, the same for the same seed."""
    if "hub" in origin:
        origin["hub"]["name"] = str(tmp_path / "all.jsonl")
    content["data"] = {**origin, "sizes": {"dev": 6, "test": 10}}
    splits = load_splits(_made(content, tmp_path))
    queries = {name: [item.query for item in items] for name, items in splits.items()}
    assert {name: len(items) for name, items in queries.items()} == {"dev": 6, "test": 10}
    assert not set(queries["dev"]) & set(queries["test"])
    assert splits == load_splits(_made(content, tmp_path))
    assert splits != load_splits(_made({**content, "seed": 6}, tmp_path))


def test_leaks_are_refused(content: dict[str, Any], tmp_path: Path) -> None:
    """A text in two splits, or in the pool and a split, would prove nothing."""
    write_examples(tmp_path / "test.jsonl", [Example("  what is 2 PLUS one", "3")])
    with pytest.raises(
        UserError, match="dev and test must not share examples, but both have .*PLUS"
    ):
        load_splits(_made(content, tmp_path))
    write_examples(tmp_path / "test.jsonl", [Example("What is red", "3")])
    with pytest.raises(UserError, match="the pool and test must not share examples"):
        load_splits(_made(content, tmp_path))


def test_baselines(content: dict[str, Any], tmp_path: Path) -> None:
    """The main baseline comes first; texts are decoded as the space's first choices, packs as they say."""
    pack = Prompt("", (), FORMATS["colon"], Decoding(max_tokens=3))
    Pack(pack).save(tmp_path / "other.json")
    content["confirm"] = {
        "baselines": {"a-pack": "other.json", "zero-shot": "zero-shot", "mine": "mine.txt"},
        "main": "mine",
    }
    baselines = build_baselines(_made(content, tmp_path))
    assert list(baselines) == ["mine", "a-pack", "zero-shot"]
    assert baselines["mine"].decoding == Decoding(temperature=0.2, max_tokens=9, seed=5)
    assert baselines["a-pack"] == pack
    assert baselines["zero-shot"].render("Hi?") == "# Query:\n```\nHi?\n```\n\n# Answer:\n```\n"
    assert build_space(_made(content, tmp_path)).point(baselines["zero-shot"])["k"] == 0


def test_objective_does_not_depend_on_the_order_of_tables(
    content: dict[str, Any], tmp_path: Path
) -> None:
    """Two files that differ in the order of their terms are one objective."""
    tables = {"checklist": {"weight": 1}, "own": {"weight": 2, "scorer": "parts.py:Constant"}}
    one = build_objective(_made({**content, "objective": tables}, tmp_path))
    turned = dict(reversed(tables.items()))
    other = build_objective(_made({**content, "objective": turned}, tmp_path))
    assert one.fingerprint == other.fingerprint
    assert [term.name for term in one.terms] == ["checklist", "own"]
    example = Example("q", checks=(Check("stops"),))
    assert one.score([example], [Response("a", 1, "stop")])[0].value == pytest.approx((1 + 1) / 3)


def test_an_engine_of_ones_own(content: dict[str, Any], tmp_path: Path) -> None:
    """It is called with the model's id and the options."""
    content["model"] |= {"engine": "parts.py:Echo", "options": {"suffix": "!"}}
    assert build_engine(_made(content, tmp_path)).fingerprint == "echo:org/model:!"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"scorer": "checklst"}, r"\[objective\.own\]: there is no scorer 'checklst'; did you mean 'checklist'\?"),
        ({}, "there is no scorer 'own'; known are embedding, checklist, judge, "),
        ({"scorer": "checklist", "options": {"x": 1}}, "the scorer 'checklist' takes none"),
        ({"scorer": "embedding", "options": {"flor": 0.1}}, r"options\]: unknown option 'flor'; did you mean 'floor'\?"),
        ({"scorer": "embedding", "options": {"floor": 2}}, "floor of an embedding term must be in"),
        ({"scorer": "parts.py:Constnt"}, "has no callable 'Constnt'"),
        ({"scorer": "parts.py:Constant", "options": {"val": 1}}, "unknown option 'val'; did you mean 'value'"),
        ({"scorer": "parts.py:Echo"}, "missing a required argument: 'model'"),
        ({"scorer": "no.such.module:X"}, "cannot import the scorer module 'no.such.module'"),
        ({"scorer": "json:dumps", "options": {"obj": 1}}, "gave a str, which is no scorer"),
    ],
)  # fmt: skip
def test_scorers_that_cannot_be_made(
    content: dict[str, Any], tmp_path: Path, table: dict[str, Any], message: str
) -> None:
    """Each mistake in a term names the term, or the scorer, and the remedy."""
    content["objective"] = {"own": {"weight": 1, **table}}
    with pytest.raises(UserError, match=message):
        build_objective(_made(content, tmp_path))


def test_engines_that_cannot_be_made(content: dict[str, Any], tmp_path: Path) -> None:
    """A part that is no engine, and options that `hf` does not take, are told."""
    content["model"] |= {"engine": "parts.py:broken"}
    with pytest.raises(UserError, match="gave a int, which is no engine"):
        build_engine(_made(content, tmp_path))
    content["model"] = {"id": "org/model", "options": {"x": 1}}
    with pytest.raises(UserError, match="engine 'hf' takes none"):
        build_engine(_made(content, tmp_path))
    content["model"] = {"id": "org/model", "engine": "vlm"}
    with pytest.raises(UserError, match="there is no engine 'vlm'; built in are hf, openai, vllm"):
        build_engine(_made(content, tmp_path))


def test_a_bundled_run_is_complete() -> None:
    """The quickstart's files are there, disjoint, and the hand-written prompt lies in the space."""
    experiment = Experiment.for_model("bundled")
    splits = load_splits(experiment)
    assert min(len(items) for items in splits.values()) >= 40
    assert len(splits["test"]) >= 200
    space = build_space(experiment)
    assert len(space.pool) >= 60
    assert len(space.systems) >= 8
    baselines = build_baselines(experiment)
    assert list(baselines) == ["hand-written", "zero-shot"]
    for prompt in baselines.values():
        assert space.build(space.point(prompt)).digest == prompt.digest
    json.dumps(experiment.to_json())
