"""Lint names what is wrong with a prompt, and is silent about good ones."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from icl_align.lint import lint, lint_text
from icl_align.prompt import FORMATS, Prompt
from icl_align.types import Decoding, Example, Turn

SHARED = Path(os.environ.get("ICL_ALIGN_SHARED", Path(__file__).resolve().parents[2] / "shared"))
FOLDER = SHARED / "data" / "urial_prompts"
FILES = sorted(FOLDER.rglob("*.txt"))
needs_shared = pytest.mark.skipif(not FILES, reason=f"no published prompts at {FOLDER}")

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
        ("Code?", "Yes\n# User:\nno", "mixed-dialects"),
        ("Empty?", "  ", "empty-answer"),
        (" ", "Yes.", "empty-query"),
        ("Explain the previously mentioned requirements", "Yes.", "follow-up"),
    ],
)
def test_each_fault_is_named(query: str, answer: str, code: str) -> None:
    """A fault of the third exemplar is found there, and nothing else is."""
    found = lint(with_exemplar(query, answer))
    assert [(f.code, f.where) for f in found] == [(code, "exemplar 3")]


@pytest.mark.parametrize("answer", ["yes, it is", "e.g. this", "os.path joins", "x, y and z"])
def test_an_answer_in_lower_case_is_not_mid_word(answer: str) -> None:
    """Casual answers and code may start in lower case."""
    assert lint(with_exemplar("More?", answer)) == []


def test_places_in_a_text_are_told_with_their_line() -> None:
    """A finding about an exemplar names the line of its query in the file."""
    text = with_exemplar("Mail?", "bject: Sorry").to_text()
    (found,) = lint_text(text, "p.txt")
    assert found.where == f"exemplar 3 (p.txt:{text[: text.index('Mail?')].count(chr(10)) - 1})"


def test_a_missing_final_newline_is_a_warning() -> None:
    """Tools that append the query to the file would send other white space than between turns."""
    (found,) = lint_text(GOOD.to_text().rstrip(), "p.txt")
    assert (found.code, found.severity) == ("no-final-newline", "warning")


def test_turns_in_the_system_text_are_told() -> None:
    """A first query without an answer is read as system text, which is hardly meant."""
    text = GOOD.to_text().replace("# Query:", "# Query:\n```\nLost?\n```\n\n# Query:", 1)
    (found,) = lint_text(text, "p.txt")
    assert (found.code, found.severity) == ("turn-in-system", "warning")


def test_a_prompt_that_text_cannot_keep_is_told() -> None:
    """A text with carriage returns would be refused when read back."""
    (found,) = lint(replace(GOOD, system="One\r\ntwo"))
    assert found.code == "not-as-text"


def test_the_length_of_a_text_is_checked() -> None:
    """The arguments of `lint` hold for files too."""
    (found,) = lint_text(GOOD.to_text(), "p.txt", count_tokens=len, context_length=10)
    assert found.code == "too-long"


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
