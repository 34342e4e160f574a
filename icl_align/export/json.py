"""Export `json`: the pack itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from icl_align.export.files import as_json, parts, write_files
from icl_align.pack import Pack
from icl_align.types import Example


@dataclass(frozen=True, slots=True)
class JsonExporter:
    """Packs as icl_align reads and writes them; nothing is lost."""

    name: str = "json"
    suffix: str = "pack.json"
    by: str = "icl_align"

    def write(self, pack: Pack, to: Path) -> list[Path]:
        """Writes the pack.

        Raises:
            UserError: it cannot be written.
        """
        parts(pack.prompt)
        content = as_json(pack.to_json())
        if to.suffix == ".json":
            pack.save(to)
            return [to]
        return write_files({to: content})

    def load(self, path: Path) -> Pack:
        """Reads the pack."""
        return Pack.load(path)

    def render(self, path: Path, conversations: Sequence[Example]) -> list[str]:
        """Renders with the pack read back."""
        prompt = self.load(path).prompt
        return [prompt.render(item) for item in conversations]


EXPORTER = JsonExporter()
