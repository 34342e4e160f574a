"""What exporters share: a prompt's parts, messages about them, files written whole."""

from __future__ import annotations

import ast
import json
import os
import pprint
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl_align.errors import UserError
from icl_align.pack import Pack
from icl_align.prompt import Prompt

LIMIT = 16 * 2**20
"""Most bytes of a prompt that are exported; longer than any model's context."""
DEPTH = 64
"""How deep a pack's JSON may be nested; Python's parser takes 200 brackets."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A prompt as constant strings; joined around queries and answers they are its exact text.

    Attributes:
        head: Everything before the query or the history.
        ask: Before a query.
        reply: Between a query and its answer; the text sent ends with it.
        close: Behind an answer of the history.
    """

    head: str
    ask: str
    reply: str
    close: str

    def wrap(self, query: str, turns: Sequence[tuple[str, str]] = ()) -> str:
        """Joins the parts around a conversation."""
        past = "".join(self.ask + q + self.reply + a + self.close for q, a in turns)
        return self.head + past + self.ask + query + self.reply


def parts(prompt: Prompt) -> Parts:
    """Takes a prompt apart.

    Raises:
        UserError: the prompt is too long to be one.
    """
    form = prompt.format
    head = prompt.render("").removesuffix(form.open_turn(""))
    found = Parts(head, form.query_open, form.query_close + form.answer_open, _close(prompt))
    size = sum(len(getattr(found, name).encode()) for name in found.__slots__)
    if size > LIMIT:
        raise UserError(
            f"the prompt has {size} bytes, which no model reads; an export may have {LIMIT}"
        )
    return found


def named(prompt: Prompt) -> dict[str, str]:
    """The texts of a prompt by the names under which messages tell them."""
    form = prompt.format
    found = {"the system text": prompt.system}
    for number, exemplar in enumerate(prompt.exemplars, start=1):
        for turn in exemplar.turns:
            found[f"an earlier turn of exemplar {number}"] = turn.query + "\n" + turn.answer
        found[f"the query of exemplar {number}"] = exemplar.query
        found[f"the answer of exemplar {number}"] = exemplar.answer or ""
    for name in type(form).__dataclass_fields__:
        found[f"the format's {name}"] = getattr(form, name)
    return found


def place_of(prompt: Prompt, what: str) -> str:
    """Names the first text of a prompt that holds a string."""
    return next((name for name, text in named(prompt).items() if what in text), "the prompt")


def character(text: str) -> str:
    """Tells a character or a few for a message, harmless on a terminal."""
    return f"{text!a} ({' '.join(f'U+{ord(char):04X}' for char in text)})"


def model_id(pack: Pack) -> str:
    """The pack's model as one word that can stand in a file of another tool; "" for none.

    Raises:
        UserError: it holds white space, a quote or a character that cannot be printed.
    """
    given = str(pack.model.get("id") or "")
    for char in given:
        if char.isspace() or char in "\"'`\\$" or not char.isprintable():
            raise UserError(
                f"the model's id {given[:60]!a} holds {character(char)}; correct the pack"
            )
    return "" if given == "bundled" else given


def write_files(files: Mapping[Path, str]) -> list[Path]:
    """Writes files, all of them or none; missing folders are made, one level deep.

    Raises:
        UserError: one cannot be written.
    """
    scratch: dict[Path, Path] = {}
    made: Path | None = None
    place = next(iter(files))
    try:
        for place, text in files.items():
            if not place.parent.exists():
                place.parent.mkdir()
                made = place.parent
            handle, name = tempfile.mkstemp(dir=place.parent, prefix=".icl-align-")
            scratch[place] = Path(name)
            with os.fdopen(handle, "wb") as file:
                file.write(text.encode("utf-8"))
            Path(name).chmod(0o644)
        for place, temporary in scratch.items():
            temporary.replace(place)
    except BaseException as error:
        for temporary in scratch.values():
            temporary.unlink(missing_ok=True)
        if made is not None and not any(made.iterdir()):
            made.rmdir()
        if isinstance(error, OSError):
            raise UserError(
                f"cannot write {place}: {error.strerror}; choose another place"
            ) from error
        raise
    return list(files)


def python_file(doc: str, pack: Pack, code: str) -> str:
    """A Python file that holds a pack as a literal, `PACK`, and code that uses it."""
    literal = pprint.pformat(pack.to_json(), width=100, sort_dicts=False)
    return f'"""{doc}"""\n\n# fmt: off\nPACK = {literal}\n# fmt: on\n\n{code.lstrip()}'


def load_python(path: Path) -> Pack:
    """Reads the pack from such a file without running it.

    Raises:
        UserError: it holds none.
    """
    from icl_align.data import read_text

    text = read_text(path)
    try:
        for node in ast.parse(text).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PACK":
                return Pack.from_json(ast.literal_eval(node.value), where=str(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: this is no exported Python file: {error}") from error
    raise UserError(f"{path}: there is no PACK in this file, so it was not exported by icl_align")


def as_json(value: Any) -> str:
    """A JSON text as files have it.

    Raises:
        UserError: it is nested too deeply.
    """
    _refuse_deep(value)
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        UserError: it is none.
    """
    from icl_align.data import read_text

    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: broken JSON: {error}") from error


def jinja_literal(text: str) -> str:
    """Writes a text so that Jinja or Nunjucks gives it back.

    Their signs start with a brace, which is written as a string literal; so are the brace of "#}",
    which Nunjucks refuses alone, a carriage return, which Jinja reads as a line feed, and the last
    line feed, which it may drop.
    """
    written = re.sub(r"\{|(?<=#)\}", lambda found: f'{{{{"{found.group()}"}}}}', text)
    written = written.replace("\r", '{{"\\r"}}')
    return f'{written[:-1]}{{{{"\\n"}}}}' if written.endswith("\n") else written


def _close(prompt: Prompt) -> str:
    return prompt.format.answer_close + prompt.format.gap


def _refuse_deep(value: Any) -> None:
    level = [value]
    for _ in range(DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list | tuple)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    if level:
        raise UserError(f"the pack's evidence is nested deeper than {DEPTH} levels; correct it")
