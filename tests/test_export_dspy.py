"""A pack as a saved DSPy program: it comes back whole, and another process sends the same bytes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import dspy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from icl_align.dspy_adapter import load_program
from icl_align.errors import UserError
from icl_align.export.dspy_program import EXPORTER
from icl_align.pack import Pack
from icl_align.prompt import FORMATS, Prompt
from icl_align.types import Check, Decoding, Example, Turn

NASTY = (
    "```py\n# Query:\n```\n",
    "{{ 7*7 }} {% raw %} {# c #}",
    "a\r\n\\x \u2028\U0001f600",
    " \n lead ",
    "",
)
CHECKS = (Check("contains_all", ("x",)),)
PACK = Pack(
    Prompt(
        "  Be kind.\n\tAlways {{ so }}.\n",
        (
            *(
                Example(text, text[::-1], id=f"e{i}", tags=("t",), checks=CHECKS)
                for i, text in enumerate(NASTY)
            ),
            Example("q", "a", turns=(Turn("q1", "a1"), Turn(NASTY[0], NASTY[1]))),
        ),
        FORMATS["inline"],
        Decoding(0.3, max_tokens=64, repetition_penalty=1.1),
    ),
    {"id": "bundled"},
    {"seed": 0, "dev": {"mean": 0.5}},
    "2026-11-21",
)
TALKS = [
    Example("Hi?"),
    *(Example(text, turns=(Turn(text, text),)) for text in NASTY),
    Example("last", turns=tuple(Turn(f"q{i}", f"a{i}\n# Query:\n") for i in range(20))),
]


def test_the_whole_pack_comes_back(tmp_path: Path) -> None:
    """Prompt, ids, model and evidence survive, in one file, and DSPy sends the pack's bytes."""
    assert EXPORTER.write(PACK, tmp_path / EXPORTER.suffix) == [tmp_path / "program.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["program.json"]
    assert EXPORTER.load(tmp_path / "program.json") == PACK
    wanted = [PACK.prompt.render(talk) for talk in TALKS]
    assert EXPORTER.render(tmp_path / "program.json", TALKS) == wanted


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(system=st.text(max_size=30), answer=st.text(max_size=30), query=st.text(max_size=30))
def test_any_text_survives(tmp_path: Path, system: str, answer: str, query: str) -> None:
    """Texts of any characters come back, and are sent, as they are; half a surrogate is refused."""
    pack = replace(PACK, prompt=Prompt(system, (Example("q", answer),), FORMATS["block"]))
    path = tmp_path / "p.json"
    EXPORTER.write(pack, path)
    assert EXPORTER.load(path) == pack
    assert EXPORTER.render(path, [Example(query)]) == [pack.prompt.render(query)]


PROBE = """
import sys
import dspy
from icl_align.dspy_adapter import load_program
from dspy.lm15 import Message, Response, TextPart, Usage

class Engine:
    def complete(self, request):
        self.request = request
        return Response(id=None, model=request.model, message=Message.assistant([TextPart("Yes.")]),
                        finish_reason="stop", usage=Usage(input_tokens=0, output_tokens=0, total_tokens=0))
    def close(self): pass

engine = Engine()
program, adapter = load_program(sys.argv[1])
with dspy.context(lm=dspy.LM("any/model", engine=engine, cache=False), adapter=adapter):
    found = program(query=" Hi?\\n", history=dspy.History(messages=[{"query": "a", "answer": "b "}]))
assert found.answer == "Yes."
assert engine.request.config.temperature == 0.3 and engine.request.config.max_tokens == 64
ours = {m for m in sys.modules if m.startswith("icl_align")}
assert not {m for m in ours if m.split(".")[1:2] in (["engines"], ["scorers"], ["search"], ["run"])}, ours
assert "torch" not in sys.modules and "transformers" not in sys.modules
(message,) = engine.request.messages
sys.stdout.buffer.write(message.text.encode())
"""


def test_a_fresh_process_sends_the_same_bytes(tmp_path: Path) -> None:
    """One that imports DSPy and the adapter alone, with an engine of its own."""
    EXPORTER.write(PACK, tmp_path / "program.json")
    done = subprocess.run(
        [sys.executable, "-c", PROBE, tmp_path / "program.json"],
        capture_output=True,
        check=False,
        timeout=120,
        cwd=Path(__file__).resolve().parents[1],
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode() == PACK.prompt.render(Example(" Hi?\n", turns=(Turn("a", "b "),)))


def test_plain_dspy_loads_it(tmp_path: Path) -> None:
    """`Predict.load` takes the file as a state of its own; DSPy tidies the instructions."""
    EXPORTER.write(PACK, tmp_path / "program.json")
    program = dspy.Predict("query, history: dspy.History -> answer")
    program.load(tmp_path / "program.json")
    assert program.signature.instructions == "Be kind.\nAlways {{ so }}."
    assert [demo["query"] for demo in program.demos] == [*NASTY, "q"]


def _changed(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.update({key: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_changed("demos", []), "was changed after it was exported"),
        (_changed("lm", {"model": "evil/x", "api_base": "http://x"}), "was changed after"),
        (_changed("forward", "evil"), "was changed after"),
        (_changed("icl_align", {"version": 2, "pack": {}}), "export version 2 is not 1"),
        (lambda c: c.pop("icl_align"), "was not exported by icl_align"),
        (lambda c: c["icl_align"]["pack"]["prompt"].update(system="x"), "changed after the pack"),
    ],
)
def test_a_changed_program_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    """Another model, other demos or attributes do not enter, and the file is named."""
    path = tmp_path / "program.json"
    EXPORTER.write(PACK, path)
    content = json.loads(path.read_bytes())
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        load_program(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.json", b"[" * 100_000, "nested too deeply"),
        ("p.json", b"{", "broken JSON"),
        ("p.json", b"[]", "is a JSON object, not list"),
        ("p.pkl", b"cos\nsystem\n", "is no JSON file"),
    ],
)
def test_a_hostile_file_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """No pickle is opened, and no nesting ends the process."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_program(tmp_path / name)


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    """Another suffix or a missing folder is one line, and leaves nothing."""
    with pytest.raises(UserError, match=r"written as .json, not as 'p.pkl'"):
        EXPORTER.write(PACK, tmp_path / "p.pkl")
    with pytest.raises(UserError, match="cannot write"):
        EXPORTER.write(PACK, tmp_path / "none" / "p.json")
    assert not list(tmp_path.iterdir())


def test_a_query_that_dspy_cannot_send(tmp_path: Path) -> None:
    """Half a surrogate pair is refused by name."""
    EXPORTER.write(PACK, tmp_path / "p.json")
    with pytest.raises(UserError, match="U\\+D800"):
        EXPORTER.render(tmp_path / "p.json", [Example("\ud800")])
