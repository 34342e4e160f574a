"""Other tools' prompts come in as packs: published files byte for byte, DSPy's programs as sent."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import dspy
import pytest
import typer
from typer.testing import CliRunner

from icl_align.cli.importing import import_
from icl_align.dspy_adapter import UrialAdapter, starting_program
from icl_align.errors import UserError
from icl_align.export.dspy_program import EXPORTER
from icl_align.importers import import_pack
from icl_align.importers.drpo import read_pool, with_exemplars
from icl_align.importers.dspy_saved import read
from icl_align.pack import Pack
from icl_align.prompt import FORMATS, Prompt
from icl_align.types import Example, Turn

SHARED = Path(os.environ.get("ICL_ALIGN_SHARED", Path(__file__).resolve().parents[2] / "shared"))
FILES = sorted(
    [
        *(SHARED / "data" / "urial_prompts").rglob("*.txt"),
        *(SHARED / "data" / "drpo_packs").glob("*.json*"),
    ]
)
needs_shared = pytest.mark.skipif(not FILES, reason=f"no published prompts in {SHARED}")
TALK = Example("Hi {{ x }}?", turns=(Turn("a", "b"),))
MALFORMED = "inst_2k_v4.txt"


@needs_shared
@pytest.mark.parametrize("path", [p for p in FILES if p.name != MALFORMED], ids=lambda p: p.name)
def test_published_files_come_back(path: Path, tmp_path: Path) -> None:
    """Each imports, renders, goes out as pack, text and program, and comes back the same."""
    pack = import_pack(path)
    wanted = pack.prompt.render(TALK)
    pack.save(tmp_path / "pack.json")
    assert Pack.load(tmp_path / "pack.json") == pack
    pack.save(tmp_path / "pack.txt")
    assert Pack.load(tmp_path / "pack.txt").prompt.render(TALK) == wanted
    if path.suffix == ".txt":
        assert (tmp_path / "pack.txt").read_bytes() == path.read_bytes()
    EXPORTER.write(pack, tmp_path / "program.json")
    assert import_pack(tmp_path / "program.json") == pack
    assert EXPORTER.render(tmp_path / "program.json", [TALK]) == [wanted]


@needs_shared
def test_the_malformed_file_is_told_with_its_line() -> None:
    """URIAL's scrambled file says what is wrong and where."""
    with pytest.raises(UserError, match="inst_2k_v4.txt:88: scrambled turns"):
        import_pack(SHARED / "data" / "urial_prompts" / MALFORMED)


@needs_shared
def test_drpos_texts_are_kept() -> None:
    """The final system text and the exemplars without their marks, together in one pack."""
    folder = SHARED / "data" / "drpo_packs"
    text = (folder / "icl_examples.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    pool = read_pool(folder / "icl_examples.jsonl")
    assert [(e.query, e.answer) for e in pool] == [(row["query"], row["answer"]) for row in rows]
    content = json.loads((folder / "llama3-8b.json").read_bytes())
    pack = with_exemplars(import_pack(folder / "llama3-8b.json"), pool[:2])
    assert pack.prompt.system == content["system_prompt"]
    assert pack.prompt == Prompt(content["system_prompt"], pool[:2], FORMATS["block"])


@pytest.mark.parametrize(
    ("content", "system", "exemplars"),
    [
        ({"system_prompt": "Be.", "levels": []}, "Be.", ()),
        ([{"system_prompt": "First."}, {"system_prompt": "Last."}], "Last.", ()),
        ({"0": {"prompt": "First."}, "1": {"prompt": "Last."}}, "Last.", ()),
        ({"Q1": "<START>\nA1\n<END>", "Q2": "A2"}, "", (("Q1", "A1"), ("Q2", "A2"))),
        ([{"question": "Q", "response": "<START>\na\n\nb\n<END>\n"}], "", (("Q", "a\n\nb"),)),
    ],
)
def test_drpos_shapes(tmp_path: Path, content: Any, system: str, exemplars: Any) -> None:
    """A result with one text or with levels, of which the last counts, and pools of both shapes."""
    (tmp_path / "output.json").write_text(json.dumps(content), encoding="utf-8")
    prompt = import_pack(tmp_path / "output.json").prompt
    assert prompt.system == system
    assert tuple((e.query, e.answer) for e in prompt.exemplars) == exemplars


def saved(tmp_path: Path, program: Any) -> Path:
    program.save(tmp_path / "program.json")
    return tmp_path / "program.json"


@pytest.mark.parametrize("history", [True, False])
def test_a_predict_comes_in_as_it_is_sent(tmp_path: Path, history: bool) -> None:
    """What plain DSPy saved of a pack's program gives the pack's prompt again, names or none."""
    turns = (Turn("q1", "a1"),) if history else ()
    prompt = Prompt("Be kind.", (Example("q", "a\n", turns=turns),), FORMATS["block"])
    path = saved(tmp_path, starting_program(Pack(prompt), history=history))
    assert import_pack(path).prompt == prompt
    other = dspy.Predict(dspy.Signature("cited_text -> summary", "Sum up."))
    other.demos = [dspy.Example(cited_text="t", summary="s", augmented=True)]
    found = import_pack(saved(tmp_path, other)).prompt
    assert found == Prompt("Sum up.", (Example("t", "s"),), FORMATS["block"])


def test_a_chain_of_thought_comes_in_with_its_labels(tmp_path: Path) -> None:
    """Its exemplars are those the adapter sends; the names come from descriptions or from demos."""
    described = dspy.Signature("question -> answer", "Think.").with_updated_fields(
        "answer", desc="short", prefix="Answer:"
    )
    program = dspy.ChainOfThought(described)
    program.predict.demos = [dspy.Example(question="q", reasoning="r", answer="a")]
    pack = import_pack(saved(tmp_path, program))
    sent = UrialAdapter().text(program.predict.signature, program.predict.demos, {"question": "Q?"})
    assert f"{pack.prompt.render('Q?')}Reasoning:\n" == sent
    assert pack.prompt.exemplars == (Example("q", "Reasoning:\nr\n\nAnswer:\na"),)


def test_inputs_can_be_named(tmp_path: Path) -> None:
    """With three fields and no reasoning the file does not say which are inputs."""
    path = saved(tmp_path, dspy.Predict("context, question -> answer"))
    with pytest.raises(
        UserError, match="which of context, question, answer are inputs is not saved"
    ):
        import_pack(path)
    system = read(path, inputs=["context", "question"]).prompt.system
    assert (
        "Each query gives:\n- Context\n- Question\n\nEach answer gives, in this order:\n- Answer"
        in system
    )
    with pytest.raises(UserError, match="no field 'kontext'"):
        read(path, inputs=["kontext"])
    with pytest.raises(UserError, match="at least one must be an input and one not"):
        read(path, inputs=["context", "question", "answer"])


class Two(dspy.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = dspy.Predict("a -> b"), dspy.Predict("b -> c")


@pytest.mark.parametrize(
    ("content", "form", "message"),
    [
        (b"{}", "dspy", "no predictor with 'signature' and 'demos'"),
        (b'{"signature": {"fields": []}, "demos": []}', "auto", "which of  are inputs"),
        (
            b'{"signature": {"fields": [{}, {}], "instructions": ""}, "demos": []}',
            "auto",
            "the name of field 1 cannot be found",
        ),
        (
            b'{"signature": {"fields": [{"prefix": "A:"}, {"prefix": "B:"}]}, "demos": []}',
            "auto",
            "instructions must be a text",
        ),
        (
            b'{"signature": {"instructions": "", "fields": [{"prefix": "A:"}, {"prefix": "B:"}]}, "demos": [1]}',
            "auto",
            "demo 1 must be an object",
        ),
        (b"{}", "auto", "neither a result of DRPO"),
        (b'[{"query": 1}]', "auto", "exemplar 1 has no 'query' and 'answer'"),
        (b"[" * 100_000, "auto", "nested too deeply"),
        (b"{}", "dspi", "did you mean 'dspy'"),
        (b'{"version": 1, "prompt": {}, "digest": ""}', "auto", "is a pack already"),
    ],
)
def test_what_cannot_be_imported_says_why(
    tmp_path: Path, content: bytes, form: str, message: str
) -> None:
    """Each refusal names the file and what is wrong."""
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        import_pack(path, form)


def test_two_predictors_are_two_prompts(tmp_path: Path) -> None:
    """A program of several predictors is refused, and they are named."""
    with pytest.raises(UserError, match="2 predictors, first, second"):
        import_pack(saved(tmp_path, Two()))


def test_the_verb(tmp_path: Path) -> None:
    """`import` writes a pack and says so; options for other formats are refused."""
    app = typer.Typer()
    app.command()(import_)
    (tmp_path / "output.json").write_text('{"system_prompt": "Be."}', encoding="utf-8")
    (tmp_path / "pool.jsonl").write_text('{"query": "q", "answer": "a"}\n', encoding="utf-8")
    to = str(tmp_path / "pack.json")
    done = CliRunner().invoke(
        app,
        [
            str(tmp_path / "output.json"),
            "--to",
            to,
            "--exemplars",
            str(tmp_path / "pool.jsonl"),
            "--json",
        ],
    )
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["format"] == "drpo"
    assert told["digest"] == Pack.load(to).prompt.digest
    assert told["exemplars"] == 1
    done = CliRunner().invoke(app, [str(tmp_path / "pool.jsonl"), "--to", to, "--inputs", "a"])
    assert isinstance(done.exception, UserError)
    program = saved(tmp_path, dspy.Predict("a, b -> c"))
    done = CliRunner().invoke(app, [str(program), "--to", to, "--inputs", "a, b"])
    assert done.stdout == f"wrote {to}\n"
