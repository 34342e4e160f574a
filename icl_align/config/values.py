"""What stands in an experiment file's keys: files, folders, formats and parts, and what all tables share."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

from icl_align.prompt import FORMATS

BUNDLED = "bundled"
"""In place of a file: the one that comes with the bundled model."""
ZERO_SHOT = "zero-shot"
"""In place of a baseline's file: no system text, no exemplars."""


def _file(value: str, info: ValidationInfo) -> str:
    """Resolves a file against the folder of the experiment file."""
    if value == BUNDLED:
        return value
    place = Path(_base(info), Path(value).expanduser())
    if not place.is_file():
        raise ValueError(f"there is no file {place}")
    return str(place.resolve())


def _baseline(value: str, info: ValidationInfo) -> str:
    return value if value == ZERO_SHOT else _file(value, info)


def _model_id(value: str, info: ValidationInfo) -> str:
    """Makes a folder absolute; everything else is a Hub id."""
    place = Path(_base(info), Path(value).expanduser())
    if value != BUNDLED and place.is_dir():
        return str(place.resolve())
    if not value or Path(value).is_absolute() or value.startswith((".", "~")):
        raise ValueError(f"there is no folder {place}")
    return value


def _part(value: str, info: ValidationInfo) -> str:
    """Makes the file in `file.py:attr` absolute."""
    place, colon, attribute = value.rpartition(":")
    if colon and place.endswith(".py"):
        return f"{_file(place, info)}:{attribute}"
    return value


def _format(value: str) -> str:
    if value not in FORMATS:
        near = get_close_matches(value, FORMATS, 1, 0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(FORMATS)}"
        raise ValueError(f"there is no format {value!r}; {hint}")
    return value


def _base(info: ValidationInfo) -> Path:
    return Path((info.context or {}).get("base", "."))


BaselineName = Annotated[str, AfterValidator(_baseline)]
FileName = Annotated[str, AfterValidator(_file)]
FormatName = Annotated[str, AfterValidator(_format)]
ModelName = Annotated[str, AfterValidator(_model_id)]
Part = Annotated[str, AfterValidator(_part)]
FROM_LIST = Field(strict=False)
"""For a tuple that is a list in the file; its items stay strict."""


class Table(BaseModel):
    """What all tables of an experiment file share: exact types, no unknown keys, no changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
