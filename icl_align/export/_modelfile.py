"""Reads Modelfiles by the rules of Ollama's parser, and runs the few Go template actions we write.

Written from what parser/parser.go and template/template.go of github.com/ollama/ollama do (read in
November 2026), not from what the writer beside it does, so that the two check each other.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

ROLES = (
    '{{ if eq $m.Role "user" }}',
    '{{ else if eq $m.Role "assistant" }}',
    "{{ end }}",
)
"""The actions that tell a user's messages from answers."""
_ACTION = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)


def read_modelfile(text: str) -> dict[str, list[str]]:
    """Gives the values of each command, parameters by their own names.

    Raises:
        ValueError: it is no Modelfile.
    """
    found: dict[str, list[str]] = {}
    position = 0
    while position < len(text):
        if text[position] in " \t\r\n":
            position += 1
            continue
        if text[position] == "#":
            position = _line_end(text, position)
            continue
        name, position = _word(text, position)
        if name.lower() == "parameter":
            name, position = _word(text, position)
        value, position = _value(text, position)
        found.setdefault(name.lower(), []).append(value)
    if "from" not in found:
        raise ValueError("no FROM line")
    return found


def run_template(template: str, messages: Sequence[tuple[str, str]]) -> str:
    """Runs a template of literals, one `range` over the messages and one `if` on their roles.

    Raises:
        ValueError: an action that is none of these.
    """
    head, loop, rest = template.partition("{{ range $m := .Messages }}")
    if not loop or not rest.endswith("{{ end }}"):
        raise ValueError("the template does not range over the messages")
    opened, user, told, closed = re.split(
        "|".join(map(re.escape, ROLES)), rest.removesuffix("{{ end }}")
    )
    if opened or closed:
        raise ValueError("the template's loop holds more than its two roles")
    bodies = {"user": user, "assistant": told}
    return _run(head, "") + "".join(_run(bodies[role], content) for role, content in messages)


def _run(body: str, content: str) -> str:
    def value(found: re.Match[str]) -> str:
        action = found.group(1).strip()
        if action == "$m.Content":
            return content
        if not re.fullmatch(r'"[^"\n]*"', action):
            raise ValueError(f"an action that is not known here: {action[:40]!r}")
        return str(ast.literal_eval(action))  # escapes of Go's that Python has, too

    return _ACTION.sub(value, body)


def _line_end(text: str, position: int) -> int:
    ends = [text.find(char, position) for char in "\r\n"]
    return min((end for end in ends if end >= 0), default=len(text))


def _word(text: str, position: int) -> tuple[str, int]:
    found = re.compile(r"([A-Za-z0-9_]+)[ \t]").match(text, position)
    if found is None:
        raise ValueError(f"no command at {text[position : position + 20]!r}")
    return found.group(1), found.end()


def _value(text: str, position: int) -> tuple[str, int]:
    """Reads up to the line end at which what was read is a whole value."""
    kept: list[str] = []
    for place in range(position, len(text)):
        char = text[place]
        if char in "\r\n":
            value = _unquoted("".join(kept).strip())
            if value is not None:
                return value, place
        if char in " \t\r\n" or char.isprintable():
            kept.append(char)
    value = _unquoted("".join(kept).strip())
    if value is None:
        raise ValueError("unexpected end of the file in a value")
    return value, len(text)


def _unquoted(value: str) -> str | None:
    for quote in ('"""', '"'):
        if value.startswith(quote):
            whole = len(value) >= 2 * len(quote) and value.endswith(quote)
            return value[len(quote) : -len(quote)] if whole else None
    return value
