"""Reads programs that DSPy saved as JSON: one predictor's demos and instructions, as a pack.

A saved signature keeps descriptions of its fields and loses their names and directions. Names are found
in the descriptions and the demos; what stands before a `reasoning`, or all but the last, is an input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from icl_align.errors import UserError
from icl_align.importers.files import read_json
from icl_align.pack import Pack
from icl_align.prompt import FORMATS, Format

_HISTORY = "history"
_REASONING = "reasoning"


def read(path: Path, *, inputs: Sequence[str] = (), form: Format | None = None) -> Pack:
    """Reads a saved program of one predictor, such as a `Predict` or a `ChainOfThought`.

    A program from `query` to `answer`, of whatever names, becomes the pack that `UrialAdapter` sends.
    Several fields stand below each other, each under a label, as that adapter writes them.

    Args:
        path: What `program.save("....json")` wrote, or an export of ours.
        inputs: Names of the input fields, where there are more than two fields and no `reasoning`.
        form: The pack's format; "block" where None.

    Raises:
        UserError: it is no such file, has several predictors, or its fields cannot be told apart.
    """
    from icl_align.dspy_adapter import KEY, load_pack

    content = read_json(path)
    if isinstance(content, Mapping) and KEY in content:
        return load_pack(path)
    state = _predictor(content, path)
    names = _names(state, path)
    return pack_of_state(state, names, _inputs(names, inputs, path), form, str(path))


def pack_of_state(
    state: Mapping[str, Any],
    names: Sequence[str],
    inputs: Sequence[str],
    form: Format | None,
    where: str,
) -> Pack:
    """Makes the pack of a predictor's state.

    Args:
        state: With "signature" and "demos", as DSPy dumps it.
        names: The fields' names, in order.
        inputs: Which of them are inputs.
        form: The pack's format; "block" where None.
        where: The file, for messages.

    Raises:
        UserError: a demo is no object, or instructions are no text.
    """
    import dspy

    from icl_align.dspy_adapter import UrialAdapter

    demos, instructions = state["demos"], state["signature"].get("instructions")
    if not isinstance(instructions, str) or not isinstance(demos, list):
        raise UserError(f"{where}: instructions must be a text, and demos a list")
    fields: dict[str, Any] = {}
    for name, told in zip(names, state["signature"]["fields"], strict=True):
        desc = str(told.get("description", f"${{{name}}}"))
        kind = dspy.InputField(desc=desc) if name in inputs else dspy.OutputField(desc=desc)
        usual = name == _HISTORY and name in inputs
        fields[name] = (dspy.History if usual else Any, kind)
    for number, demo in enumerate(demos, start=1):
        if not isinstance(demo, Mapping):
            raise UserError(f"{where}: demo {number} must be an object, got {demo!r}"[:200])
    signature = dspy.Signature(fields)
    signature.instructions = instructions
    adapter = UrialAdapter(form or FORMATS["block"], system=instructions)
    return Pack(adapter.prompt(signature, demos))


def _predictor(content: Any, path: Path) -> Mapping[str, Any]:
    """Gives the state of the only predictor."""
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: a saved program is a JSON object, got {type(content).__name__}")
    named = {"": content} if _is_state(content) else {}
    named |= {key: value for key, value in content.items() if _is_state(value)}
    if not named:
        raise UserError(
            f"{path}: no predictor with 'signature' and 'demos' in it; save a program with "
            "program.save('x.json')"
        )
    if len(named) > 1:
        raise UserError(
            f"{path}: a pack is one prompt, and this program has {len(named)} predictors, "
            f"{', '.join(named)}; save one of them alone"
        )
    return next(iter(named.values()))


def _is_state(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("signature"), Mapping)
        and isinstance(value["signature"].get("fields"), list)
        and "demos" in value
    )


def _names(state: Mapping[str, Any], path: Path) -> list[str]:
    """Finds the fields' names: DSPy describes one without a description as ${name}."""
    from dspy.signatures.signature import infer_prefix

    demos = [demo for demo in state["demos"] if isinstance(demo, Mapping)]
    keys = {f"{infer_prefix(key)}:": key for demo in demos for key in demo}
    names: list[str] = []
    for number, field in enumerate(state["signature"]["fields"], start=1):
        told = field if isinstance(field, Mapping) else {}
        described, prefix = str(told.get("description", "")), str(told.get("prefix", ""))
        name = described[2:-1] if described.startswith("${") and described.endswith("}") else ""
        name = name or keys.get(prefix) or "_".join(prefix.lower().split()).strip(":")
        if not name.isidentifier() or name in names or name.startswith("_"):
            raise UserError(
                f"{path}: the name of field {number} cannot be found: its description is "
                f"{described[:60]!r}, its prefix {prefix[:60]!r}, and no demo has such a key"
            )
        names.append(name)
    return names


def _inputs(names: Sequence[str], given: Sequence[str], path: Path) -> Sequence[str]:
    rest = [name for name in names if name != _HISTORY]
    found: Sequence[str]
    if given:
        if unknown := sorted(set(given) - set(names)):
            raise UserError(f"{path}: no field {unknown[0]!r}; the fields are {', '.join(names)}")
        found = given
    elif _REASONING in rest:
        found = rest[: rest.index(_REASONING)]
    elif len(rest) == 2:  # noqa: PLR2004 (one in, one out)
        found = rest[:1]
    else:
        raise UserError(
            f"{path}: which of {', '.join(names)} are inputs is not saved; name them with --inputs"
        )
    if not found or not set(rest) - set(found):
        raise UserError(f"{path}: of {', '.join(names)}, at least one must be an input and one not")
    return [*found, *([_HISTORY] if _HISTORY in names and _HISTORY not in found else [])]
