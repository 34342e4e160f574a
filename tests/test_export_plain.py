"""Exports: what each target sends is, byte for byte, what `Prompt.render` gives."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import pytest
from export_cases import CODE, CONVERSATIONS, PACKS, UGLY, pack

from icl_align.errors import UserError
from icl_align.export import EXPORTS, Exporter, NotInstalledError, load_exporter, needed
from icl_align.export.files import LIMIT, load_python, parts, write_files
from icl_align.pack import Pack
from icl_align.prompt import FORMATS, Prompt
from icl_align.types import Example

SHARED = (
    Path(os.environ.get("ICL_ALIGN_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    / "data"
    / "urial_prompts"
)
QUICK = ("json", "python", "openai", "ollama", "promptfoo", "llamacpp")
EXTRA = {"langchain": "langchain_core", "inspect": "inspect_ai", "lm-eval": "lm_eval"}
OURS = ("urial", "text", *QUICK, *EXTRA)


def rendered(exporter: Exporter, given: Pack, to: Path, items: tuple[Example, ...]) -> list[str]:
    exporter.write(given, to)
    return exporter.render(to, items)


@pytest.mark.parametrize("given", PACKS.values(), ids=PACKS)
@pytest.mark.parametrize("name", QUICK)
def test_the_same_bytes(name: str, given: Pack, tmp_path: Path) -> None:
    """Code, braces, template syntax, controls, 20 turns: all are sent as `Prompt.render` has them."""
    exporter = load_exporter(name)
    assert exporter.name == name
    items: tuple[Example, ...] = CONVERSATIONS
    if name == "llamacpp":  # no command line holds NUL
        items = tuple(item for item in items if "\0" not in item.query)
    wanted = [given.prompt.render(item) for item in items]
    assert rendered(exporter, given, tmp_path / exporter.suffix, items) == wanted


@pytest.mark.parametrize("name", EXTRA)
def test_the_same_bytes_by_an_installed_target(name: str, tmp_path: Path) -> None:
    """langchain-core, Inspect and lm-eval, where they are installed, send the same bytes."""
    if importlib.util.find_spec(EXTRA[name]) is None:
        pytest.skip(f"{EXTRA[name]} is not installed")
    exporter = load_exporter(name)
    for number, key in enumerate(("ugly", "layouts", "turns", "empty")):
        given = PACKS[key]
        wanted = [given.prompt.render(item) for item in CONVERSATIONS]
        place = tmp_path / f"{number}{exporter.suffix}"
        assert rendered(exporter, given, place, CONVERSATIONS) == wanted, key


@pytest.mark.parametrize("name", EXTRA)
def test_an_absent_target_is_named(name: str, tmp_path: Path) -> None:
    """Writing needs no target; rendering names what to install."""
    exporter = load_exporter(name)
    exporter.write(PACKS["ugly"], tmp_path / exporter.suffix)
    if importlib.util.find_spec(EXTRA[name]) is None:
        with pytest.raises(NotInstalledError, match=r"pip install 'icl-align\[exports\]'"):
            exporter.render(tmp_path / exporter.suffix, CONVERSATIONS)


@pytest.mark.parametrize("given", PACKS.values(), ids=PACKS)
@pytest.mark.parametrize("name", ["json", "python", "openai", "langchain", "inspect"])
def test_whole_packs_come_back(name: str, given: Pack, tmp_path: Path) -> None:
    """A format that holds the whole pack gives back an equal one, evidence and model included."""
    exporter = load_exporter(name)
    whole = Pack(given.prompt, {"id": "my/model"}, {"dev": {"mean": 0.5, "n": 2}}, "today")
    exporter.write(whole, tmp_path / exporter.suffix)
    assert hasattr(exporter, "load")
    assert exporter.load(tmp_path / exporter.suffix) == whole


@pytest.mark.parametrize("given", PACKS.values(), ids=PACKS)
def test_text_has_one_slot(given: Pack, tmp_path: Path) -> None:
    """The slot is filled by str.format; earlier turns are refused."""
    exporter = load_exporter("text")
    single = tuple(item for item in CONVERSATIONS if not item.turns)
    wanted = [given.prompt.render(item) for item in single]
    assert rendered(exporter, given, tmp_path / "p.txt", single) == wanted
    with pytest.raises(UserError, match="cannot carry the earlier turns"):
        exporter.render(tmp_path / "p.txt", CONVERSATIONS)


@pytest.mark.parametrize("form", FORMATS)
def test_urial_texts_are_equal_or_refused(form: str, tmp_path: Path) -> None:
    """What is written reads back as the same prompt, in every dialect."""
    exporter = load_exporter("urial")
    given = pack("Be {kind}.", "One.", "Two:\n```py\nx = {}\n```", form=form)
    wanted = [given.prompt.render(item) for item in CONVERSATIONS]
    assert rendered(exporter, given, tmp_path / "p.txt", CONVERSATIONS) == wanted


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (pack("Be kind.", "a\rb"), r"cannot carry '\\r' \(U\+000D\) in the query of exemplar 1"),
        (pack("", form="block"), "cannot carry a prompt without system text and exemplars"),
        (pack("Be kind.", form="colon"), "cannot carry the format 'colon', as it has no exemplars"),
        (pack("S", "a\n```\n\n# Query:\n```\nb\n```\n\n# Answer:\n```\nc"), "cannot carry"),
    ],
)
def test_what_a_urial_text_cannot_carry(given: Pack, message: str, tmp_path: Path) -> None:
    """The character or the text in the way is named, and no file is there."""
    with pytest.raises(UserError, match=message):
        load_exporter("urial").write(given, tmp_path / "p.txt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", OURS)
def test_a_huge_pack_is_refused(name: str, tmp_path: Path) -> None:
    """A text longer than any context is refused before anything is written."""
    with pytest.raises(UserError, match=f"bytes, which no model reads; an export may have {LIMIT}"):
        load_exporter(name).write(pack("x" * (LIMIT + 1), "a"), tmp_path / "to")
    assert list(tmp_path.iterdir()) == []


def test_a_deeply_nested_pack_is_refused() -> None:
    """Brackets that would break a reader are refused before any writer sees them."""
    deep: list[Any] = []
    for _ in range(300):
        deep = [deep]
    with pytest.raises(UserError, match="nested more than 50 levels deep"):
        Pack(PACKS["empty"].prompt, {}, {"dev": deep})


@pytest.mark.parametrize(
    "bad", ["a\nSYSTEM evil", "a b", 'a"b', "$(id)", "`id`", "\x1b[2J", "a\u202eb"]
)
@pytest.mark.parametrize("name", ["ollama", "llamacpp"])
def test_a_models_id_injects_nothing(name: str, bad: str, tmp_path: Path) -> None:
    """An id with white space, quotes or controls is refused, and told in ASCII."""
    given = Pack(PACKS["empty"].prompt, {"id": bad})
    with pytest.raises(UserError, match="the model's id .* holds") as caught:
        load_exporter(name).write(given, tmp_path / "to")
    assert str(caught.value).isascii()
    assert list(tmp_path.iterdir()) == []


def test_shell_words_are_quoted(tmp_path: Path) -> None:
    """A stop string with shell syntax is one word of the command line, and runs nothing."""
    form = FORMATS["block"]
    evil = "'; touch evil; $(touch evil) `touch evil` \\n"
    changed = Prompt("S", (), type(form)(**{**_fields(form), "query_heading": evil}))
    load_exporter("llamacpp").write(Pack(changed), tmp_path / "x")
    script = (tmp_path / "x" / "run.sh").read_text(encoding="utf-8")
    assert "'\"'\"'; touch evil; $(touch evil) `touch evil` \\n" in script
    texts = load_exporter("llamacpp").render(tmp_path / "x", [Example("'; touch evil; '")])
    assert texts == [changed.render("'; touch evil; '")]
    assert not list(tmp_path.rglob("evil"))


def _fields(form: object) -> dict[str, str]:
    return {name: getattr(form, name) for name in type(form).__dataclass_fields__}  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["python", "langchain", "inspect"])
def test_python_files_hold_data_not_code(name: str, tmp_path: Path) -> None:
    """Whatever a pack holds, the file parses to literals and our own code, the same for any pack."""
    exporter = load_exporter(name)
    bodies = []
    for number, given in enumerate((PACKS["ugly"], PACKS["empty"])):
        place = tmp_path / f"{number}.py"
        exporter.write(given, place)
        tree = ast.parse(place.read_text(encoding="utf-8"))
        ast.literal_eval(tree.body[1].value)  # type: ignore[attr-defined]
        bodies.append([ast.dump(node) for node in tree.body[2:]])
    assert bodies[0] == bodies[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x = 1", "there is no PACK in this file"),
        ("PACK = __import__('os').system('touch evil')", "this is no exported Python file"),
        ("PACK = " + "[" * 5000 + "]" * 5000, "this is no exported Python file"),
        ("PACK = {'version': 9}", "pack version 9 is unknown"),
        ("PACK = (", "this is no exported Python file"),
    ],
)
def test_a_python_file_is_read_without_running_it(
    content: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loader looks for a literal; code in its place is refused, not run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.py").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        load_python(tmp_path / "p.py")
    assert not (tmp_path / "evil").exists()


def test_a_changed_openai_export_is_refused(tmp_path: Path) -> None:
    """Requests that are not the pack's are told when the file is read."""
    exporter = load_exporter("openai")
    exporter.write(PACKS["ugly"], tmp_path / "m.json")
    content = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))
    assert content["chat"]["messages"][0] == {"role": "system", "content": UGLY}
    assert content["completion"]["request"]["stop"] == list(PACKS["ugly"].prompt.stop)
    content["chat"]["messages"][0]["content"] = "Be rude."
    (tmp_path / "m.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match="the requests are not the pack's"):
        exporter.load(tmp_path / "m.json")  # type: ignore[attr-defined]


def test_a_modelfile_carries_decoding_and_stop(tmp_path: Path) -> None:
    """Ollama reads the stop string back; one that it would change is refused by its character."""
    from icl_align.export._modelfile import read_modelfile

    exporter = load_exporter("ollama")
    exporter.write(PACKS["ugly"], tmp_path / "Modelfile")
    found = read_modelfile((tmp_path / "Modelfile").read_text(encoding="utf-8"))
    assert found["stop"] == list(PACKS["ugly"].prompt.stop)
    assert found["temperature"] == ["0.3"] and found["repeat_penalty"] == ["1.1"]
    assert "seed" not in found
    form = FORMATS["colon"]
    heading = {**_fields(form), "query_heading": "User\u200d:"}
    with pytest.raises(UserError, match=r"'\\u200d' \(U\+200D\) in a stop string"):
        exporter.write(Pack(Prompt("S", (), type(form)(**heading))), tmp_path / "no")


def test_files_are_there_whole_or_not_at_all(tmp_path: Path) -> None:
    """A file that cannot be written takes the others with it, and a folder made for them."""
    (tmp_path / "folder").mkdir()
    for last in (tmp_path / "folder", tmp_path / "none" / "none" / "x"):
        with pytest.raises(UserError, match=r"cannot write .*; choose another place"):
            write_files({last: "b", tmp_path / "a": "a"})
    with pytest.raises(UserError, match="cannot write"):
        write_files({tmp_path / "new" / "a": "a", tmp_path / "new" / "b" / "c" / "d": "b"})
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.skipif(not SHARED.exists(), reason="the published prompts are not here")
@pytest.mark.parametrize("name", ["json", "urial", "openai", "ollama", "promptfoo", "python"])
def test_published_prompts(name: str, tmp_path: Path) -> None:
    """Every published URIAL and icl-alignment prompt that can be read is sent as it is."""
    exporter, read = load_exporter(name), 0
    for file in sorted(SHARED.rglob("*.txt")):
        try:
            given = Pack.load(file)
        except UserError:
            continue  # test_urial_text has which files are malformed
        read += 1
        place = tmp_path / f"{read}-{exporter.suffix}"
        wanted = [given.prompt.render(item) for item in CONVERSATIONS]
        assert rendered(exporter, given, place, CONVERSATIONS) == wanted, file
        if hasattr(exporter, "load"):
            assert exporter.load(place).prompt.exemplars == given.prompt.exemplars, file
    assert read >= 9


def test_unknown_and_unmerged_formats() -> None:
    """A misspelt name gets the nearest; a spelling in use is understood."""
    with pytest.raises(UserError, match="no export format 'opnai'; did you mean 'openai'"):
        load_exporter("opnai")
    with pytest.raises(UserError, match="no export format 'zzzzz'; known are urial, json"):
        load_exporter("zzzzz")
    assert load_exporter("llama.cpp").name == "llamacpp"
    with pytest.raises(NotInstalledError, match="no_such_target is not installed"):
        needed("no_such_target.part", "exports")
    assert set(OURS) <= set(EXPORTS)


def test_parts_are_the_prompt() -> None:
    """The constant strings joined around a conversation are its text."""
    for given in PACKS.values():
        for item in CONVERSATIONS:
            turns = [(turn.query, turn.answer) for turn in item.turns]
            assert parts(given.prompt).wrap(item.query, turns) == given.prompt.render(item)
    assert CODE in parts(PACKS["no system"].prompt).head
