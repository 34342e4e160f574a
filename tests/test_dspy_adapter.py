"""Any signature goes to a base model as one text, and one in, one out is `Prompt.render` to the byte."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import dspy
import pytest
from dspy.utils.exceptions import AdapterParseError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from icl_align.dspy_adapter import UrialAdapter, starting_program
from icl_align.dspy_parts.lm import CompletionLM, Recorder, base_lm, sent
from icl_align.engines.scripted import ScriptedEngine
from icl_align.errors import UserError
from icl_align.pack import Pack
from icl_align.prompt import FORMATS, Prompt
from icl_align.scorers._lm_engine import replied
from icl_align.types import Decoding, Example, Response, Turn

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=25) | st.sampled_from(
    [
        "```py\n# Query:\n```",
        "{{ x }} {% y %} {# z #}",
        "a\r\nb\\n",
        " \tlead\n  in ",
        "",
        "\x1b[2J\x00",
    ]
)
TURNS = st.lists(st.builds(Turn, TEXT, TEXT), max_size=3).map(tuple)
PROMPTS = st.builds(
    Prompt,
    TEXT,
    st.lists(st.builds(Example, TEXT, TEXT, turns=TURNS), max_size=3).map(tuple),
    st.sampled_from(list(FORMATS.values())),
)


class Judge(dspy.Signature):  # type: ignore[misc]
    """Judge the text."""

    context: list[str] = dspy.InputField(desc="passages")
    question: str = dspy.InputField()
    kind: Literal["good", "bad"] = dspy.OutputField()
    score: int = dspy.OutputField(desc="from 1 to 5")


def run(program: Any, adapter: Any, said: str = "", **inputs: Any) -> tuple[str, Any]:
    """What was sent, and what came back."""
    seen: list[Any] = []

    class Engine(Recorder):
        def complete(self, request: Any) -> Any:
            seen.append(request)
            return replied(request, Response(said, 1, "stop"))

    lm = dspy.LM("a/b", engine=Engine(), cache=False, num_retries=0)
    with dspy.context(lm=lm, adapter=adapter):
        found = program(**inputs)
    run.stop = seen[0].config.stop  # type: ignore[attr-defined]
    run.config = seen[0].config  # type: ignore[attr-defined]
    return sent(seen[0]), found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(prompt=PROMPTS, query=TEXT, turns=TURNS)
def test_a_pack_as_a_program_sends_the_packs_bytes(
    prompt: Prompt, query: str, turns: tuple[Turn, ...]
) -> None:
    """DSPy's own code sends `Prompt.render`, and its stop strings, whatever the texts hold."""
    program = starting_program(Pack(prompt), history=True)
    messages = [{"query": turn.query, "answer": turn.answer} for turn in turns]
    text, _ = run(
        program, UrialAdapter.of(prompt), query=query, history=dspy.History(messages=messages)
    )
    assert text == prompt.render(Example(query, turns=turns))
    assert run.stop == prompt.stop  # type: ignore[attr-defined]


@pytest.mark.parametrize("form", FORMATS)
def test_any_names_of_one_in_one_out(form: str) -> None:
    """The fields' names and descriptions are not sent; the answer is what `parse` gives."""
    signature = dspy.Signature("question -> reply", "Be kind.")
    program = dspy.Predict(signature)
    program.demos = [dspy.Example(question="Hi?", reply="Ho."), {"question": "no answer"}]
    prompt = Prompt("Be kind.", (Example("Hi?", "Ho."),), FORMATS[form])
    said = "```py\n1\n```\nSo 1.\n" + (
        "```\n\n# Query:\n```\nmore" if "`" in prompt.stop[0] else ""
    )
    text, found = run(program, UrialAdapter(form), said, question="Two?")
    assert text == prompt.render("Two?")
    assert found.reply == prompt.parse(said) == "```py\n1\n```\nSo 1."


def test_irregular_white_space_is_kept() -> None:
    """A prompt read from a file with white space of its own is sent as it stands there."""
    fence = "```"
    text = "".join(
        f"# Query:\n{fence}\n{q}\n{fence}\n\n# Answer:\n{fence}\n{q}!\n{fence}{gap}"
        for q, gap in (("a", "\n\n\n"), ("b", "\n\n"), ("c", "\n\n"), ("d", "\n"))
    )
    prompt = Prompt.from_text(f"# Instruction\n\nBe kind.\n\n\n{text}")
    assert prompt.layouts
    program = starting_program(Pack(prompt))
    assert run(program, UrialAdapter.of(prompt), query="q")[0] == prompt.render("q")
    assert run.stop == prompt.stop  # type: ignore[attr-defined]


def test_several_typed_fields() -> None:
    """Labels stand above values, the fields are described, and values come back as their types."""
    program = dspy.ChainOfThought(Judge)
    whole = {"context": ["x"], "question": "q", "reasoning": "so", "kind": "bad", "score": 1}
    program.predict.demos = [whole, {"question": "only", "kind": "good"}]
    said = "First.\n\nScore: as I say\n\nKind:\ngood\n\nScore: 4\n```\n\n# Query:\n```\nmore"
    text, found = run(program, UrialAdapter(), said, context=["a", "b"], question="Is it?")
    assert text.startswith(
        "# Instruction\n\nJudge the text.\n\nEach query gives:\n- Context: passages"
    )
    assert "- Score: from 1 to 5; must be a single int value\n" in text
    assert text.index("only") < text.index("Reasoning:\nso\n\nKind:\nbad\n\nScore:\n1\n```")
    assert text.endswith(
        'Context:\n["a", "b"]\n\nQuestion:\nIs it?\n```\n\n# Answer:\n```\nReasoning:\n'
    )
    assert (found.kind, found.score) == ("good", 4)
    assert found.reasoning == "First.\n\nScore: as I say"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("Only reasons.", "the completion lacks kind, score"),
        ("r\n\nKind:\ngood\n\nScore:\nmany", "'score' cannot be read from 'many'"),
        ("r\n\nKind:\nneither\n\nScore:\n1", "'kind' cannot be read from 'neither'"),
    ],
)
def test_what_cannot_be_read_is_an_error_of_dspys(said: str, message: str) -> None:
    """A missing or wrong field is DSPy's parse error, which names it."""
    with pytest.raises(AdapterParseError, match=message):
        run(dspy.ChainOfThought(Judge), UrialAdapter(), said, context=[], question="q")


def test_an_empty_completion_is_an_empty_answer() -> None:
    """A base model that stops at once has answered nothing, as `icl-align answer` says."""
    assert run(dspy.Predict("q -> a"), UrialAdapter(), "", q="?")[1].a == ""


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(
        st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1),
        min_size=3,
        max_size=3,
    )
)
def test_written_fields_are_read_back(values: list[str]) -> None:
    """What a demo shows is what a completion is read as."""
    signature = dspy.Signature("q -> first, second_part, third")
    fields = dict(zip(signature.output_fields, values, strict=True))
    adapter = UrialAdapter("headings")
    shown = adapter.prompt(signature, [{"q": "q", **fields}]).exemplars[0].answer
    assert shown is not None
    if not any(value.startswith(("First:", "Second part:", "Third:")) for value in values):
        assert adapter.parse(signature, shown.removeprefix("First:\n")) == fields


def test_decoding_is_asked_for_and_a_predictor_goes_first() -> None:
    """The pack's decoding is sent; what the call says, and its stop strings, are kept."""
    adapter = UrialAdapter(decoding=Decoding(0.3, top_p=0.9, max_tokens=7, seed=5))
    run(dspy.Predict("q -> a"), adapter, "x", q="?", config={"max_tokens": 9, "stop": "END"})
    config = run.config  # type: ignore[attr-defined]
    assert (config.temperature, config.top_p, config.max_tokens, config.seed) == (0.3, 0.9, 9, 5)
    assert config.stop == ("\n\n# Query:\n```", "END")


def test_an_engine_of_ours_answers_a_dspy_program() -> None:
    """Batches, decoding and stop strings reach the engine; a chat is refused, and so is text mode."""
    prompt = Prompt("Be kind.", (), FORMATS["block"], Decoding(max_tokens=3))
    engine = ScriptedEngine(lambda _: "one two three four five")
    lm = base_lm(engine, Decoding(max_tokens=2, repetition_penalty=1.1))
    program = starting_program(Pack(prompt))
    with dspy.context(lm=lm, adapter=UrialAdapter.of(prompt)):
        assert program(query="?").answer == "one two three"
    with dspy.context(lm=lm, adapter=UrialAdapter()):
        assert program(query="?").answer == "one two"
    assert isinstance(lm.engine, CompletionLM)
    assert lm.engine.usage.paid == 2
    with (
        dspy.context(lm=lm, adapter=dspy.ChatAdapter(use_json_adapter_fallback=False)),
        pytest.raises(Exception, match="use dspy.context"),
    ):
        program(query="?")
    with (
        dspy.context(lm=dspy.LM("openai/x", model_type="text"), adapter=UrialAdapter()),
        pytest.raises(UserError, match="BEGIN RESPONSE"),
    ):
        program(query="?")


def test_without_blocking() -> None:
    """The asynchronous call sends the same text."""

    class Later(Recorder):
        async def complete(self, request: Any) -> Any:
            return super().complete(request)

        async def aclose(self) -> None: ...

    later = Later()
    lm = dspy.LM("a/b", engine=Recorder(), async_engine=later, cache=False)
    with dspy.context(lm=lm, adapter=UrialAdapter()):
        asyncio.run(dspy.Predict(dspy.Signature("q -> a", "S")).acall(q="?"))
    assert later.texts == [Prompt("S", (), FORMATS["block"]).render("?")]


def test_what_a_text_cannot_carry_is_named() -> None:
    """Pictures, missing inputs, incomplete messages and unknown formats are refused by name."""
    with pytest.raises(UserError, match="no format 'blok'"):
        UrialAdapter("blok")
    picture = dspy.Predict("image: dspy.Image -> a")
    with pytest.raises(UserError, match="'image' is a Image; a base model is sent text alone"):
        run(picture, UrialAdapter(), image=dspy.Image(url="https://example.com/a.png"))
    with pytest.raises(UserError, match="'q' is missing"):
        run(dspy.Predict("q -> a"), UrialAdapter())
    with pytest.raises(UserError, match="message 1 of the history has no output, 'a'"):
        run(
            dspy.Predict("q, history: dspy.History -> a"),
            UrialAdapter(),
            q="?",
            history=dspy.History(messages=[{"q": "only"}]),
        )
