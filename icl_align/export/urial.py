"""Export `urial`: a prompt text as URIAL's repository has them, of the format's dialect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from icl_align.errors import UserError
from icl_align.export.files import character, parts, place_of, write_files
from icl_align.pack import Pack
from icl_align.prompt import Prompt
from icl_align.types import Example, Turn

_PROBES = (Example("?"), Example("?", turns=(Turn("?", "!"),)))


@dataclass(frozen=True, slots=True)
class UrialExporter:
    """Everything before the query as text; it holds no decoding and no evidence."""

    name: str = "urial"
    suffix: str = "prompt.txt"
    by: str = "icl_align's reader of URIAL texts"

    def write(self, pack: Pack, to: Path) -> list[Path]:
        """Writes the text, if it reads back as the same prompt.

        Raises:
            UserError: it does not; names the character or the text that is in the way.
        """
        parts(pack.prompt)
        text = pack.prompt.to_text()
        _refuse(pack.prompt, text)
        return write_files({to: text})

    def load(self, path: Path) -> Pack:
        """Reads the prompt; its decoding is the default one."""
        return Pack.load(path)

    def render(self, path: Path, conversations: Sequence[Example]) -> list[str]:
        """Renders with the text read back."""
        prompt = self.load(path).prompt
        return [prompt.render(item) for item in conversations]


def _refuse(prompt: Prompt, text: str) -> None:
    for char in ("\r", "\ufeff"):
        at = text.startswith(char) if char == "\ufeff" else char in text
        if at:
            raise UserError(
                f"a URIAL text cannot carry {character(char)} in {place_of(prompt, char)}; "
                "export as json"
            )
    if not prompt.exemplars and not prompt.system:
        raise UserError("a URIAL text cannot carry a prompt without system text and exemplars")
    try:
        again = Prompt.from_text(text, where="the text")
    except UserError as error:
        raise UserError(
            f"a URIAL text cannot carry this prompt, a text in it looks like a turn: {error}"
        ) from error
    if any(again.render(probe) != prompt.render(probe) for probe in _PROBES):
        cause = (
            f"the format {prompt.format.name!r}, as it has no exemplars to show it"
            if not prompt.exemplars
            else f"the texts around {_differing(prompt, again)}, which read as part of the format"
        )
        raise UserError(f"a URIAL text cannot carry {cause}; export as json")


def _differing(prompt: Prompt, again: Prompt) -> str:
    """Names the first part that reads back otherwise."""
    if prompt.system != again.system:
        return "the system text"
    for number, (one, other) in enumerate(
        zip(prompt.exemplars, again.exemplars, strict=False), start=1
    ):
        if (one.query, one.answer) != (other.query, other.answer):
            return f"exemplar {number}"
    return f"turns of the format {prompt.format.name!r}"


EXPORTER = UrialExporter()
