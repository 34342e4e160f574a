"""How the fields of a DSPy signature are written as a query and an answer, and read back.

One field stands as it is. Several stand one below the other, each under a line with its label:

    Reasoning:
    Lima is the seat of the government.

    Answer:
    Lima

Written against DSPy 3.4.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import dspy
from dspy.adapters.utils import format_field_value, parse_value, translate_field_type

from icl_align.errors import UserError
from icl_align.types import Turn

_MARKED = "<<CUSTOM-TYPE-START-IDENTIFIER>>"
"""What DSPy's values that are no text (images, sound) begin with when they are written."""


def inputs_of(signature: Any) -> dict[str, Any]:
    """Gives the input fields by name, without the history of a conversation."""
    return {k: f for k, f in signature.input_fields.items() if not _is_history(f)}


def history_of(signature: Any) -> str | None:
    """Gives the name of the input that holds the conversation so far; None where there is none."""
    return next((k for k, f in signature.input_fields.items() if _is_history(f)), None)


def labels_of(fields: Mapping[str, Any]) -> dict[str, str]:
    """Gives the line that stands above each field: "Cited sources:" for `cited_sources`."""
    made = {name: f"{name.replace('_', ' ').strip().capitalize()}:" for name in fields}
    return made if len(set(made.values())) == len(made) else {name: f"{name}:" for name in fields}


def write(fields: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """Writes the values that there are.

    Raises:
        UserError: a value that is no text, or the only field's value is missing.
    """
    if len(fields) == 1:
        ((name, field),) = fields.items()
        if name not in values:
            raise UserError(f"the input {name!r} is missing; call the program with {name}=...")
        return _text(name, field, values[name])
    labels = labels_of(fields)
    return "\n\n".join(
        f"{labels[name]}\n{_text(name, field, values[name])}"
        for name, field in fields.items()
        if values.get(name) is not None
    )


def read(fields: Mapping[str, Any], text: str) -> dict[str, Any]:
    """Reads values from an answer, each as its field's type; what is not there is left out.

    The label of the first field may be missing, as a prompt ends with it. A value goes up to the next
    label at the start of a line, the last one up to the end.

    Raises:
        ValueError: a value cannot be read as its field's type.
    """
    if len(fields) == 1:
        ((name, field),) = fields.items()
        return {name: _value(name, field, text)}
    return {
        name: _value(name, fields[name], part.strip())
        for name, part in _parts(fields, text).items()
    }


def turns(signature: Any, history: Any) -> tuple[Turn, ...]:
    """Reads a conversation: a `dspy.History`, a dict with "messages", or a list of them.

    Raises:
        UserError: a message has no input or no output of this signature.
    """
    messages = getattr(history, "messages", history) or []
    if isinstance(messages, Mapping):
        messages = messages.get("messages", [])
    found = []
    for number, message in enumerate(messages, start=1):
        for kind, fields in (("input", inputs_of(signature)), ("output", signature.output_fields)):
            if not isinstance(message, Mapping) or not present(fields, message):
                names = " or ".join(map(repr, fields))
                raise UserError(f"message {number} of the history has no {kind}, {names}; add it")
        query = write(inputs_of(signature), message)
        found.append(Turn(query, write(signature.output_fields, message)))
    return tuple(found)


def present(fields: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """Whether at least one of the fields has a value."""
    return any(values.get(name) is not None for name in fields)


def description(signature: Any) -> str:
    """Says what a query gives and an answer holds, for a signature of several fields."""
    parts = []
    for opening, fields in (
        ("Each query gives", inputs_of(signature)),
        ("Each answer gives, in this order", signature.output_fields),
    ):
        lines = [_described(name, field, fields) for name, field in fields.items()]
        parts.append("\n".join([f"{opening}:", *lines]))
    return "\n\n".join(parts)


def _is_history(field: Any) -> bool:
    return dspy.History in (field.annotation, *get_args(field.annotation))


def _described(name: str, field: Any, fields: Mapping[str, Any]) -> str:
    given = field.json_schema_extra.get("desc") or ""
    typed = "" if field.annotation is Any else translate_field_type(name, field)
    note = typed.partition("# note: the value you produce ")[2]
    told = [text for text in (given if given != f"${{{name}}}" else "", note) if text]
    label = labels_of(fields)[name].removesuffix(":")
    return f"- {label}: {'; '.join(told)}" if told else f"- {label}"


def _text(name: str, field: Any, value: Any) -> str:
    if isinstance(value, str):
        return value
    text = str(format_field_value(field, value))
    if _MARKED in text:
        raise UserError(
            f"the field {name!r} is a {type(value).__name__}; a base model is sent text alone, so "
            "describe it in words"
        )
    return text


def _value(name: str, field: Any, text: str) -> Any:
    if field.annotation is str:
        return text
    try:
        return parse_value(text.strip(), field.annotation)
    except Exception as error:  # pydantic's and the standard library's own kinds
        reason = str(error).split("\n", 1)[0]
        raise ValueError(f"{name!r} cannot be read from {text[:60]!r}: {reason}") from error


def _parts(fields: Mapping[str, Any], text: str) -> dict[str, str]:
    """Cuts an answer at its labels, which come in the fields' order."""
    labels, lines = labels_of(fields), text.split("\n")
    names = list(fields)
    starts: list[tuple[str, int, str]] = []
    after = 0
    for name in names:
        found = _label(lines, labels[name], after)
        if found is not None:
            starts.append((name, *found))
            after = found[0] + 1
    if not starts or starts[0][0] != names[0]:
        starts.insert(0, (names[0], -1, ""))  # its label ended the prompt
    ends = [place for _, place, _ in starts[1:]] + [len(lines)]
    parts = {}
    for (name, place, rest), end in zip(starts, ends, strict=True):
        body = "\n".join([*([rest] if rest else []), *lines[place + 1 : end]])
        if body.strip() or place >= 0:
            parts[name] = body
    return parts


def _label(lines: Sequence[str], label: str, after: int) -> tuple[int, str] | None:
    """Gives the line of a label and what stands behind it; a label alone on its line goes first."""
    places = range(after, len(lines))
    alone = (index for index in places if lines[index].strip() == label)
    found = next(alone, None)
    if found is None:
        found = next((i for i in places if lines[i].startswith(f"{label} ")), None)
    return None if found is None else (found, lines[found].strip()[len(label) :].strip())
