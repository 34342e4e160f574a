"""Retrieval packs on disk: an ordinary pack, and an index beside it as safetensors (no pickle)."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from icl_align.errors import UserError
from icl_align.pack import Pack
from icl_align.retrieval.pack import Embedder, Recipe, RetrievalPack
from icl_align.retrieval.words import FINGERPRINT

VERSION = 1
INDEX_SUFFIX = ".index.safetensors"
_FIELDS = ("version", "pack", "fingerprint", "recipe")
_SLACK = 1e-3
"""How far the length of a vector may be from 1."""


def is_index(path: Path | str) -> bool:
    """Whether a path is named as an index is."""
    return str(path).endswith(INDEX_SUFFIX)


def save(pack: RetrievalPack, to: Path | str) -> list[Path]:
    """Writes `NAME.json` and `NAME.index.safetensors`.

    Each is there whole or not at all; an index beside a pack that it was not made of is refused when
    it is read.

    Args:
        pack: What to write.
        to: `NAME.json`.

    Raises:
        UserError: another suffix, or a file cannot be written.
    """
    from safetensors.numpy import save as as_bytes

    place = Path(to)
    if place.suffix != ".json":
        raise UserError(f"a retrieval pack is written as .json, not as {place.name!r}")
    about = {
        "version": VERSION,
        "pack": pack.pack.prompt.digest,
        "fingerprint": pack.fingerprint,
        "recipe": asdict(pack.recipe),
    }
    content = as_bytes(
        {"vectors": np.ascontiguousarray(pack.vectors)},
        {"icl_align": json.dumps(about, sort_keys=True)},
    )
    index = place.with_name(place.stem + INDEX_SUFFIX)
    try:
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}.") as scratch:
            written = Path(scratch) / index.name
            written.write_bytes(content)
            written.replace(index)
    except OSError as error:
        raise UserError(f"cannot write {index}: {error.strerror}; choose another place") from error
    pack.pack.save(place)
    return [place, index]


def load(path: Path | str, embedder: Embedder | None = None) -> RetrievalPack:
    """Reads a retrieval pack from its index, or from the pack beside the index.

    The index names no file and no model, so it can make nothing be read or fetched.

    Args:
        path: `NAME.index.safetensors` or `NAME.json`; the other one lies beside it.
        embedder: Embeds queries; `EmbeddingScorer()` by default, the one `icl-align index` takes.

    Raises:
        UserError: a file is missing or broken, or the index is not one of the pack.
    """
    place = Path(path)
    stem = place.name.removesuffix(INDEX_SUFFIX).removesuffix(".json")
    index = place.with_name(stem + INDEX_SUFFIX)
    about, vectors = _read(index)
    pack = Pack.load(place.with_name(f"{stem}.json"))
    if about["pack"] != pack.prompt.digest:
        raise UserError(
            f"{index} was made of another pack than {stem}.json is now; make it anew with "
            "icl-align index"
        )
    if embedder is None:
        from icl_align.scorers.embedding import EmbeddingScorer

        embedder = EmbeddingScorer()
    recipe = _recipe(about["recipe"], index)
    _check(vectors, recipe, about["fingerprint"], index)
    return RetrievalPack(pack, recipe, vectors, about["fingerprint"], embedder)


def _read(index: Path) -> tuple[dict[str, Any], Any]:
    """The index's description and vectors."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(index, framework="np") as file:
            told = (file.metadata() or {}).get("icl_align")
            if told is None or list(file.keys()) != ["vectors"]:
                raise UserError(f"{index} is no index of icl_align's; make one: icl-align index")
            about = json.loads(told)
            vectors = file.get_tensor("vectors")
    except (SafetensorError, RecursionError, json.JSONDecodeError) as error:
        raise UserError(f"{index} is broken: {error}; make it anew with icl-align index") from error
    except OSError as error:
        reason = error.strerror or "there is no such file"
        raise UserError(f"cannot read {index}: {reason}") from error
    version = about.get("version") if isinstance(about, dict) else None
    if version != VERSION or isinstance(version, bool):
        raise UserError(f"{index}: index version {version!r} is unknown, this icl_align reads 1")
    if set(about) != set(_FIELDS) or not all(
        isinstance(about[key], str) for key in ("pack", "fingerprint")
    ):
        raise UserError(f"{index}: an index says {', '.join(_FIELDS)}, this one otherwise")
    return about, vectors


def _recipe(given: Any, index: Path) -> Recipe:
    names = {field.name for field in fields(Recipe)}
    kinds: dict[str, Any] = {"method": str, "trade": (int, float), "nearest_last": bool}
    if not isinstance(given, dict) or set(given) != names:
        raise UserError(f"{index}: a recipe has {', '.join(sorted(names))}, this one otherwise")
    for name, kind in kinds.items():
        if not isinstance(given[name], kind):
            raise UserError(f"{index}: recipe.{name} has a wrong type: {given[name]!r}")
    return Recipe(**given)


def _check(vectors: Any, recipe: Recipe, fingerprint: str, index: Path) -> None:
    """Refuses vectors that could not have been embedded."""
    if vectors.dtype != np.float32 or vectors.ndim != 2:  # noqa: PLR2004 (a table)
        raise UserError(f"{index}: vectors are a float32 table, not {vectors.dtype}")
    if recipe.method == "bm25":
        if fingerprint != FINGERPRINT or vectors.shape[1]:
            raise UserError(
                f"{index} counts words otherwise than this icl_align ({FINGERPRINT}); make it anew"
            )
    elif not np.all(np.abs(np.linalg.norm(vectors, axis=1) - 1) < _SLACK):
        raise UserError(f"{index}: a vector is not of length 1; make it anew with icl-align index")
