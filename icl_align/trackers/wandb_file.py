"""Reads how far an offline W&B run came from the files that its processes left."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_HEADER = 7
"""Bytes before the first record, and before each part of one: checksum, length, kind."""
_BLOCK = 32768
_ENDS = (1, 4)
"""Kinds of a part that ends a record: the whole of it, or its last part."""


def last_step(folder: Path, run_id: str, record: Any) -> int | None:
    """Gives the last step that the offline files of a run hold; -1 for none, None without files.

    W&B writes them every 15 s or 32 KiB, so a killed process has logged more than they hold.

    Args:
        folder: W&B's folder.
        run_id: The run's id.
        record: The message class of W&B's records.
    """
    files = sorted(folder.glob(f"offline-run-*-{run_id}/run-{run_id}.wandb"))
    if not files:
        return None
    return max((step for file in files for step in _steps(file, record)), default=-1)


def _steps(file: Path, record: Any) -> Iterator[int]:
    for content in _records(file.read_bytes()):
        made = record()
        made.ParseFromString(content)
        for item in made.history.item:
            if "_step" in (item.key, *item.nested_key):
                yield int(json.loads(item.value_json))


def _records(data: bytes) -> Iterator[bytes]:
    """The records of LevelDB's log format, up to where the file was cut off."""
    at, parts = _HEADER, b""
    while at + _HEADER <= len(data):
        left = _BLOCK - at % _BLOCK
        if left < _HEADER:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        at += _HEADER
        if kind == 0 or at + length > len(data):
            return
        parts += data[at : at + length]
        at += length
        if kind in _ENDS:
            yield parts
            parts = b""
