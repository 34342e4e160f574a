"""Packs: a prompt with its decoding, the model it was tuned on, and the evidence, in one file."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from icl_align.data import read_text
from icl_align.errors import UserError
from icl_align.prompt import Prompt

DEEPEST = 50
"""Levels of nesting in a pack; what is deeper was made to break a reader."""
VERSION = 1
MODEL_KEYS = ("id", "engine", "fingerprint", "revision", "dtype", "context_length")
"""What a pack may say about its model; `id` is a folder, a Hub id or "bundled"."""
EVIDENCE_KEYS = (
    "confirmed",  # whether it was proved on untouched examples
    "experiment",  # the experiment's name
    "seed",
    "trial",  # the study's trial it comes from
    "trials",  # how many the study held
    "dev",  # scores: mean, n, ...
    "confirm",
    "test",
    "tuned",  # the proof, as `Confirmation.to_json` names its parts
    "baseline",
    "difference",
    "others",
    "finalists",
    "proof",
    "objective",  # names and weights of the terms, the scorers' fingerprint
    "examples",  # digests of the examples, by split
    "digests",  # other digests: space, data files, baseline prompts
    "generations",
    "versions",  # icl_align and the libraries
)
"""What a pack may hold as evidence."""
_KEYS = ("version", "prompt", "digest", "model", "evidence", "created")


@dataclass(frozen=True)
class Pack:
    """A prompt ready to be taken elsewhere, with what is known about it.

    Attributes:
        prompt: The prompt with its decoding.
        model: Which model it was tuned on; keys from `MODEL_KEYS`, JSON values.
        evidence: What was measured; keys from `EVIDENCE_KEYS`, JSON values.
        created: When it was made, as its maker wants to say it; empty by default, so that equal
            runs give equal files.
    """

    prompt: Prompt
    model: Mapping[str, Any] = field(default_factory=dict)
    evidence: Mapping[str, Any] = field(default_factory=dict)
    created: str = ""

    def __post_init__(self) -> None:
        """Refuses what could not be read back.

        Raises:
            UserError: an unknown key, or a value that is no JSON.
        """
        _refuse_unknown(self.model, MODEL_KEYS, "model")
        _refuse_unknown(self.evidence, EVIDENCE_KEYS, "evidence")
        _refuse_no_json(self.to_json(), "pack")

    def to_json(self) -> dict[str, Any]:
        """Gives a JSON-able dict that `from_json` reads back."""
        content: dict[str, Any] = {
            "version": VERSION,
            "prompt": self.prompt.to_json(),
            "digest": self.prompt.digest,
            "model": dict(self.model),
            "evidence": dict(self.evidence),
        }
        return content | ({"created": self.created} if self.created else {})

    @staticmethod
    def from_json(content: Any, *, where: str = "pack") -> Pack:
        """Reads what `to_json` gave.

        Args:
            content: The decoded JSON.
            where: The file, for messages.

        Raises:
            UserError: another version, an unknown or missing key (the nearest known one is named),
                a wrong type, or a prompt that is not the one its digest was taken of.
        """
        if not isinstance(content, Mapping):
            raise UserError(f"{where}: a pack is a JSON object, got {type(content).__name__}")
        if "version" not in content:
            raise UserError(
                f"{where}: no 'version', so this is no pack; make one with icl-align export"
            )
        version = content["version"]
        if version != VERSION or isinstance(version, bool):
            raise UserError(
                f"{where}: pack version {version!r} is unknown, this icl_align reads {VERSION}; "
                "use the version of icl_align that wrote it"
            )
        _refuse_unknown(content, _KEYS, where)
        for key in ("prompt", "digest", "model", "evidence"):
            if key not in content:
                raise UserError(f"{where}: the key {key!r} is missing")
        for key in ("model", "evidence"):
            if not isinstance(content[key], Mapping):
                found = type(content[key]).__name__
                raise UserError(f"{where}: {key!r} must be an object, got {found}")
            _refuse_unknown(
                content[key], MODEL_KEYS if key == "model" else EVIDENCE_KEYS, f"{where}: {key}"
            )
        for key in ("digest", "created"):
            if not isinstance(content.get(key, ""), str):
                found = type(content[key]).__name__
                raise UserError(f"{where}: {key!r} must be a string, got {found}")
        _refuse_no_json(content, where)
        prompt = Prompt.from_json(content["prompt"], where=f"{where}: prompt")
        if prompt.digest != content["digest"]:
            raise UserError(
                f"{where}: the prompt was changed after the pack was written: its digest is "
                f"{prompt.digest[:12]}, 'digest' says {content['digest'][:12]}; the evidence is "
                "not about this prompt, so export it anew, or keep the prompt as a .txt"
            )
        return Pack(prompt, content["model"], content["evidence"], content.get("created", ""))

    def save(self, path: Path | str) -> None:
        """Writes the pack: `.json` in full, `.txt` as a URIAL prompt text (the prompt alone).

        The file is there whole or not at all.

        Raises:
            UserError: another suffix, or the file cannot be written.
        """
        place = Path(path)
        if place.suffix == ".json":
            text = json.dumps(
                self.to_json(), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False
            )
            content = f"{text}\n"
        elif place.suffix == ".txt":
            content = self.prompt.to_text()
        else:
            raise UserError(
                f"a pack is written as .json or as .txt (URIAL text), not as {place.name!r}"
            )
        try:
            write_whole(place, content.encode("utf-8"))
        except OSError as error:
            raise UserError(
                f"cannot write {place}: {error.strerror}; choose another place"
            ) from error

    @staticmethod
    def load(path: Path | str) -> Pack:
        """Reads a pack from `.json`; any other file is a URIAL prompt text, the prompt alone.

        Raises:
            UserError: it cannot be read; the message names the file and the place in it.
        """
        place = Path(path)
        text = read_text(place)
        if place.suffix != ".json":
            return Pack(Prompt.from_text(text, where=str(place)))
        try:
            content = json.loads(text, object_pairs_hook=_object, parse_constant=_no_number)
        except json.JSONDecodeError as error:
            raise UserError(
                f"{place}:{error.lineno}:{error.colno}: broken JSON: {error.msg}"
            ) from error
        except (ValueError, RecursionError) as error:
            raise UserError(f"{place}: {error}") from error
        return Pack.from_json(content, where=str(place))


def write_whole(place: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    handle, name = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
    scratch = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        scratch.chmod(0o644)
        scratch.replace(place)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} is there twice in one object")
    return found


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _refuse_unknown(content: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    names = list(known)
    for key in content:
        if key not in names:
            near = get_close_matches(str(key), names, 1, 0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}"
            raise UserError(f"{where}: unknown key {key!r}; {hint}")


def _refuse_no_json(value: Any, where: str, depth: int = 0) -> None:
    """Walks a value down to what JSON cannot hold: NaN, infinities, half surrogates, objects."""
    if depth > DEEPEST:
        raise UserError(f"{where[:80]}... is nested more than {DEEPEST} levels deep")
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise UserError(f"{where}: the key {key!r} is not a string")
            _refuse_no_json(inner, f"{where}.{key}", depth + 1)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            _refuse_no_json(inner, f"{where}[{number}]", depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where} must be a finite number, got {value}")
    elif isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
        raise UserError(f"{where} holds half a surrogate pair, which is no text")
    elif not isinstance(value, str | int | float | None):
        raise UserError(f"{where}: a {type(value).__name__} is no JSON value")
