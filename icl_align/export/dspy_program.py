"""Export `dspy`: a saved DSPy program with the pack beside it, for `UrialAdapter`.

One JSON file, as `program.save` writes it, with the pack under a key of its own: plain `dspy.Predict`
loads it too, and `icl_align.dspy_adapter.load_program` gives program and adapter.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from icl_align.errors import UserError
from icl_align.pack import Pack
from icl_align.types import Example


class DspyExport:
    """Writes, reads and runs a pack as a DSPy program.

    Attributes:
        name: The format's name.
        suffix: Default name of the file.
    """

    name = "dspy"
    suffix = "program.json"

    def write(self, pack: Pack, to: Path) -> list[Path]:
        """Writes the file whole or not at all.

        Raises:
            UserError: another suffix than .json, or the file cannot be written.
        """
        from icl_align.dspy_adapter import KEY, VERSION, starting_program

        if to.suffix != ".json":
            raise UserError(f"a DSPy program is written as .json, not as {to.name!r}")
        try:
            with tempfile.TemporaryDirectory(dir=to.parent, prefix=f".{to.name}.") as folder:
                made = Path(folder) / "program.json"
                starting_program(pack, history=True).save(made)
                content = json.loads(made.read_bytes())
                content[KEY] = {"version": VERSION, "pack": pack.to_json()}
                text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
                made.write_text(f"{text}\n", encoding="utf-8", newline="")
                os.replace(made, to)  # noqa: PTH105 (the name of what is atomic)
        except OSError as error:
            raise UserError(f"cannot write {to}: {error.strerror}; choose another place") from error
        return [to]

    def load(self, path: Path) -> Pack:
        """Reads the pack.

        Raises:
            UserError: it is no export of a pack, or was changed since.
        """
        from icl_align.dspy_adapter import load_pack

        return load_pack(path)

    def render(self, path: Path, conversations: Sequence[Example]) -> list[str]:
        """Gives the texts that DSPy itself sends when the saved program is called.

        Raises:
            UserError: the file cannot be loaded, or DSPy refuses a text: it sends no half of a
                surrogate pair.
        """
        import dspy

        from icl_align.dspy_adapter import load_program
        from icl_align.dspy_parts.lm import Recorder

        program, adapter = load_program(path)
        decoding = adapter.decoding
        recorder = Recorder(decoding.repetition_penalty if decoding else 1.0)
        lm = dspy.LM("icl_align/recorder", engine=recorder, cache=False, num_retries=0)
        with dspy.context(lm=lm, adapter=adapter, disable_history=True):
            for item in conversations:
                _ask(program, item)
        return recorder.texts


def _ask(program: Any, item: Example) -> None:
    import dspy

    messages = [{"query": turn.query, "answer": turn.answer} for turn in item.turns]
    try:
        program(query=item.query, history=dspy.History(messages=messages))
    except ValueError as error:
        raise UserError(f"DSPy cannot send {item.query[:60]!r}: {error}") from error


EXPORTER = DspyExport()
"""What `icl_align.export` finds under "dspy"."""
