"""Formats and prompts: rendering a query to the exact text sent, and parsing what comes back.

A `Format` holds the literal strings around queries and answers, so that reading and writing are
exact by construction; a `Prompt` is a system text, ordered exemplars, one format for exemplars and
query alike, and the decoding it was made for. `icl_align.urial_text` reads URIAL's text files and
finds where an answer ends; `icl_align.lint` names what is wrong with a prompt.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from icl_align.errors import UserError
from icl_align.types import Check, Decoding, Example, Turn

FENCE = "```"
_REAL = ("temperature", "top_p", "repetition_penalty")


@dataclass(frozen=True, slots=True)
class Format:
    """How turns are written, as the literal strings between their parts.

    One turn is `query_open + query + query_close + answer_open + answer + answer_close`; turns are
    joined by `gap`. The text sent ends with `answer_open`, which must end in a newline: a trailing
    space would be tokenised apart from the answer.

    Attributes:
        name: A name for people and configuration.
        query_heading: The line that opens a query; a completion ends at the next one.
        answer_heading: The line that opens an answer.
        system_open: Before the system text; left out when there is none.
        system_close: Between the system text and the first turn.
        query_open: Before a query.
        query_close: After a query.
        answer_open: Before an answer.
        answer_close: After an answer.
        gap: Between two turns.
        tail: At the end of a prompt's text file.
    """

    name: str
    query_heading: str
    answer_heading: str
    system_open: str
    system_close: str
    query_open: str
    query_close: str
    answer_open: str
    answer_close: str
    gap: str
    tail: str

    @property
    def fenced(self) -> bool:
        """Whether answers stand between code fences."""
        return self.answer_open.rstrip().endswith(FENCE)

    def turn(self, query: str, answer: str) -> str:
        """One finished turn."""
        return self.open_turn(query) + answer + self.answer_close

    def open_turn(self, query: str) -> str:
        """A turn up to where the answer starts."""
        return self.query_open + query + self.query_close + self.answer_open


FORMATS: Mapping[str, Format] = {
    "block": Format(
        "block", "# Query:", "# Answer:", "# Instruction\n\n", "\n\n\n",
        "# Query:\n```\n", "\n```\n\n", "# Answer:\n```\n", "\n```", "\n\n", "\n",
    ),
    "inline": Format(
        "inline", "# Query:", "# Answer:", "# Instruction\n\n", "\n\n",
        "# Query:\n```", "```\n \n", "# Answer:\n```\n", "\n```", "\n\n", "",
    ),
    "headings": Format(
        "headings", "# User:", "# Assistant:", "# Instruction\n\n", "\n\n",
        "# User:\n", "\n\n", "# Assistant:\n", "", "\n\n", "\n",
    ),
    "colon": Format(
        "colon", "User:", "Assistant:", "# Instruction\n\n", "\n\n",
        "User:\n", "\n\n", "Assistant:\n", "", "\n\n", "\n",
    ),
}  # fmt: skip
"""The built-in formats: URIAL's v4 files, its paper's, its v5 files, and its `User:` files."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The literal strings around one exemplar; `Format`'s fields of the same names.

    Attributes:
        gap: What stands behind it; the file's end behind the last one.
    """

    query_open: str
    query_close: str
    answer_open: str
    answer_close: str
    gap: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """A constant text put before every query, and how its completion is decoded.

    Attributes:
        system: The system text; "" for none.
        exemplars: Worked exemplars in order; each needs an answer.
        format: How exemplars, history and query are written.
        decoding: How the completion is sampled.
        layouts: What stands around each exemplar where a file's white space is irregular; empty
            where all exemplars are written by the format.
    """

    system: str
    exemplars: tuple[Example, ...]
    format: Format
    decoding: Decoding = Decoding()
    layouts: tuple[Layout, ...] = ()

    def __post_init__(self) -> None:
        """Refuses exemplars without an answer and layouts that do not fit.

        Raises:
            UserError: naming the exemplar or the count.
        """
        for number, exemplar in enumerate(self.exemplars, start=1):
            if exemplar.answer is None:
                raise UserError(
                    f"exemplar {number} ({exemplar.query[:40]!r}) has no answer; add one"
                )
        if self.layouts and len(self.layouts) != len(self.exemplars):
            raise UserError(
                f"{len(self.exemplars)} exemplars cannot have {len(self.layouts)} layouts"
            )

    def render(self, query: str | Example) -> str:
        """Gives the exact text sent for a query; an `Example` brings its earlier turns."""
        item = Example(query) if isinstance(query, str) else query
        text = self._head(self.format.gap)
        for turn in item.turns:
            text += self.format.turn(turn.query, turn.answer) + self.format.gap
        return text + self.format.open_turn(item.query)

    @property
    def stop(self) -> tuple[str, ...]:
        """Strings at which an engine may stop: a blank line and the next turn's opening.

        The blank line (where turns have one between them) and, in fenced formats, the fence behind
        the heading are part of it, so that a comment `# Query:` in a code block does not end an
        answer. The closing fence alone is none: answers may hold code.
        """
        gaps = (self.format.gap, *(layout.gap for layout in self.layouts[:-1]))
        lead = "\n\n" if all(gap.endswith("\n\n") for gap in gaps) else "\n"
        behind = FENCE if self.format.fenced else ""
        return (f"{lead}{self.format.query_heading}\n{behind}",)

    def parse(self, completion: str) -> str:
        """Gives the answer in a completion.

        It ends before the next query heading at the start of a line outside of a code block, or at
        the closing fence that the format opened, which is dropped. Code blocks stay whole, also
        where the completion was cut off. Only where an untagged fence could as well open a block as
        close the answer is it told by what follows (see `urial_text`).
        """
        from icl_align.urial_text import answer_end  # it needs this module

        lines = completion.split("\n")
        end, closed = answer_end(lines, self.format)
        answer = "\n".join(lines[:end])
        return answer if closed else answer.rstrip()

    @property
    def digest(self) -> str:
        """The sha256 (hex) of everything that changes the text sent or how it is decoded."""
        content = self.to_json()
        for name in ("name", "tail"):
            del content["format"][name]
        for exemplar in content["exemplars"]:
            for key in ("id", "tags", "checks"):
                exemplar.pop(key, None)
        if self.layouts:
            content["layouts"][-1]["gap"] = ""  # the file's end
        text = json.dumps(content, sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    def to_text(self) -> str:
        """Gives the prompt as a URIAL text file: everything before the query."""
        if not self.exemplars:
            return (
                f"{self.format.system_open}{self.system}{self.format.tail}" if self.system else ""
            )
        return self._head(self.layouts[-1].gap if self.layouts else self.format.tail)

    @staticmethod
    def from_text(
        text: str, *, where: str = "prompt text", decoding: Decoding | None = None
    ) -> Prompt:
        """Reads a URIAL text file of any published dialect, byte for byte.

        Raises:
            UserError: it is none, or it is malformed; the message names lines.
        """
        from icl_align.urial_text import read_prompt  # it needs this module

        return read_prompt(text, where=where, decoding=decoding or Decoding())

    def to_json(self) -> dict[str, Any]:
        """Gives a JSON-able dict that `from_json` reads back without loss."""
        return {
            "system": self.system,
            "exemplars": [_exemplar_json(exemplar) for exemplar in self.exemplars],
            "format": asdict(self.format),
            "decoding": _decoding_json(self.decoding),
            "layouts": [asdict(layout) for layout in self.layouts],
        }

    @staticmethod
    def from_json(content: Mapping[str, Any], *, where: str = "prompt") -> Prompt:
        """Reads what `to_json` gave.

        Raises:
            UserError: a key is unknown (the nearest known one is named), missing, or of a wrong type.
        """
        _check_keys(content, {"system", "exemplars", "format", "decoding", "layouts"}, where)
        system = _string(content["system"], f"{where}.system")
        exemplars = []
        for number, entry in enumerate(_list(content["exemplars"], f"{where}.exemplars"), start=1):
            exemplars.append(_exemplar(entry, f"{where}.exemplars[{number}]"))
        form = content["format"]
        _check_keys(form, {f.name for f in fields(Format)}, f"{where}.format")
        strings = {key: _string(value, f"{where}.format.{key}") for key, value in form.items()}
        decoding = _decoding(content["decoding"], f"{where}.decoding")
        layouts = []
        for entry in _list(content["layouts"], f"{where}.layouts"):
            _check_keys(entry, {f.name for f in fields(Layout)}, f"{where}.layouts")
            layouts.append(
                Layout(**{k: _string(v, f"{where}.layouts.{k}") for k, v in entry.items()})
            )
        return Prompt(system, tuple(exemplars), Format(**strings), decoding, tuple(layouts))

    def with_format(self, form: Format) -> Prompt:
        """The same prompt in another format."""
        return replace(self, format=form, layouts=())

    def _head(self, end: str) -> str:
        """Everything before the query, `end` behind the last exemplar."""
        form = self.format
        text = f"{form.system_open}{self.system}{form.system_close}" if self.system else ""
        for index, exemplar in enumerate(self.exemplars):
            for turn in exemplar.turns:
                text += form.turn(turn.query, turn.answer) + form.gap
            around = self.layouts[index] if self.layouts else form
            text += around.query_open + exemplar.query + around.query_close
            text += around.answer_open + (exemplar.answer or "") + around.answer_close
            text += end if index == len(self.exemplars) - 1 else around.gap
        return text


def rough_tokens(text: str) -> int:
    """Gives about how many tokens a text has, where no tokenizer can be asked: four bytes make one."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // 4)


def __getattr__(name: str) -> Any:
    """Gives `lint`, `lint_text` and `Finding`, which need more than this module may (PEP 562)."""
    if name in {"lint", "lint_text", "Finding"}:
        return getattr(import_module("icl_align.lint"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _exemplar_json(exemplar: Example) -> dict[str, Any]:
    content: dict[str, Any] = {"query": exemplar.query, "answer": exemplar.answer}
    if exemplar.turns:
        content["turns"] = [asdict(turn) for turn in exemplar.turns]
    if exemplar.id:
        content["id"] = exemplar.id
    if exemplar.tags:
        content["tags"] = list(exemplar.tags)
    if exemplar.checks:
        content["checks"] = [{**asdict(c), "values": list(c.values)} for c in exemplar.checks]
    return content


def _exemplar(entry: Any, where: str) -> Example:
    known = {f.name for f in fields(Example)}
    _check_keys(entry, known, where, required={"query", "answer"})
    turns = []
    for turn in _list(entry.get("turns", []), f"{where}.turns"):
        _check_keys(turn, {"query", "answer"}, f"{where}.turns")
        turns.append(Turn(_string(turn["query"], where), _string(turn["answer"], where)))
    return Example(
        _string(entry["query"], f"{where}.query"),
        _string(entry["answer"], f"{where}.answer"),
        _string(entry.get("id", ""), f"{where}.id"),
        _strings(entry.get("tags", []), f"{where}.tags"),
        tuple(turns),
        tuple(
            _check(c, f"{where}.checks") for c in _list(entry.get("checks", []), f"{where}.checks")
        ),
    )


def _check(entry: Any, where: str) -> Check:
    _check_keys(entry, {f.name for f in fields(Check)}, where)
    return Check(
        _string(entry["kind"], f"{where}.kind"),
        _strings(entry["values"], f"{where}.values"),
        _number(entry["weight"], f"{where}.weight"),
        _string(entry["aspect"], f"{where}.aspect"),
    )


def _decoding_json(decoding: Decoding) -> dict[str, Any]:
    """Gives a decoding with real numbers as such: 0 and 0.0 are equal and have one digest."""
    content = asdict(decoding)
    return {key: float(content[key]) if key in _REAL else content[key] for key in content}


def _decoding(entry: Any, where: str) -> Decoding:
    _check_keys(entry, {f.name for f in fields(Decoding)}, where)
    for key in _REAL:
        _number(entry[key], f"{where}.{key}")
    for key in ("max_tokens", "seed"):
        given = entry[key]
        if (type(given) is not int) and not (key == "seed" and given is None):
            raise UserError(f"{where}.{key} must be a whole number, got {given!r}")
    try:
        return Decoding(**entry)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error


def _check_keys(
    content: Any, known: set[str], where: str, required: set[str] | None = None
) -> None:
    if not isinstance(content, Mapping):
        raise UserError(f"{where} must be an object, got {type(content).__name__}")
    for key in content:
        if key not in known:
            near = get_close_matches(str(key), known, 1, 0.5)
            hint = (
                f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known))}"
            )
            raise UserError(f"{where} has an unknown key {key!r}{hint}")
    missing = (known if required is None else required) - set(content)
    if missing:
        raise UserError(f"{where} lacks {', '.join(sorted(missing))}")


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{where} must be a number, got {value!r}")
    return float(value)


def _strings(value: Any, where: str) -> tuple[str, ...]:
    return tuple(_string(entry, where) for entry in _list(value, where))


def _string(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{where} must be a string, got {type(value).__name__}")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise UserError(f"{where} must be a list, got {type(value).__name__}")
    return value
