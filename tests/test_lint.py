"""Lint names what is wrong with a prompt, and is silent about good ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_urial_text import FILES, FOLDER, needs_shared

from icl_align.lint import lint, lint_text
from icl_align.prompt import FORMATS, Prompt
from icl_align.types import Decoding, Example, Turn

GOOD = Prompt("Be kind.", (Example("Hi?", "Ho."), Example("Two?", "2")), FORMATS["block"])


def with_exemplar(query: str, answer: str) -> Prompt:
    return replace(GOOD, exemplars=(*GOOD.exemplars, Example(query, answer)))


def test_a_good_prompt_has_no_findings() -> None:
    """No false alarm on a plain prompt, nor on headings inside a line or a code block."""
    assert lint(GOOD) == []
    assert lint(with_exemplar("Code?", "Say # Query: so\n```py\n# Query:\n```")) == []


@pytest.mark.parametrize(
    ("query", "answer", "code"),
    [
        ("Hi?", "Again.", "duplicate"),
        ("hi", "Again.", "duplicate"),
        ("Mail?", "bject: Sorry", "mid-word"),
        ("Code?", "```py\nx = 1", "unbalanced-fences"),
        ("Code?", "Yes\n# Query:\nno", "scrambled-turns"),
        ("Empty?", "  ", "empty-answer"),
        (" ", "Yes.", "empty-query"),
        ("Explain the previously mentioned requirements", "Yes.", "follow-up"),
    ],
)
def test_each_fault_is_named(query: str, answer: str, code: str) -> None:
    """A fault of the third exemplar is found there, and nothing else is."""
    found = lint(with_exemplar(query, answer))
    assert [(f.code, f.where) for f in found] == [(code, "exemplar 3")]


def test_a_follow_up_with_its_turn_is_fine() -> None:
    """An exemplar that brings the earlier turn may refer to it."""
    exemplar = Example("Explain the previous answer", "So.", turns=(Turn("A?", "B."),))
    assert lint(replace(GOOD, exemplars=(exemplar,))) == []


def test_an_evaluation_item_as_exemplar_is_a_leak() -> None:
    """An exemplar that is also an item is found by normalised text."""
    (found,) = lint(GOOD, items=[Example("  HI!", id="dev-3")])
    assert (found.code, found.severity) == ("leak", "error")
    assert "dev-3" in found.message


def test_a_prompt_longer_than_the_context_is_found() -> None:
    """Prompt plus room for the answer must fit; exactly fitting is fine."""
    prompt = replace(GOOD, decoding=Decoding(max_tokens=10))
    size = len(prompt.render("?").split())

    def words(text: str) -> int:
        return len(text.split())

    (found,) = lint(prompt, count_tokens=words, context_length=size + 9)
    assert found.code == "too-long"
    assert lint(prompt, count_tokens=words, context_length=size + 10) == []


def test_an_unreadable_text_is_a_finding_with_its_line() -> None:
    """What cannot be parsed is one error at its line."""
    (found,) = lint_text("# Query:\n```\na\n```\n", "p.txt")
    assert (found.severity, found.where) == ("error", "p.txt:1")


@needs_shared
def test_published_files_with_known_oddities() -> None:
    """The oddities that the files' README names are found, and no error elsewhere."""
    found = {p.name: lint_text(p.read_text(encoding="utf-8"), p.name) for p in FILES}
    errors = {name: {f.code for f in fs if f.severity == "error"} for name, fs in found.items()}
    assert {name: codes for name, codes in errors.items() if codes} == {
        "inst_2k_v4.txt": {"scrambled-turns"},
        "openhermes-5.examples.txt": {"mid-word"},
    }, FOLDER
    warned = {name for name, fs in found.items() if any(f.code == "follow-up" for f in fs)}
    assert warned == {"urial.plus.best_4.examples.txt", "urial.greedy.5.examples.txt"}
