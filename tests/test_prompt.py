"""Rendering and parsing are exact, in every format."""

from __future__ import annotations

from dataclasses import replace

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
code = prose.map(lambda text: f"{FENCE}python\n# Query:\nx = {text!r}\n# User:\n{FENCE}")
answers = st.lists(st.one_of(prose, code), min_size=1, max_size=4).map("\n".join)


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
    ],
)
def test_json_with_a_mistake_is_refused(key: str, value: object, message: str) -> None:
    """A mistake is named with its place."""
    content = {**Prompt("S", EXEMPLARS, FORMATS["block"]).to_json(), key: value}
    with pytest.raises(UserError, match=message):
        Prompt.from_json(content)
