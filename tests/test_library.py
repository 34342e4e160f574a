"""The pack library: shipped packs are sound, found by name, and told apart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_align.data import read_examples, write_examples
from icl_align.errors import UserError
from icl_align.library import ABOUT, find_pack, load_pack
from icl_align.library.comparing import compare_packs, comparison_text
from icl_align.library.diff import difference, difference_text, exemplars, words
from icl_align.library.finding import FOLDER
from icl_align.library.indexing import indexed
from icl_align.library.told import described, listed, shown
from icl_align.lint import lint
from icl_align.models import bundled
from icl_align.pack import Pack
from icl_align.prompt import FORMATS, Prompt
from icl_align.retrieval import Recipe, RetrievalPack, save
from icl_align.types import Decoding, Example, Turn

ONE, TWO, THREE = (Example(f"Question {name}?", f"Answer {name}.") for name in ("one", "two", "3"))


def pack(*exemplars_: Example, system: str = "Be kind.", **evidence: Any) -> Pack:
    return Pack(Prompt(system, exemplars_, FORMATS["block"]), {}, evidence)


def icl_align(*arguments: str | Path, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", "from icl_align.cli import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "200"},
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.mark.parametrize("name", ABOUT)
def test_shipped_packs_are_sound(name: str) -> None:
    """Each is linted clean, is written as it reads, and says the same as a URIAL text."""
    path = find_pack(name)
    one = Pack.load(path)
    assert lint(one.prompt) == []
    assert Prompt.from_text(one.prompt.to_text()).render("Hi?") == one.prompt.render("Hi?")
    assert one.evidence == {}
    assert one.prompt.decoding.temperature == 0


def test_shipped_packs_are_what_they_are_called() -> None:
    """A K in the name is the K; larger ones hold the smaller ones; no file is without a description."""
    assert {path.stem for path in FOLDER.glob("*.json")} == set(ABOUT)
    by_k = {k: Pack.load(find_pack(f"k{k}")).prompt.exemplars for k in (1, 3, 8)}
    assert [len(found) for found in by_k.values()] == [1, 3, 8]
    assert by_k[8][-3:] == by_k[3]
    assert by_k[3][-1:] == by_k[1]
    baseline = Pack.load(find_pack("baseline")).prompt
    text = bundled("baseline.txt").read_text(encoding="utf-8")
    assert baseline == Prompt.from_text(text, decoding=Decoding(max_tokens=96))


@pytest.mark.parametrize("name", [name for name in ABOUT if name != "baseline"])
def test_shipped_answers_follow_urials_style(name: str) -> None:
    """They open with the matter, list numbered points with a topic (or code), and close with a line."""
    for one in Pack.load(find_pack(name)).prompt.exemplars:
        lines = [line for line in (one.answer or "").split("\n") if line]
        points = [line for line in lines if line[0].isdigit()]
        assert len(points) >= 3 and all(". " in line and ": " in line for line in points)
        assert not lines[0][0].isdigit() and not lines[-1][0].isdigit()


@pytest.mark.parametrize("name", ["safe", "k3", "k8"])
def test_refusals_are_kind(name: str) -> None:
    """One exemplar declines: it says so, feels with the person, and offers ways forward."""
    found = [
        one.answer or ""
        for one in Pack.load(find_pack(name)).prompt.exemplars
        if "can't help with" in (one.answer or "")
    ]
    assert found and all("I am sorry" in answer and "1. " in answer for answer in found)


def test_names_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file comes before a shipped pack; a path is never taken for a name."""
    monkeypatch.chdir(tmp_path)
    assert find_pack("safe") == FOLDER / "safe.json"
    for given_ in ("./safe", "a/safe", "safe.json", "../safe"):
        assert find_pack(given_) == Path(given_)
    with pytest.raises(UserError, match="no shipped pack named 'save'; did you mean 'safe'?"):
        find_pack("save")
    with pytest.raises(UserError, match="shipped are baseline, helpful, k1"):
        find_pack("\x00zzz")
    (tmp_path / "safe").write_text("# Instruction\n\nHi.\n", encoding="utf-8")
    assert find_pack("safe") == Path("safe")
    assert isinstance(load_pack("safe"), Pack)
    with pytest.raises(UserError, match=r"cannot read .*none\.json"):
        load_pack("none.json")


def test_the_list_tells_what_each_is() -> None:
    """One row per shipped pack, with what a chooser asks first."""
    rows = {row["name"]: row for row in listed()}
    assert set(rows) == set(ABOUT)
    assert rows["k8"]["exemplars"] == 8 and rows["k8"]["tokens"] > 2 * rows["k3"]["tokens"] - 100
    assert rows["baseline"]["model"] == "bundled"


def test_showing_a_strangers_pack_is_safe() -> None:
    """No text of a pack can steer the terminal or pass for what the program says."""
    text = shown(pack(Example("\x1b[2Jq", "a\nconfirmed    True\u202e"), system="\x1b]0;x\x07"))
    assert "\x1b" not in text and "\x07" not in text and "\u202e" not in text
    assert "\nconfirmed    True" not in text.replace("\nconfirmed    False", "")
    assert "  | confirmed    True" in text


def test_diff_tells_exemplars() -> None:
    """Added, removed, moved, changed in words, or the same."""
    new = Example("Question new?", "New.")
    reworded = replace(TWO, query="Question two, please?")
    rows = exemplars(
        pack(ONE, TWO, THREE).prompt, pack(new, reworded, replace(ONE, answer="No."), THREE).prompt
    )
    found = [(row["before"], row["after"], row["change"]) for row in rows]
    assert found[0] == (None, 1, "added")
    assert found[3] == (3, 4, "same")
    assert sorted(row[2] for row in found[1:3]) == ["changed", "moved and changed"]
    assert [row[:2] for row in found[1:3]] == [(2, 2), (1, 3)]
    gone = exemplars(pack(ONE, TWO).prompt, pack(TWO).prompt)
    assert [(row["query"], row["change"]) for row in gone] == [
        ("Question two?", "same"),
        ("Question one?", "removed"),
    ]
    turned = exemplars(pack(replace(ONE, turns=(Turn("a", "b"),))).prompt, pack(ONE).prompt)
    assert turned[0]["change"] == "changed"


def test_diff_tells_everything_else() -> None:
    """Words of the system text, format, decoding, model, length and measured scores."""
    a = pack(ONE, tuned={"mean": 0.5, "low": 0.4, "high": 0.6, "n": 9}, dev={"mean": "x"})
    b = Pack(
        replace(
            a.prompt.with_format(FORMATS["colon"]),
            system="Be very kind.",
            decoding=Decoding(temperature=0.5),
        ),
        {"id": "m"},
        {"tuned": {"mean": 0.75}},
    )
    found = difference(a, b)
    assert found["system"] == [["same", "Be "], ["added", "very "], ["same", "kind."]]
    assert found["format"]["query_heading"] == ["# Query:", "User:"]
    assert found["decoding"] == {"temperature": [0.0, 0.5]}
    assert found["model"] == {"id": [None, "m"]}
    assert found["tokens"]["difference"] == found["tokens"]["b"] - found["tokens"]["a"] < 0
    assert list(found["scores"]) == ["tuned"]
    assert found["scores"]["tuned"]["b"] == {"mean": 0.75}
    text = difference_text(found)
    assert "Be {+very +}kind." in text and "decoding.temperature: 0.0 -> 0.5" in text
    assert "tuned: 0.500 [0.400, 0.600] (n = 9) -> 0.750" in text
    json.dumps(found)
    assert difference(a, b, len)["tokens"]["a"] == len(a.prompt.to_text())
    assert difference_text(difference(a, a)).startswith("both send the same text")


@given(a=st.text("ab \n.", max_size=30), b=st.text("ab \n.", max_size=30))
def test_word_diffs_give_both_texts_back(a: str, b: str) -> None:
    """Nothing is lost on either side."""
    parts = words(a, b)
    assert "".join(text for kind, text in parts if kind != "added") == a
    assert "".join(text for kind, text in parts if kind != "removed") == b


@given(st.permutations(range(6)))
def test_moved_are_the_fewest(order: list[int]) -> None:
    """What need not have moved did not: the rest of the rows keep their order, and none could join."""
    before = [Example(f"q{i}", f"a{i}") for i in range(6)]
    rows = exemplars(pack(*before).prompt, pack(*(before[i] for i in order)).prompt)
    still = [row["before"] for row in rows if row["change"] == "same"]
    assert still == sorted(still)
    longest = [1] * 6
    for i in range(6):
        longest[i] = 1 + max((longest[j] for j in range(i) if order[j] < order[i]), default=0)
    assert len(still) == max(longest)


def test_long_texts_are_compared_by_lines() -> None:
    """Huge fields do not hang a diff."""
    long = "a b c d e f g h\n" * 20_000
    parts = words(long, long + "end\n")
    assert parts == [("same", long), ("added", "end\n")]
    other = words(f"x {long}", f"y {'a b ' * 50_000}")
    assert "".join(text for kind, text in other if kind != "added") == f"x {long}"
    assert len(words("a b " * 1900, "b a a " * 1200)) >= 2
    many = [Example(f"q{i}", f"a{i}") for i in range(3000)]
    rows = exemplars(pack(*many).prompt, pack(*reversed(many)).prompt)
    assert sum(row["change"] == "same" for row in rows) == 1


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("items") / "dev.jsonl"
    write_examples(file, read_examples(bundled("dev.jsonl"))[:20])
    return file


def test_compare_is_paired_with_an_interval(items: Path) -> None:
    """The hand-written prompt beats none on the bundled model; leaks and models are told."""
    hand = load_pack("baseline")
    assert isinstance(hand, Pack)
    leaky = Pack(replace(hand.prompt, exemplars=tuple(read_examples(items)[:1]), layouts=()))
    shares: list[float] = []
    found = compare_packs(
        {"hand": hand, "leaky": leaky}, items, on_share=lambda share, _: shares.append(share)
    )
    assert found["leaks"] == {"hand": 0, "leaky": 1}
    assert found["objective"] == {"checklist": 0.7, "embedding": 0.3}
    assert {row["model"] for row in found["packs"].values()} == {"bundled"}
    one, other = found["packs"].values()
    assert one["n"] == 20 and one["missing"] == 0 and set(one["terms"]) == set(found["objective"])
    assert found["difference"]["mean"] == pytest.approx(one["mean"] - other["mean"])
    assert found["difference"]["low"] <= found["difference"]["mean"]
    assert shares == sorted(shares) and shares[-1] == 1
    text = comparison_text(found)
    assert "hand - leaky: " in text and "leaky: 1 of its exemplars" in text
    json.dumps(found)


def test_compare_takes_retrieval_packs_and_other_objectives(items: Path, tmp_path: Path) -> None:
    """A retrieval pack is answered with each query's own exemplars."""
    hand = load_pack("baseline")
    assert isinstance(hand, Pack)
    near = indexed(hand, bundled("pool.jsonl"), Recipe(k=2))
    objective = tmp_path / "only.toml"
    objective.write_text("[objective.checklist]\nweight = 1\n", encoding="utf-8")
    found = compare_packs({"hand": hand, "near": near}, items, objective=objective, model="bundled")
    assert found["objective"] == {"checklist": 1.0}
    assert found["packs"]["near"]["digest"] == near.digest
    spent = {name: row["tokens"]["computed"] for name, row in found["packs"].items()}
    assert spent["near"] > spent["hand"]


def test_compare_refuses_what_it_cannot_do(tmp_path: Path, items: Path) -> None:
    """No model, nothing to grade by."""
    both = {"a": pack(ONE), "b": pack(TWO)}
    with pytest.raises(UserError, match="neither pack names a model; give one with --model"):
        compare_packs(both, items)
    bare = tmp_path / "bare.jsonl"
    write_examples(bare, [Example("Hi?"), Example("Ho?")])
    with pytest.raises(UserError, match="no example has checks or a reference answer"):
        compare_packs(both, bare, model="bundled")


def test_a_pool_needs_answers(tmp_path: Path) -> None:
    """An exemplar without one is told with its place."""
    pool = tmp_path / "pool.jsonl"
    write_examples(pool, [ONE, Example("Hi?")])
    with pytest.raises(UserError, match=r"pool\.jsonl: entry 2 \('Hi\?'\) has no answer"):
        indexed(pack(), pool, Recipe(k=1))


def test_the_verbs(tmp_path: Path, items: Path) -> None:
    """List, show, diff, compare and index, as a user types them."""
    rows = json.loads(icl_align("packs", "list", "--json", cwd=tmp_path).stdout)["packs"]
    assert [row["name"] for row in rows] == list(ABOUT)
    assert "exemplar 3" in icl_align("packs", "show", "safe", cwd=tmp_path).stdout
    diff = json.loads(icl_align("packs", "diff", "k3", "k8", "--json", cwd=tmp_path).stdout)
    assert [row["change"] for row in diff["exemplars"]] == ["added"] * 5 + ["same"] * 3
    made = icl_align(
        "index", "baseline", "--pool", bundled("pool.jsonl"), "--to", "near.json", "-k", "2",
        "--cost", items, "--json", cwd=tmp_path,
    )  # fmt: skip
    found = json.loads(made.stdout)
    assert found["files"] == ["near.json", "near.index.safetensors"]
    assert found["cost"]["computed_ratio"] > 1
    done = icl_align(
        "packs", "compare", "baseline", "near.index.safetensors", "--on", items, cwd=tmp_path
    )
    assert "baseline - near.index.safetensors: " in done.stdout
    told = icl_align("packs", "show", "near.index.safetensors", "--json", cwd=tmp_path).stdout
    assert json.loads(told)["exemplars"] == 2 and json.loads(told)["pool"] == 63


def test_a_users_mistakes_are_one_line(tmp_path: Path) -> None:
    """Exit code 2 and nothing on stdout."""
    commands: list[tuple[str | Path, ...]] = [
        ("packs", "compare", "k1", "k1", "--on", "x.jsonl"),
        ("index", "k1", "--pool", bundled("pool.jsonl"), "--to", "a.txt"),
        ("push", "a.index.safetensors", "me/x", "--dry-run"),
    ]
    for command in commands:
        done = icl_align(*command, cwd=tmp_path, code=2)
        assert done.stdout == "" and len(done.stderr.strip().splitlines()) == 1


def test_described_retrieval_packs(tmp_path: Path) -> None:
    """By name of the index; the pool is told apart from what a query gets."""
    hand = load_pack("baseline")
    assert isinstance(hand, Pack)
    near = indexed(hand, bundled("pool.jsonl"), Recipe(k=2))
    _, index = save(near, tmp_path / "near.json")
    again = load_pack(index)
    assert isinstance(again, RetrievalPack)
    assert again.render("Hi?") == near.render("Hi?")
    told = described(again)
    assert (told["exemplars"], told["pool"], told["tokens"]) == (2, 63, None)
    assert told["digest"] == near.digest
