"""Reads what is written in URIAL's formats: prompt files, byte for byte, and completions.

A file's dialect is found from how its first query is written. All turns must be written alike;
where only white space differs between turns it is kept in the prompt's layouts, so nothing of a
file is lost. Queries without answers before the first answered one (as in unsupervised prompts)
belong to the system text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import pairwise
from os.path import commonprefix

from icl_align.errors import UserError
from icl_align.prompt import FENCE, FORMATS, Format, Layout, Prompt
from icl_align.types import Decoding, Example

SYSTEM_HEADING = re.compile(r"# Instruction[ \t]*\n\n?")
FENCE_LINE = re.compile(r"[ \t]*(`{3,})([^`]*)$")
HEADINGS = (("# Query:", "# Answer:"), ("# User:", "# Assistant:"), ("User:", "Assistant:"))


@dataclass(frozen=True, slots=True)
class RawTurn:
    """One turn as it stands in a file.

    Attributes:
        line: Line number of its query heading, from 1.
        query_open, query, query_close, answer_open, answer, answer_close, space: Its parts in
            order; together they are the turn's text. `space` is the white space behind it.
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
        return Layout(
            self.query_open, self.query_close, self.answer_open, self.answer_close, self.space
        )


def dialect(text: str) -> tuple[str, str, bool] | None:
    """Finds query heading, answer heading and whether turns are fenced; None without any turn."""
    first: tuple[int, str, str, bool] | None = None
    for query, answer in HEADINGS:
        match = re.search(rf"^{re.escape(query)}[ \t]*(?:\n\s*?(```)?|$)", text, re.MULTILINE)
        if match and (first is None or match.start() < first[0]):
            first = (match.start(), query, answer, match.group(1) is not None)
    return first[1:] if first else None


def headings(text: str, heading: str, *, fenced: bool) -> list[int]:
    """Gives the positions of the lines that are this heading.

    In fenced dialects a heading needs a fence behind it, and a blank line or a fence before it; in
    the others it counts outside of code blocks. So a comment in an answer's code is none.
    """
    lines, position, block = text.split("\n"), 0, False
    found: list[int] = []
    for index, line in enumerate(lines):
        if line.rstrip() == heading:
            before = lines[index - 1].rstrip() if index else ""
            behind = next((later for later in lines[index + 1 :] if later.strip()), "")
            if not fenced:
                counts = not block
            else:
                apart = not found or not before or before.endswith(FENCE)
                counts = apart and behind.lstrip().startswith(FENCE)
            if counts:
                found.append(position)
        block ^= fence(line) is not None
        position += len(line) + 1
    return found


def read_prompt(text: str, *, where: str, decoding: Decoding) -> Prompt:
    """Reads a prompt text.

    Raises:
        UserError: a carriage return or byte order mark, no query in it, or turns that are malformed
            or written differently; the message names the line.
    """
    _refuse_bytes(text, where)
    found = dialect(text)
    if found is None:
        return _system_only(text, where, decoding)
    query, answer, fenced = found
    starts = headings(text, query, fenced=fenced)
    answers = headings(text, answer, fenced=fenced)
    if not starts:
        raise UserError(
            f"{where}: every '{query}' stands in a code block, so there is no turn; close the block "
            "before the first one"
        )
    spans = list(pairwise([*starts, len(text)]))
    answered = (i for i, (start, end) in enumerate(spans) if any(start < a < end for a in answers))
    first = next(answered, None)
    if first is None:
        raise UserError(
            f"{where}:{_line(text, starts[0])}: exemplars without answers: the file has {len(starts)} "
            f"times '{query}' and no '{answer}' behind any; give each query an answer"
        )
    starts = starts[first:]
    _refuse_scrambled(text, starts, answers, (query, answer), where)
    turns = [_turn(text, s, query, answer, where, fenced=fenced) for s in spans[first:]]
    if not fenced:
        turns = _shared_space(turns)
    _refuse_mixture(turns, where)
    system_open, system, system_close = _system(text[: starts[0]])
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
        raise UserError(
            f"{where}:1: the file starts with a byte order mark; save it as plain UTF-8"
        )
    if "\r" in text:
        line = _line(text, text.index("\r"))
        raise UserError(
            f"{where}:{line}: the file has carriage returns; save it with Unix line ends (LF)"
        )


def _system_only(text: str, where: str, decoding: Decoding) -> Prompt:
    match = SYSTEM_HEADING.match(text)
    if not match or not text[match.end() :].strip():
        raise UserError(
            f"{where}: this is no URIAL prompt: it has neither '# Instruction' with a text at its "
            "start nor a '# Query:', '# User:' or 'User:' heading alone on a line"
        )
    body = text[match.end() :]
    system = body.rstrip("\n")
    tail = body[len(system) :]
    form = replace(
        FORMATS["block"], system_open=match.group(), system_close=(tail or "\n") + "\n", tail=tail
    )
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


def _turn(
    text: str, span: tuple[int, int], query: str, answer: str, where: str, *, fenced: bool
) -> RawTurn:
    start, end = span
    segment = text[start:end]
    line = _line(text, start)
    heading = re.escape(answer)
    if fenced:
        pattern = (
            rf"({re.escape(query)}[ \t]*\n\s*?```[ \t]*\n?)(.*?)(\n?```[ \t]*\n\s*)"
            rf"({heading}[ \t]*\n\s*?```[ \t]*\n)(.*)(\n```)(\s*)\Z"
        )
    else:
        pattern = rf"({re.escape(query)}[ \t]*\n)(.*?)(\n)({heading}[ \t]*\n)(.*?)()(\s*)\Z"
    match = re.match(pattern, segment, re.DOTALL)
    if match is None:
        raise UserError(
            f"{where}:{line}: {_complaint(segment, query, answer, line, fenced=fenced)}"
        )
    return RawTurn(line, *match.groups())


def _refuse_scrambled(
    text: str, starts: list[int], answers: list[int], names: tuple[str, str], where: str
) -> None:
    """Refuses turns that are not one query with one answer behind it."""
    query, answer = names
    spans = list(pairwise([*starts, len(text)]))
    counts = [sum(start < place < end for place in answers) for start, end in spans]
    wrong = next((i for i, count in enumerate(counts) if count != 1), None)
    if wrong is None:
        return
    order = sorted([(place, "Q") for place in starts] + [(place, "A") for place in answers])
    turns = ", ".join(
        f"{kind} {_line(text, place)}" for place, kind in order if place >= starts[wrong]
    )
    line = _line(text, starts[wrong])
    quoted = text[starts[wrong] + len(query) : spans[wrong][1]].strip("` \n")[:40].split("\n")[0]
    told = f"exemplar {wrong + 1}, the '{query}' of line {line} ({quoted!r}), has "
    if counts[wrong]:
        second = [place for place in answers if place > starts[wrong]][1]
        place, told = (
            _line(text, second),
            f"{told}a second '{answer}' on line {_line(text, second)}",
        )
    else:
        place, told = line, f"{told}no '{answer}' before the next query or the end of the file"
    raise UserError(
        f"{where}:{place}: scrambled turns: {told}; from there the queries (Q) and answers (A) "
        f"stand on lines {turns[:200]}; put each answer right behind its query"
    )


def _complaint(segment: str, query: str, answer: str, line: int, *, fenced: bool) -> str:
    """Says what is wrong with a turn that does not match its dialect."""
    if re.search(rf"^{re.escape(answer)}\s*```\s*```\s*\Z", segment, re.MULTILINE):
        return f"the answer in the turn of line {line} is empty; write one between its fences"
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
                    f"{where}:{turn.line}: mixed dialects: exemplar {number} has "
                    f"{getattr(turn, name)!r} where exemplar 1 (line {turns[0].line}) has "
                    f"{wanted!r}; write all turns alike"
                )


def _usual(layouts: list[Layout]) -> Layout:
    """The most frequent of each string; the last turn's end is none of the gaps."""
    gaps = [layout.gap for layout in layouts[:-1]] or [layouts[0].gap]
    names = ("query_open", "query_close", "answer_open", "answer_close")
    columns = [[getattr(layout, name) for layout in layouts] for name in names]
    return Layout(*(max(column, key=column.count) for column in (*columns, gaps)))


def _known(query: str, usual: Layout) -> Format | None:
    """The built-in format that writes turns just so, if there is one."""
    names = ("query_open", "query_close", "answer_open", "answer_close")
    for form in FORMATS.values():
        alike = all(getattr(form, name) == getattr(usual, name) for name in names)
        if form.query_heading == query and alike:
            return form
    return None


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def fence(line: str) -> tuple[str, str] | None:
    """Reads a line that opens or closes a code block: its backticks, and what stands behind."""
    found = FENCE_LINE.match(line)
    return (found.group(1), found.group(2).strip()) if found else None


def opens_turn(lines: list[str], index: int, form: Format) -> bool:
    """Whether a line is a query heading, alone or with the query right behind it.

    Behind a heading that is a plain word (`User:`) text counts only after a blank line, as turns are
    separated: a dialogue inside an answer may have such lines.
    """
    line = lines[index]
    if not line.startswith(form.query_heading):
        return False
    alone = not line[len(form.query_heading) :].strip()
    return alone or line.startswith("#") or (index > 0 and not lines[index - 1].strip())


def answer_end(lines: list[str], form: Format) -> tuple[int, bool]:
    """Finds where an answer ends: how many lines it has, and whether a closing fence follows."""
    block, start = "", 0  # the fence of the code block that the line stands in, and its line
    for index, line in enumerate(lines):
        found = fence(line)
        if block:
            if found and not found[1] and len(found[0]) >= len(block):
                block = ""
        elif opens_turn(lines, index, form):
            return index, False
        elif found:
            bare = line.rstrip() == FENCE
            if form.fenced and bare and _closes(lines, index, form):
                return index, True
            block, start = found[0], index
    if block:  # never closed, so cut off or forgotten: a turn behind it still ends the answer
        for index in range(start + 1, len(lines) - 1):
            plain = lines[index].rstrip() == form.query_heading and not lines[index - 1].strip()
            if plain and (lines[index + 1].startswith(FENCE) or not form.fenced):
                return index, False
    return len(lines), False


def _closes(lines: list[str], index: int, form: Format) -> bool:
    """Whether a bare fence outside of any code block closes the answer, not opens a block in it.

    It closes when nothing or a heading follows. Otherwise the fences up to the next turn decide: an
    odd number, three or more, are blocks and the closing one; an even number are blocks of an answer
    that was cut off, unless a blank line follows the fence, as it follows a closing one.
    """
    after = next((i for i in range(index + 1, len(lines)) if lines[i].strip()), None)
    if after is None:
        return True
    blank = after > index + 1
    heading = opens_turn(lines, after, form) or lines[after].rstrip() == form.answer_heading
    if heading and (blank or any(line.startswith(FENCE) for line in lines[after + 1 : after + 2])):
        return True
    fences, tagged, turn = 1, False, False
    for i in range(index + 1, len(lines)):
        found = fence(lines[i])
        if not tagged and opens_turn(lines, i, form) and not lines[i - 1].strip():
            turn = True
            break
        if found and (tagged or found[1]):
            tagged = bool(found[1])
        elif found:
            fences += 1
    return (turn or blank) if fences == 1 else blank and fences % 2 == 0
