"""One prompt on its way through engine `hf`."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Row:
    """One prompt being continued.

    Attributes:
        index: Its place in the request.
        ids: Its prompt's token ids.
        stream: Seed of its own random stream.
        new: Generated token ids so far.
    """

    index: int
    ids: list[int]
    stream: int
    new: list[int] = field(default_factory=list)
