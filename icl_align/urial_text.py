"""Reads URIAL's text files into prompts, byte for byte, in any dialect they were published in.

The dialect is found from how the first query is written. All turns of a file must be written alike; where
only white space differs between turns it is kept in the prompt's layouts, so nothing of a file is lost.
Queries without answers before the first answered one (as in unsupervised prompts) belong to the system text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from os.path import commonprefix

from icl_align.errors import UserError
from icl_align.prompt import FENCE, FORMATS, Format, Layout, Prompt
from icl_align.types import Decoding, Example

SYSTEM_HEADING = re.compile(r"# Instruction[ \t]*\n\n?")
HEADINGS = (("# Query:", "# Answer:"), ("# User:", "# Assistant:"), ("User:", "Assistant:"))


@dataclass(frozen=True, slots=True)
class RawTurn:
    """One turn as it stands in a file.

    Attributes:
        line: Line number of its query heading, from 1.
        query_open, query, query_close, answer_open, answer, answer_close, space: Its parts in order;
            together they are the turn's text. `space` is the white space behind it.
    """

    line: int
    query_open: str
    query: str
    query_close: str
    answer_open: str
    answer: str
    answer_close: str
    space: str

    @property
    def layout(self) -> Layout:
        """What stands around the texts."""
        return Layout(self.query_open, self.query_close, self.answer_open, self.answer_close, self.space)


def dialect(text: str) -> tuple[str, str, bool] | None:
    """Finds query heading, answer heading and whether turns are fenced; None without any turn."""
    first: tuple[int, str, str, bool] | None = None
    for query, answer in HEADINGS:
        match = re.search(rf"^{re.escape(query)}[ \t]*(?:\n\s*?(```)?|$)", text, re.MULTILINE)
        if match and (first is None or match.start() < first[0]):
            first = (match.start(), query, answer, match.group(1) is not None)
    return first[1:] if first else None


def segments(text: str, query: str, *, fenced: bool) -> list[tuple[int, int]]:
    """Gives (start, end) of each turn: from its query heading to the next one, or the end.

    In fenced dialects a heading counts only with a fence on the next line, in the others only outside of
    code blocks, so that a comment in an answer's code is none.
    """
    if fenced:
        heading = re.compile(rf"^{re.escape(query)}[ \t]*(?=\n\s*?```)", re.MULTILINE)
        starts = [match.start() for match in heading.finditer(text)]
    else:
        starts, position, inside = [], 0, False
        for line in text.split("\n"):
            if line.lstrip().startswith(FENCE) and line.count(FENCE) == 1:
                inside = not inside
            elif not inside and line.rstrip() == query:
                starts.append(position)
            position += len(line) + 1
    return list(zip(starts, [*starts[1:], len(text)], strict=True))


def read_prompt(text: str, *, where: str, decoding: Decoding) -> Prompt:
    """Reads a prompt text.

    Raises:
        UserError: a carriage return or byte order mark, no query in it, or turns that are malformed or
            written differently; the message names the line.
    """
    _refuse_bytes(text, where)
    found = dialect(text)
    if found is None:
        return _system_only(text, where, decoding)
    query, answer, fenced = found
    spans = segments(text, query, fenced=fenced)
    answered = re.compile(rf"^{re.escape(answer)}[ \t]*$", re.MULTILINE)
    bare = next((i for i, (start, end) in enumerate(spans) if answered.search(text, start, end)), None)
    if bare is None:
        raise UserError(
            f"{where}:{_line(text, spans[0][0])}: exemplars without answers: the file has {len(spans)} times "
            f"'{query}' and not one '{answer}'; give each query an answer"
        )
    spans = spans[bare:]
    turns = [_turn(text, span, query, answer, where, fenced=fenced) for span in spans]
    if not fenced:
        turns = _shared_space(turns)
    _refuse_mixture(turns, where)
    system_open, system, system_close = _system(text[: spans[0][0]])
    layouts = [turn.layout for turn in turns]
    usual = _usual(layouts)
    known = _known(query, usual)
    form = Format(
        known.name if known else "custom", query, answer, system_open, system_close, usual.query_open,
        usual.query_close, usual.answer_open, usual.answer_close,
        usual.gap if len(turns) > 1 else known.gap if known else "\n\n", layouts[-1].gap,
    )  # fmt: skip
    plain = all(layout == replace(usual, gap=layout.gap) for layout in layouts)
    irregular = not plain or any(layout.gap != usual.gap for layout in layouts[:-1])
    exemplars = tuple(Example(turn.query, turn.answer) for turn in turns)
    prompt = Prompt(system, exemplars, form, decoding, tuple(layouts) if irregular else ())
    written = prompt.to_text()
    if written != text:
        at = len(commonprefix([written, text]))
        raise UserError(
            f"{where}:{_line(text, at)}: this text cannot be kept byte for byte; "
            f"what stands at {text[at : at + 30]!r} is not part of any URIAL dialect"
        )
    return prompt


def _refuse_bytes(text: str, where: str) -> None:
    if text.startswith("\ufeff"):
        raise UserError(f"{where}:1: the file starts with a byte order mark; save it as plain UTF-8")
    if "\r" in text:
        line = _line(text, text.index("\r"))
        raise UserError(f"{where}:{line}: the file has carriage returns; save it with Unix line ends (LF)")


def _system_only(text: str, where: str, decoding: Decoding) -> Prompt:
    match = SYSTEM_HEADING.match(text)
    if not match or not text[match.end() :].strip():
        raise UserError(
            f"{where}: this is no URIAL prompt: it has neither '# Instruction' with a text at its start nor a "
            "'# Query:', '# User:' or 'User:' heading alone on a line"
        )
    body = text[match.end() :]
    system = body.rstrip("\n")
    block = FORMATS["block"]
    form = Format(
        "block", block.query_heading, block.answer_heading, match.group(), block.system_close,
        block.query_open, block.query_close, block.answer_open, block.answer_close, block.gap,
        body[len(system) :],
    )  # fmt: skip
    return Prompt(system, (), form, decoding)


def _system(head: str) -> tuple[str, str, str]:
    """Splits what stands before the first turn into heading, system text and white space."""
    match = SYSTEM_HEADING.match(head)
    opening = match.group() if match else ""
    body = head[len(opening) :]
    system = body.rstrip("\n")
    if not system:
        return "# Instruction\n\n", "", ""
    return opening, system, body[len(system) :]


def _turn(text: str, span: tuple[int, int], query: str, answer: str, where: str, *, fenced: bool) -> RawTurn:
    start, end = span
    segment = text[start:end]
    line = _line(text, start)
    heading = re.escape(answer)
    pattern = (
        rf"({re.escape(query)}[ \t]*\n\s*?```[ \t]*\n?)(.*?)(\n?```[ \t]*\n\s*)({heading}[ \t]*\n\s*?```[ \t]*\n)(.*)(\n```)(\s*)\Z"
        if fenced
        else rf"({re.escape(query)}[ \t]*\n)(.*?)(\n)({heading}[ \t]*\n)(.*?)()(\s*)\Z"
    )
    match = re.match(pattern, segment, re.DOTALL)
    if match is None:
        raise UserError(f"{where}:{line}: {_complaint(segment, query, answer, line, fenced=fenced)}")
    again = re.search(rf"^{heading}[ \t]*\n", match.group(5), re.MULTILINE)
    if again and (not fenced or match.group(5)[again.end() :].startswith(FENCE)):
        other = line + segment.count("\n", 0, match.start(5) + again.start())
        raise UserError(
            f"{where}:{other}: scrambled turns: a second '{answer}' follows the query of line {line}; "
            "each query needs its own answer right behind it"
        )
    return RawTurn(line, *match.groups())


def _complaint(segment: str, query: str, answer: str, line: int, *, fenced: bool) -> str:
    """Says what is wrong with a turn that does not match its dialect."""
    if not re.search(rf"^{re.escape(answer)}[ \t]*$", segment, re.MULTILINE):
        return (
            f"scrambled turns: the '{query}' of line {line} has no '{answer}' before the next query or the "
            "end of the file"
        )
    if fenced and sum(1 for part in segment.split("\n") if part.strip() == FENCE) % 2:
        return f"unbalanced fences in the turn of line {line}: a {FENCE} is opened and never closed"
    return f"the turn of line {line} is not written as '{query}' text '{answer}' text" + (
        f" with a fence {FENCE} around each text" if fenced else ""
    )


def _shared_space(turns: list[RawTurn]) -> list[RawTurn]:
    """Unfenced: moves the white space that all turns share out of the texts and into the format."""
    lead_q = commonprefix([_lead(t.query) for t in turns])
    lead_a = commonprefix([_lead(t.answer) for t in turns])
    trail = commonprefix([(_trail(t.query) + t.query_close)[::-1] for t in turns])[::-1]
    moved = []
    for t in turns:
        query = (t.query + t.query_close)[len(lead_q) :].removesuffix(trail)
        moved.append(
            RawTurn(t.line, t.query_open + lead_q, query, trail, t.answer_open + lead_a,
                    t.answer[len(lead_a) :], "", t.space)
        )  # fmt: skip
    return moved


def _lead(text: str) -> str:
    return text[: len(text) - len(text.lstrip("\n"))]


def _trail(text: str) -> str:
    return text[len(text.rstrip("\n ")) :]


def _refuse_mixture(turns: list[RawTurn], where: str) -> None:
    """Refuses turns that differ in more than white space."""
    for name in ("query_open", "query_close", "answer_open", "answer_close"):
        wanted = getattr(turns[0], name)
        for number, turn in enumerate(turns, start=1):
            if "".join(getattr(turn, name).split()) != "".join(wanted.split()) or (
                name == "query_open" and getattr(turn, name).endswith("\n") != wanted.endswith("\n")
            ):
                raise UserError(
                    f"{where}:{turn.line}: mixed dialects: exemplar {number} has {getattr(turn, name)!r} where "
                    f"exemplar 1 (line {turns[0].line}) has {wanted!r}; write all turns alike"
                )


def _usual(layouts: list[Layout]) -> Layout:
    """The most frequent of each string; the last turn's end is none of the gaps."""
    gaps = [layout.gap for layout in layouts[:-1]] or [layouts[0].gap]
    names = ("query_open", "query_close", "answer_open", "answer_close")
    columns = [[getattr(layout, name) for layout in layouts] for name in names]
    return Layout(*(max(column, key=column.count) for column in (*columns, gaps)))


def _known(query: str, usual: Layout) -> Format | None:
    """The built-in format that writes turns just so, if there is one."""
    for form in FORMATS.values():
        parts = (form.query_heading, form.query_open, form.query_close, form.answer_open, form.answer_close)
        if parts == (query, usual.query_open, usual.query_close, usual.answer_open, usual.answer_close):
            return form
    return None


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
