"""Exports: a pack written for another tool, so that the tool sends the same bytes to the model.

Each module here is one target. Its `EXPORTER` writes the files, reads them back where they hold
the whole pack, and renders a conversation by the target's own code, which is what
`icl_align.verify` compares with `Prompt.render`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Protocol, cast

from icl_align.errors import UserError
from icl_align.pack import Pack
from icl_align.types import Example

EXPORTS: Mapping[str, str] = {
    name: f"icl_align.export.{module}:EXPORTER"
    for name, module in {
        "urial": "urial",
        "json": "json",
        "text": "text",
        "python": "python",
        "chat-template": "chat_template",
        "hf-folder": "hf_folder",
        "openai": "openai",
        "dspy": "dspy_program",
        "langchain": "langchain",
        "ollama": "ollama",
        "llamacpp": "llamacpp",
        "promptfoo": "promptfoo",
        "inspect": "inspect_task",
        "lm-eval": "lm_eval",
    }.items()
}
"""Where each format's exporter stands, as `module:attr`; imported at first use."""
_SPELLINGS = {"llama.cpp": "llamacpp", "llama-cpp": "llamacpp", "lm_eval": "lm-eval"}


class Exporter(Protocol):
    """One target of an export.

    A target whose files hold the whole pack has `load(path) -> Pack`, too (see `Loading`). One whose
    text is made by other than its own code says by what in `by`.

    Attributes:
        name: The format's name.
        suffix: Default name of the file or folder.
    """

    @property
    def name(self) -> str:
        """The format's name."""

    @property
    def suffix(self) -> str:
        """Default name of the file or folder."""

    def write(self, pack: Pack, to: Path) -> list[Path]:
        """Writes the pack whole or not at all, and gives the files.

        Raises:
            UserError: the target cannot carry a character or a field, which the message names.
        """

    def render(self, path: Path, conversations: Sequence[Example]) -> list[str]:
        """Gives the text that the target sends to the model for each conversation.

        Raises:
            NotInstalledError: the target is not there.
            UserError: the target cannot carry a conversation; the message names why.
        """


class Loading(Exporter, Protocol):
    """A target whose files can be read back."""

    def load(self, path: Path) -> Pack:
        """Reads a pack from what `write` wrote.

        Raises:
            UserError: it is no such file, or was changed.
        """


class NotInstalledError(UserError):
    """A target that is not installed; the message names what to install."""


def load_exporter(name: str) -> Exporter:
    """Gives the exporter of a format.

    Raises:
        UserError: no such format (the nearest is named), or this version of icl_align lacks it.
    """
    known = _SPELLINGS.get(name, name)
    if known not in EXPORTS:
        near = get_close_matches(known, EXPORTS, 1, 0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(EXPORTS)}"
        raise UserError(f"there is no export format {name!r}; {hint}")
    module, _, attribute = EXPORTS[known].partition(":")
    try:
        return cast("Exporter", getattr(import_module(module), attribute))
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise NotInstalledError(f"the format {known!r} is not part of this icl_align") from error


def needed(module: str, extra: str) -> ModuleType:
    """Imports a target's package.

    Raises:
        NotInstalledError: it is not installed; names the extra that brings it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        raise NotInstalledError(
            f"{module.partition('.')[0]} is not installed; pip install 'icl-align[{extra}]'"
        ) from error
