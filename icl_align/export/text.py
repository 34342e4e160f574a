"""Export `text`: one text with a `{query}` slot, to be filled by `str.format`.

All other braces are doubled, so that `Path(...).read_text().format(query=...)`, or a template of
LangChain's "f-string" kind, gives them back single. What a query holds is never looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from icl_align.errors import UserError
from icl_align.export.files import parts, write_files
from icl_align.pack import Pack
from icl_align.types import Example


@dataclass(frozen=True, slots=True)
class TextExporter:
    """The exact text sent with a slot where the query stands; it holds no decoding."""

    name: str = "text"
    suffix: str = "prompt.txt"
    by: str = "Python's str.format"

    def write(self, pack: Pack, to: Path) -> list[Path]:
        """Writes the text.

        Raises:
            UserError: it cannot be written.
        """
        found = parts(pack.prompt)
        before, behind = doubled(found.head + found.ask), doubled(found.reply)
        return write_files({to: before + "{query}" + behind})

    def render(self, path: Path, conversations: Sequence[Example]) -> list[str]:
        """Fills the slot.

        Raises:
            UserError: a conversation has earlier turns, for which there is no slot.
        """
        text = path.read_bytes().decode("utf-8")
        if any(item.turns for item in conversations):
            raise UserError("a text with one slot cannot carry the earlier turns of a conversation")
        return [text.format(query=item.query) for item in conversations]


def doubled(text: str) -> str:
    """Doubles braces, so that `str.format` gives them back."""
    return text.replace("{", "{{").replace("}", "}}")


EXPORTER = TextExporter()
