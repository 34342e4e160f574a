"""Rendering and parsing are exact, in every format."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_align.errors import UserError
from icl_align.prompt import FENCE, FORMATS, Prompt
from icl_align.types import Check, Decoding, Example, Turn

EXEMPLARS = (Example("What is tea?", "A drink."), Example("And 2 + 2?", "It is 4.\n\nEasy."))
FORMAT_NAMES = sorted(FORMATS)

prose = st.text(
    st.characters(exclude_characters="`\r", exclude_categories=["Cs", "Cc"]),
    min_size=1,
    max_size=40,
).map(lambda text: f"a{text}z")
"""Text of one line that starts and ends in a letter."""
code = st.builds(
    lambda text, tag, indent: "\n".join(
        f"{indent}{line}" for line in (f"{FENCE}{tag}", f"x = {text!r}", "# Query:", "# User:", FENCE)
    ),
    prose, st.sampled_from(["", "python"]), st.sampled_from(["", "   "]),
)  # fmt: skip
"""Code blocks, with or without a language tag, whose comments look like headings."""
answers = st.lists(st.one_of(prose, code), min_size=1, max_size=5).map("\n".join)


@st.composite
def prompts(draw: st.DrawFn) -> Prompt:
    pairs = draw(st.lists(st.tuples(prose, answers), max_size=3))
    system = draw(st.one_of(st.just(""), prose)) if pairs else draw(prose)
    form = FORMATS[draw(st.sampled_from(FORMAT_NAMES))]
    decoding = Decoding(
        temperature=draw(st.sampled_from([0.0, 0.5])), seed=draw(st.sampled_from([None, 0, 7]))
    )
    return Prompt(system, tuple(Example(q, a) for q, a in pairs), form, decoding)


def test_block_format_is_urials_own() -> None:
    """The block format sends what URIAL's current code sends."""
    prompt = Prompt("Be kind.", (Example("Hi?", "Ho."),), FORMATS["block"])
    assert prompt.render("You?") == (
        "# Instruction\n\nBe kind.\n\n\n# Query:\n```\nHi?\n```\n\n# Answer:\n```\nHo.\n```\n\n"
        "# Query:\n```\nYou?\n```\n\n# Answer:\n```\n"
    )


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_what_is_sent_ends_in_a_newline(name: str) -> None:
    """A trailing space would be tokenised apart from the answer."""
    assert Prompt("", (), FORMATS[name]).render("Hi").endswith("\n")


def test_zero_shot_has_no_instruction_heading() -> None:
    """Without system text and exemplars only the query template is sent."""
    assert (
        Prompt("", (), FORMATS["block"]).render("Hi")
        == "# Query:\n```\nHi\n```\n\n# Answer:\n```\n"
    )


def test_history_is_written_as_further_turns() -> None:
    """Earlier turns of a conversation stand between the exemplars and the query, in the same format."""
    prompt = Prompt("S", EXEMPLARS, FORMATS["colon"])
    conversation = Example("And now?", turns=(Turn("First?", "One."),))
    longer = Prompt("S", (*EXEMPLARS, Example("First?", "One.")), FORMATS["colon"])
    assert prompt.render(conversation) == longer.render("And now?")


@given(prompts(), answers)
def test_parse_inverts_render(prompt: Prompt, answer: str) -> None:
    """An answer written in the format, with another turn behind it, comes back whole."""
    form = prompt.format
    runaway = form.turn("More?", "Yes.")
    assert prompt.parse(answer + form.answer_close + form.gap + runaway) == answer
    assert prompt.parse(answer + form.answer_close + "\n") == answer


@given(prompts(), answers)
def test_stopping_at_a_stop_string_changes_nothing(prompt: Prompt, answer: str) -> None:
    """An engine that cuts at the stop string gives the same answer as one that runs on."""
    form = prompt.format
    full = answer + form.answer_close + form.gap + form.turn("More?", "Yes.")
    (stop,) = prompt.stop
    assert full.index(stop) >= len(answer)
    assert prompt.parse(full[: full.index(stop)]) == answer


@given(prompts(), answers)
def test_a_completion_cut_off_by_its_bound_is_kept(prompt: Prompt, answer: str) -> None:
    """Without a closing fence the whole completion is the answer."""
    assert prompt.parse(answer) == answer


@given(prompts())
def test_text_and_json_round_trip(prompt: Prompt) -> None:
    """A prompt comes back from its text file and its JSON, rendering the same bytes."""
    assert Prompt.from_json(prompt.to_json()) == prompt
    read = Prompt.from_text(prompt.to_text(), decoding=prompt.decoding)
    assert read.to_text() == prompt.to_text()
    if prompt.exemplars:
        assert read.render("Q") == prompt.render("Q")
        assert read.stop == prompt.stop


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("Yes.\n```\n\n# Query:\n```\nNext?", "Yes."),
        ("Yes.\n```", "Yes."),
        ("Yes.\n```\n", "Yes."),
        ("Cut off in the mid", "Cut off in the mid"),
        ("No fence.\n\n# Query:\n```\nNext?", "No fence."),
        ("Say # Query: in a line\n```\n", "Say # Query: in a line"),
        ("Run\n```sh\nls\n```\nDone\n```\n\n# Query:\n```", "Run\n```sh\nls\n```\nDone"),
        ("Run\n```\nls\n```\nDone\n```\n\n# Query:\n```", "Run\n```\nls\n```\nDone"),
        ("See\n```py\n# Query:\nx\n```\n```\n", "See\n```py\n# Query:\nx\n```"),
        ("", ""),
        ("See\n```py\nx\n```", "See\n```py\nx\n```"),
        ("Run\n```\nls\n```", "Run\n```\nls\n```"),
        ("Run\n```\nls -l", "Run\n```\nls -l"),
        (
            "1. Run\n   ```sh\n   ls\n   ```\nDone\n```\n\n# Query:\n```\n",
            "1. Run\n   ```sh\n   ls\n   ```\nDone",
        ),
        ("````md\n```\nx\n```\n````\nEnd\n```\n", "````md\n```\nx\n```\n````\nEnd"),
        (
            "Run\n```\n# Query:\nls\n```\nDone\n```\n\n# Query:\n```\n",
            "Run\n```\n# Query:\nls\n```\nDone",
        ),
        ("```py\nx = 1\n\n# Query:\n```Next?```\n", "```py\nx = 1"),
        ("Yes.\n```\n\n# Query: Next?\n", "Yes."),
        ("Yes.\n# Query: Next?\n", "Yes."),
        (
            "## Query: is a title\n# Query optimisation\n```",
            "## Query: is a title\n# Query optimisation",
        ),
        ("Yes.\n```\n\n# Answer:\n```\nMore.\n```\n", "Yes."),
        ("Yes.\n```\n\nSome more words.", "Yes."),
        ("Yes.\r\n```\r\n\r\n# Query:\r\n", "Yes.\r"),
        ("# Query:\n```\nNext?", ""),
    ],
)
def test_parse_of_fenced_completions(completion: str, answer: str) -> None:
    """Exactly the closing fence goes, code blocks stay, the next turn is cut."""
    assert Prompt("", (), FORMATS["block"]).parse(completion) == answer


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("Yes.\n\nUser:\nNext?", "Yes."),
        ("User: is a word\n\nUser:\n", "User: is a word"),
        ("He said\nUser: hello\n\nUser: Next?", "He said\nUser: hello"),
        ("```\nUser:\n```\nEnd", "```\nUser:\n```\nEnd"),
    ],
)
def test_parse_of_unfenced_completions(completion: str, answer: str) -> None:
    """Without fences the next heading alone on a line ends the answer."""
    assert Prompt("", (), FORMATS["colon"]).parse(completion) == answer


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_stop_strings_are_in_a_runaway_turn_and_not_in_code(name: str) -> None:
    """Generation ends where a next turn starts; a heading in a comment does not end it."""
    prompt = Prompt("", EXEMPLARS, FORMATS[name])
    (stop,) = prompt.stop
    assert stop in prompt.render("Next?")
    if prompt.format.fenced:
        assert stop not in "```python\n# Query:\nx = 1\n```"


def test_digest_covers_what_is_sent_and_nothing_else() -> None:
    """Ids, tags, checks and the format's name do not count; texts and decoding do."""
    prompt = Prompt("S", EXEMPLARS, FORMATS["block"])
    labelled = tuple(replace(e, id="x", tags=("t",), checks=(Check("stops"),)) for e in EXEMPLARS)
    same = Prompt("S", labelled, replace(FORMATS["block"], name="mine"))
    assert same.digest == prompt.digest
    others = [
        replace(prompt, system="T"),
        replace(prompt, exemplars=EXEMPLARS[::-1]),
        replace(prompt, format=FORMATS["inline"]),
        replace(prompt, decoding=Decoding(max_tokens=9)),
        replace(prompt, decoding=Decoding(seed=None)),
    ]
    assert len({prompt.digest, *(other.digest for other in others)}) == len(others) + 1


def test_equal_prompts_have_equal_digests() -> None:
    """A whole number where a real one is meant is the same number; the file's end is not sent."""
    prompt = Prompt("S", EXEMPLARS, FORMATS["block"], Decoding(temperature=0.0))
    same = Prompt("S", EXEMPLARS, FORMATS["block"], Decoding(temperature=0, top_p=1))
    assert prompt == same
    assert prompt.digest == same.digest
    assert replace(prompt, format=replace(prompt.format, tail="")).digest == prompt.digest


def test_json_keeps_everything_of_an_exemplar() -> None:
    """Labels, earlier turns and checks come back too."""
    exemplar = Example(
        "Q", "A", "e1", ("t",), (Turn("a", "b"),), (Check("contains_all", ("x",), 0.5),)
    )
    prompt = Prompt("S", (exemplar,), FORMATS["block"])
    assert Prompt.from_json(json.loads(json.dumps(prompt.to_json()))) == prompt


def test_lint_is_at_hand_here() -> None:
    """The rules can be had from this module; a name that is none is refused."""
    from icl_align import lint as rules
    from icl_align import prompt as module

    assert (module.lint, module.Finding) == (rules.lint, rules.Finding)
    with pytest.raises(AttributeError, match="no attribute 'lin'"):
        _ = module.lin


def test_an_exemplar_needs_an_answer() -> None:
    """An exemplar without an answer is refused by number."""
    with pytest.raises(UserError, match="exemplar 2 .'B.'. has no answer"):
        Prompt("", (Example("A?", "a"), Example("B?")), FORMATS["block"])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("sytem", "x", "unknown key 'sytem'; did you mean 'system'"),
        ("system", 3, "prompt.system must be a string, got int"),
        ("exemplars", [{"query": "q"}], r"exemplars\[1\] lacks answer"),
        ("exemplars", "no", "exemplars must be a list"),
        ("decoding", {"temperature": -1}, "prompt.decoding lacks"),
        (
            "decoding",
            {**asdict(Decoding()), "temperature": -1},
            "decoding.temperature must be >= 0",
        ),
        (
            "decoding",
            {**asdict(Decoding()), "temperature": "0"},
            "decoding.temperature must be a number",
        ),
        (
            "decoding",
            {**asdict(Decoding()), "max_tokens": 1.5},
            "max_tokens must be a whole number",
        ),
        ("decoding", {**asdict(Decoding()), "sed": 1}, "unknown key 'sed'; did you mean 'seed'"),
    ],
)
def test_json_with_a_mistake_is_refused(key: str, value: object, message: str) -> None:
    """A mistake is named with its place."""
    content = {**Prompt("S", EXEMPLARS, FORMATS["block"]).to_json(), key: value}
    with pytest.raises(UserError, match=message):
        Prompt.from_json(content)
