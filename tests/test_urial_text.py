"""Every published URIAL text file is read and written byte for byte, or refused with its line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_align.errors import UserError
from icl_align.prompt import FENCE, Prompt

SHARED = Path(os.environ.get("ICL_ALIGN_SHARED", Path(__file__).resolve().parents[2] / "shared"))
FOLDER = SHARED / "data" / "urial_prompts"
FILES = sorted(FOLDER.rglob("*.txt"))
MALFORMED = {"inst_2k_v4.txt"}

needs_shared = pytest.mark.skipif(not FILES, reason=f"no published prompts at {FOLDER}")


@needs_shared
@pytest.mark.parametrize(
    "path", [p for p in FILES if p.name not in MALFORMED], ids=lambda p: p.name
)
def test_published_files_round_trip(path: Path) -> None:
    """A published file comes back byte for byte, and its query is written in its own dialect."""
    content = path.read_bytes()
    prompt = Prompt.from_text(content.decode("utf-8"), where=path.name)
    assert prompt.to_text().encode("utf-8") == content
    if prompt.exemplars:
        first = prompt.exemplars[0]
        assert prompt.format.open_turn("").splitlines()[0] == "# Query:"
        assert prompt.render(first.query).endswith(prompt.format.open_turn(first.query))


@needs_shared
@pytest.mark.parametrize(
    "path", [p for p in FILES if "v4" in p.name and p.name not in MALFORMED], ids=lambda p: p.name
)
def test_v4_files_render_as_urials_code_does(path: Path) -> None:
    """What is sent equals the file plus what URIAL's current code appends."""
    text = path.read_bytes().decode("utf-8")
    wanted = text + "\n# Query:\n```\nHi?\n```\n\n# Answer:\n```\n"
    assert Prompt.from_text(text).render("Hi?") == wanted


@needs_shared
def test_the_scrambled_file_is_refused_with_its_line() -> None:
    """The published file with the order Q, Q, A, A is told with each turn's line."""
    text = (FOLDER / "inst_2k_v4.txt").read_text(encoding="utf-8")
    message = "inst_2k_v4.txt:88: scrambled turns: exemplar 6, the '# Query:' of line 88 .*Q 88, Q 93, A 98, A 105"
    with pytest.raises(UserError, match=message):
        Prompt.from_text(text, where="inst_2k_v4.txt")


@needs_shared
def test_a_file_without_exemplars_renders_as_urials_code_does() -> None:
    """A system text alone is followed by one blank line and the query."""
    text = (FOLDER / "inst_only.txt").read_text(encoding="utf-8")
    assert (
        Prompt.from_text(text).render("Hi?")
        == text + "\n# Query:\n```\nHi?\n```\n\n# Answer:\n```\n"
    )


SHAPES = {  # the white space of published files that are not in the shared folder, with our own words
    "inline, spaces that differ": (
        f"# Instruction\n\nBe good.\n\n\n# Query:\n{FENCE}One?{FENCE} \n\n# Answer:\n{FENCE}  \nUno.\n\n1. x\n{FENCE}\n\n\n\n"
        f"# Query:\n{FENCE}Two? {FENCE}  \n\n# Answer:\n{FENCE} \nDue.\n{FENCE}\n\n\n"
        f"# Query:\n{FENCE}Three? {FENCE}  \n\n# Answer:\n{FENCE} \nTre.\n{FENCE} \n",
        3,
    ),
    "block, one-space line, no final newline": (
        f"# Instruction\n\nBe good.\n\n# Query:\n{FENCE}\nOne?\n{FENCE}\n \n# Answer:\n{FENCE}\nUno. \n\nDue\n{FENCE}\n\n\n"
        f"# Query:\n{FENCE}\nTwo?\n{FENCE}\n \n# Answer:\n{FENCE}\nDue.\n{FENCE}",
        2,
    ),
    "query headings without fences": (
        '# Instruction\n\nUsers write under "# Query:".\n\n\n# Query:\nOne? \n\n# Answer:\n\nUno.\n\n1. a\n\n\n'
        "# Query:\nTwo? \n\n# Answer:\n  \nDue. \n\n\n\n# Query:\nThree   \n\n# Answer:\n \nTre\n \n",
        3,
    ),
    "wide blank lines": (
        "# Instruction\n\nBe.\n\n\n# Query:\n\nOne? \n\n\n\n# Answer:\n\nUno.\n\n\n\n# Query:\n\nTwo?\n\n\n\n# Answer:\n\n\nDue.\n\n\n",
        2,
    ),
    "user and assistant": ("# Instruction\n\nBe.\n\nUser:\nHi\n\nAssistant:\nHo\n\n\nUser:\nA\n\nAssistant:\nB\n", 2),
    "hash user and assistant": ("Be.\n\n# User:\nHi\n\n# Assistant:\nHo\n\n# User:\nA\n\n# Assistant:\nB\n\n", 2),
    "queries without answers first": (
        f"# Instruction\n\nProblems:\n\n# Query:\n{FENCE}\nq1\n\n{FENCE}rust\nlet x;\n{FENCE}\nmore\n{FENCE}\n\n# Query:\n{FENCE}\nq2\n{FENCE}\n\n"
        f"Now conversations.\n\n# Query:\n{FENCE}\nOne?\n{FENCE}\n\n# Answer:\n{FENCE}\nUno.\n{FENCE}\n",
        1,
    ),
    "code in the answer": (
        f"# Query:\n{FENCE}\nOne?\n{FENCE}\n\n# Answer:\n{FENCE}\nSee\n{FENCE}python\n# Query:\nx = 1\n{FENCE}\nbye\n{FENCE}\n",
        1,
    ),
    "headings as the last line of code": (
        f"# Query:\n{FENCE}\nOne?\n{FENCE}\n\n# Answer:\n{FENCE}\n{FENCE}python\nx = 1\n# Query:\n{FENCE}\nor\n{FENCE}sh\n# Answer:\n{FENCE}\n{FENCE}\n",
        1,
    ),
    "no blank lines": (
        f"# Query:\n{FENCE}\nOne?\n{FENCE}\n# Answer:\n{FENCE}\nUno.\n{FENCE}\n# Query:\n{FENCE}\nTwo?\n{FENCE}\n# Answer:\n{FENCE}\nDue.\n{FENCE}\n",
        2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_other_published_shapes_round_trip(name: str) -> None:
    """White space that differs from turn to turn is kept, not normalised."""
    text, count = SHAPES[name]
    prompt = Prompt.from_text(text)
    assert (prompt.to_text(), len(prompt.exemplars)) == (text, count)
    assert Prompt.from_json(prompt.to_json()) == prompt


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello", "p.txt: this is no URIAL prompt"),
        ("\ufeff# Instruction\n\nBe.", "p.txt:1: the file starts with a byte order mark"),
        ("# Instruction\r\n\r\nBe.", "p.txt:1: the file has carriage returns"),
        (
            f"# Query:\n{FENCE}\na\n{FENCE}\n",
            "p.txt:1: exemplars without answers: the file has 1 times '# Query:' and no",
        ),
        (
            f"# Query:\n{FENCE}\na\n{FENCE}\n\n# Answer:\n{FENCE}\nb\n",
            "p.txt:1: unbalanced fences in the turn of line 1",
        ),
        (f"# Answer:\n{FENCE}\n# Query:", "p.txt: every '# Query:' stands in a code block"),
        (
            f'# Instruction\n\nUnder "# Query:".\n\n# Query:\n{FENCE}\na\n{FENCE}\n',
            "p.txt:5: exemplars without answers",
        ),
        (
            f"# Query:\n{FENCE}\na\n{FENCE}\n\n# Answer:\n{FENCE}\n{FENCE}\n",
            "p.txt:1: the answer in the turn of line 1 is empty",
        ),
        (
            f"# Query:\n{FENCE}\na\n{FENCE}\n\n# Answer:\n{FENCE}\nb\n{FENCE}\n\n# Query:\n{FENCE}c{FENCE}\n\n# Answer:\n{FENCE}\nd\n{FENCE}\n",
            "p.txt:11: mixed dialects: exemplar 2",
        ),
        (
            f"# Query:\n{FENCE}\na\n{FENCE}\n\n# Answer:\n{FENCE}\nb\n{FENCE}\n\n# Answer:\n{FENCE}\nd\n{FENCE}\n",
            "p.txt:11: scrambled turns: exemplar 1, .* has a second '# Answer:' on line 11",
        ),
    ],
)
def test_a_malformed_text_is_refused_with_its_line(text: str, message: str) -> None:
    """What cannot be kept is refused, naming file, line and rule."""
    with pytest.raises(UserError, match=message):
        Prompt.from_text(text, where="p.txt")


line = st.sampled_from(
    ["# Instruction", "# Query:", "# Answer:", "# User:", "# Assistant:", "User:", "Assistant:", FENCE,
     FENCE + "py", f"{FENCE}Hi?{FENCE}", "Hi there.", "  indented", " ", "", "", "\r"]
)  # fmt: skip


@given(st.lists(line, max_size=24).map("\n".join))
def test_any_text_is_kept_or_refused(text: str) -> None:
    """However broken a text is, it comes back byte for byte or is refused with its file's name."""
    try:
        prompt = Prompt.from_text(text, where="p.txt")
    except UserError:
        with pytest.raises(UserError, match=r"^p\.txt"):
            Prompt.from_text(text, where="p.txt")
        return
    assert prompt.to_text() == text
    assert Prompt.from_json(prompt.to_json()) == prompt
