"""A DSPy adapter that writes any signature as one text for a base model to go on with.

What a third party needs to run an exported program is DSPy and this module:

    program, adapter = load_program("program.json")
    with dspy.context(lm=lm, adapter=adapter):
        program(query="What is the capital of Peru?")

Demos become exemplars, instructions the system text, a `dspy.History` the turns before the query. A
signature with one input and one output is sent as the very bytes of `Prompt.render`. Written against
DSPy 3.4.1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dspy

from icl_align.data import read_text
from icl_align.dspy_parts.adapter import UrialAdapter
from icl_align.errors import UserError
from icl_align.pack import Pack
from icl_align.types import Example

__all__ = [
    "KEY",
    "VERSION",
    "UrialAdapter",
    "load_pack",
    "load_program",
    "read_saved",
    "starting_program",
]

KEY = "icl_align"
"""Under which key a saved program holds the pack it was made of."""
VERSION = 1


def starting_program(pack: Pack, *, history: bool | None = None) -> Any:
    """Gives a pack as a `dspy.Predict` with its demos and instructions, from `query` to `answer`.

    Its bytes are the pack's under `UrialAdapter.of(pack.prompt)`.

    Args:
        pack: The pack.
        history: Whether the program takes a `history`; None where an exemplar has earlier turns.
    """
    prompt = pack.prompt
    if history is None:
        history = any(exemplar.turns for exemplar in prompt.exemplars)
    fields: dict[str, Any] = {"query": (str, dspy.InputField())}
    if history:
        fields["history"] = (dspy.History, dspy.InputField(default=dspy.History(messages=[])))
    fields["answer"] = (str, dspy.OutputField())
    signature = dspy.Signature(fields)
    signature.instructions = prompt.system
    program = dspy.Predict(signature)
    program.demos = [_demo(exemplar) for exemplar in prompt.exemplars]
    return program


def read_saved(path: Path | str) -> dict[str, Any]:
    """Reads the JSON object that DSPy's `program.save("....json")` writes, and no pickle.

    Raises:
        UserError: it is none; the message names the file.
    """
    place = Path(path)
    if place.is_dir() or place.suffix in (".pkl", ".pickle"):
        raise UserError(f"{place} is no JSON file; save the program with program.save('x.json')")
    try:
        content = json.loads(read_text(place))
    except json.JSONDecodeError as error:
        raise UserError(f"{place}:{error.lineno}: broken JSON: {error.msg}") from error
    except RecursionError as error:
        raise UserError(f"{place}: this JSON is nested too deeply") from error
    if not isinstance(content, dict):
        raise UserError(f"{place}: a saved program is a JSON object, not {type(content).__name__}")
    return content


def load_program(path: Path | str) -> tuple[Any, UrialAdapter]:
    """Loads an exported program and the adapter it was exported with; nothing in the file is run.

    Raises:
        UserError: it is no such export, or was changed since.
    """
    pack = load_pack(path)
    return starting_program(pack, history=True), UrialAdapter.of(pack.prompt)


def load_pack(path: Path | str) -> Pack:
    """Reads the pack out of an exported program.

    Raises:
        UserError: it is no export, or the program was changed since.
    """
    content = read_saved(path)
    kept = content.get(KEY)
    if not isinstance(kept, Mapping) or "pack" not in kept:
        raise UserError(
            f"{path} was not exported by icl_align; `icl-align import {path}` reads a program that "
            "DSPy saved"
        )
    if kept.get("version") != VERSION:
        raise UserError(f"{path}: export version {kept.get('version')!r} is not {VERSION}")
    pack = Pack.from_json(kept["pack"], where=str(path))
    wanted = starting_program(pack, history=True).dump_state()
    found = {name: value for name, value in content.items() if name not in ("metadata", KEY)}
    if found != wanted:
        raise UserError(
            f"{path}: the program was changed after it was exported, so the pack's evidence is not "
            f"about it; remove the key {KEY!r} and import it as what DSPy saved"
        )
    return pack


def _demo(exemplar: Example) -> Any:
    demo: dict[str, Any] = {"query": exemplar.query, "answer": exemplar.answer}
    if exemplar.turns:
        messages = [{"query": turn.query, "answer": turn.answer} for turn in exemplar.turns]
        demo["history"] = {"messages": messages}
    return dspy.Example(**demo).with_inputs(*(name for name in demo if name != "answer"))
