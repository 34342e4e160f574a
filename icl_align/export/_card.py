"""The model card of a folder with a pack inside: what it is, how it is used, what was measured."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from icl_align.pack import Pack

_LONGEST = 200
"""Characters of a value in the card."""


def card(pack: Pack, model: str, weights: str) -> str:
    """Gives the card as Markdown; values of the pack stand in it as plain text."""
    prompt, decoding = pack.prompt, pack.prompt.decoding
    served = (
        "The weights are in this folder."
        if weights != "reference"
        else "The weights are not in this folder; `model_reference.json` says whose they are."
    )
    rows = "\n".join(f"| {plain(name)} | {plain(value)} |" for name, value in _evidence(pack))
    return f"""\
---
base_model: {json.dumps(model, ensure_ascii=True)}
library_name: transformers
pipeline_tag: text-generation
tags: [urial, in-context-learning, icl-align]
---

# A base model that answers chats by its prompt alone

No weight was trained. The chat template in this folder puts one constant prompt before every
conversation, and the base model continues it.

| | |
|---|---|
| base model | {plain(model)} |
| prompt digest | {prompt.digest} |
| exemplars | {len(prompt.exemplars)} |
| format | {plain(prompt.format.name)} |
| temperature, top_p | {decoding.temperature}, {decoding.top_p} |
| repetition penalty | {decoding.repetition_penalty} |
| most tokens of an answer | {decoding.max_tokens} |
| stop strings | {plain(json.dumps(prompt.stop, ensure_ascii=True))} |

{served} A system message of a client takes the place of the prompt's own system text; what was
measured does not speak for that.

## Use

    transformers serve FOLDER --dtype float32     # on a CPU; on a GPU leave --dtype out

vLLM reads decoding and template from here, but no stop strings: let clients send them as `stop`.

## Evidence

{"What was measured with this prompt, as its pack tells it." if rows else "The pack holds none."}

| what | value |
|---|---|
{rows}
"""


def plain(value: Any) -> str:
    """A value as text in one table cell: no markup, no control character, not too long."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=True)
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    text = re.sub(r"[^\x20-\x7e\xa0-\uffff]|[\u200b-\u200f\u2028-\u202e\u2066-\u2069]", "?", text)
    return re.sub(r"[&<>|`*_\[\]\\#!]", lambda found: f"&#{ord(found.group())};", text)


def _evidence(pack: Pack) -> list[tuple[str, Any]]:
    """Numbers, texts and flags of the evidence by dotted name, sorted."""
    found: list[tuple[str, Any]] = []

    def walk(value: Any, name: str) -> None:
        if isinstance(value, Mapping):
            for key in sorted(value):
                walk(value[key], f"{name}.{key}" if name else str(key))
        elif not isinstance(value, list | tuple):
            found.append((name, value))

    walk({key: value for key, value in pack.evidence.items() if key != "digests"}, "")
    return found
