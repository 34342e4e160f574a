"""The Jinja chat template: the very bytes of the prompt, and nothing of a pack runs in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2.exceptions import TemplateError
from transformers import AutoTokenizer
from transformers.utils.chat_template_utils import render_jinja_template

from icl_align.errors import UserError
from icl_align.export._reply import response_template
from icl_align.export.chat_template import EXPORTER, chat_template, messages
from icl_align.models import bundled
from icl_align.pack import Pack
from icl_align.prompt import FORMATS, Prompt
from icl_align.types import Example, Turn

NASTY = (
    "  {{ 7 * 7 }}{% raw %}{{ ''.__class__.__mro__ }}{% endraw %}{# gone #}-}}{%- set x = 1 -%}\n"
    "```python\nprint(f\"{x['a']}\\n\")\n```\n# Query:\n\r\n\ttab \\u0041 \\\\ ' \" \x00\x1b[31m \x85"
    "\u2028\u202e\ufeff \u00e9 \u4f60\u597d \U0001f600 {query} %s $x \n "
)
TURNS = tuple(Turn(f"{NASTY}{n}", NASTY) for n in range(20))


def rendered(template: str, chat: list[dict[str, str]], *, ask: bool = True) -> str:
    """What transformers makes of a chat."""
    texts, _ = render_jinja_template([chat], chat_template=template, add_generation_prompt=ask)  # type: ignore[str-unpack]
    return str(texts[0])


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("system", ["", NASTY], ids=["no system", "system"])
@pytest.mark.parametrize("shots", [0, 1, 3])
def test_the_bytes_of_the_prompt(tmp_path: Path, form: str, system: str, shots: int) -> None:
    """Whatever the texts, one query or 20 earlier turns: what is sent is what `render` gives."""
    exemplars = tuple(Example(f"{n}{NASTY}", NASTY, turns=TURNS[:n]) for n in range(shots))
    prompt = Prompt(system, exemplars, FORMATS[form])
    path = EXPORTER.write(Pack(prompt), tmp_path / EXPORTER.suffix)[0]
    asked = [Example(NASTY), Example(""), Example(NASTY, turns=TURNS)]
    assert EXPORTER.render(path, asked) == [prompt.render(item) for item in asked]


def test_irregular_files_keep_their_white_space(tmp_path: Path) -> None:
    """A prompt read from a file with irregular gaps is written as it is."""
    text = (
        bundled("baseline.txt")
        .read_text(encoding="utf-8")
        .replace("\n\n# Answer", "\n\n\n# Answer", 1)
    )
    prompt = Prompt.from_text(text)
    assert prompt.layouts
    path = EXPORTER.write(Pack(prompt), tmp_path / "t.jinja")[0]
    assert EXPORTER.render(path, [Example("?")]) == [prompt.render("?")]


def test_through_a_tokenizer_and_its_own_sandbox() -> None:
    """`apply_chat_template` gives the same bytes; texts with braces are no template."""
    tokenizer = AutoTokenizer.from_pretrained(bundled("base"))
    prompt = Prompt(NASTY, (Example(NASTY, NASTY),), FORMATS["block"])
    item = Example(NASTY, turns=TURNS)
    tokenizer.chat_template = chat_template(prompt)
    braces = chat_template(Prompt("", (), FORMATS["block"])).count("{")
    assert tokenizer.chat_template.count("{") == braces  # none is a text's
    text = tokenizer.apply_chat_template(messages(item), tokenize=False, add_generation_prompt=True)
    assert text == prompt.render(item)


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text(text: str) -> None:
    """Any text a pack may hold, everywhere in it, strings of the format included."""
    form = replace(FORMATS["block"], system_open=text, query_open=text, gap=text, answer_close=text)
    prompt = Prompt(text, (Example(text, text),), form)
    item = Example(text, turns=(Turn(text, text),))
    template = chat_template(prompt)
    assert rendered(template, messages(item)) == prompt.render(item)


def test_a_clients_system_message_takes_the_packs_place() -> None:
    """System or developer, first: instead of the pack's text; an empty one leaves it out."""
    prompt = Prompt("Be kind.", (Example("q", "a"),), FORMATS["block"])
    template = chat_template(prompt)
    for role in ("system", "developer"):
        for text in ("Be {{ rude }}.", ""):
            chat = [{"role": role, "content": text}, *messages(Example("Hi"))]
            assert rendered(template, chat) == replace(prompt, system=text).render("Hi")


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ("ua", "the last message must be the user's"),
        ("s", "the last message must be the user's"),
        ("", "the last message must be the user's"),
        ("au", "user and assistant must speak in turn"),
        ("uu", "user and assistant must speak in turn"),
        ("uaau", "user and assistant must speak in turn"),
        ("us", "user and assistant must speak in turn"),
        ("ssu", "user and assistant must speak in turn"),
        ("ut", "user and assistant must speak in turn"),
    ],
)
def test_roles_out_of_order_are_refused(roles: str, message: str) -> None:
    """A conversation that the prompt cannot write is an error, not another text."""
    names = {"u": "user", "a": "assistant", "s": "system", "t": "tool"}
    chat = [{"role": names[role], "content": "x"} for role in roles]
    with pytest.raises(TemplateError, match=message):
        rendered(chat_template(Prompt("", (), FORMATS["block"])), chat)


@pytest.mark.parametrize("role", ["system", "user"])
def test_contents_that_are_no_text_are_refused(role: str) -> None:
    """Parts of a message (images, lists) do not become their Python form."""
    chat: list[dict[str, object]] = [{"role": role, "content": [{"type": "text", "text": "x"}]}]
    with pytest.raises(TemplateError, match="content of a message must be a text"):
        render_jinja_template(
            [chat],
            chat_template=chat_template(Prompt("", (), FORMATS["block"])),
            add_generation_prompt=True,
        )


def test_without_a_generation_prompt_a_finished_conversation_is_whole() -> None:
    """As for training: the text ends behind the last answer."""
    prompt = Prompt("s", (Example("q", "a"),), FORMATS["block"])
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    given_ = rendered(chat_template(prompt), chat, ask=False)
    assert given_ == prompt.render("Hi") + "Hello" + prompt.format.answer_close


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    """One line, and no half file."""
    with pytest.raises(UserError, match="cannot write .*No such file or directory"):
        EXPORTER.write(Pack(Prompt("", (), FORMATS["block"])), tmp_path / "none" / "t.jinja")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", FORMATS)
@given(data=st.data())
def test_the_reply_pattern_ends_an_answer_as_parse_does(form: str, data: st.DataObject) -> None:
    """Fences, headings and blank lines in any order: the same answer as `Prompt.parse`.

    What is compared is a completion that ended as one does: at a stop string or an end token.
    """
    from transformers.utils.chat_parsing import parse_response

    prompt, end = Prompt("", (), FORMATS[form]), "<|endoftext|>"
    mark = prompt.stop[0]
    line = st.sampled_from(
        ["text", "  more ", "", "```", "```python", "# comment", "`x`", "# Query: what", "# User: I",
         prompt.format.query_heading, prompt.format.answer_heading, "1. ```", "{}"],
    )  # fmt: skip
    text = "\n".join(data.draw(st.lists(line, max_size=9)))
    text += data.draw(st.sampled_from([end, mark, f"\n```{mark}"]))
    wanted = prompt.parse(text.split(mark)[0].split(end)[0])
    found = parse_response(text, response_template(prompt, [end]), prefix=prompt.render("?"))
    assert found.get("content", "") == wanted


@pytest.mark.parametrize("loop", ["```\n", "```python\n", "a\n\n", "\n", "```\n\n", "# Answer:\n"])
def test_the_reply_pattern_is_quick(loop: str) -> None:
    """A model that repeats itself does not stall the server: 500 steps within a second or so."""
    import time

    from transformers.utils.chat_parsing import ResponseParser

    parser = ResponseParser(
        response_template(Prompt("", (), FORMATS["block"]), ["<end>"]), prefix=""
    )
    start = time.perf_counter()
    for _ in range(500):
        parser.feed(loop)
    parser.finalize()
    assert time.perf_counter() - start < 5
