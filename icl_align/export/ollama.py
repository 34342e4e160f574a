"""Export `ollama`: a Modelfile whose template is the pack, in Go's template syntax.

Ollama's parser drops every character of a value that Go does not count as printable, and ends a text
at three quotes; such characters, and braces, stand in the template as Go string literals.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from icl_align.errors import UserError
from icl_align.export._modelfile import ROLES, read_modelfile, run_template
from icl_align.export.files import character, model_id, parts, write_files
from icl_align.pack import Pack
from icl_align.types import Example

_DOC = """# A base model with a prompt pack inside, exported by icl_align: ollama create NAME -f FILE
# The template writes a whole conversation; a system message of a client's is not sent.
"""
_OTHER = re.compile(r'\{|"{2,}|[^\n\x20-\x7e]')


@dataclass(frozen=True, slots=True)
class OllamaExporter:
    """A Modelfile for `ollama create`; generate and chat both send the pack's text."""

    name: str = "ollama"
    suffix: str = "Modelfile"
    by: str = "icl_align's reader of Modelfiles and Go templates; ollama was not run"

    def write(self, pack: Pack, to: Path) -> list[Path]:
        """Writes the Modelfile.

        Raises:
            UserError: a stop string or the model's id cannot stand in a Modelfile.
        """
        prompt, found = pack.prompt, parts(pack.prompt)
        base = model_id(pack)
        lines = [_DOC + f"FROM {base or './model.gguf'}"]
        user = go_literal(found.ask) + "{{ $m.Content }}" + go_literal(found.reply)
        told = "{{ $m.Content }}" + go_literal(found.close)
        text = f"{{{{ range $m := .Messages }}}}{ROLES[0]}{user}{ROLES[1]}{told}{ROLES[2]}{{{{ end }}}}"
        lines.append(f'TEMPLATE """{go_literal(found.head, first=True)}{text}"""')
        for stop in prompt.stop:
            _refuse_stop(stop)
            lines.append(f'PARAMETER stop """{stop}"""')
        decoding = prompt.decoding
        lines.append(f"PARAMETER temperature {decoding.temperature}")
        lines += [f"PARAMETER top_p {decoding.top_p}", "PARAMETER top_k 0", "PARAMETER min_p 0"]
        lines.append(f"PARAMETER num_predict {decoding.max_tokens}")
        lines.append(f"PARAMETER repeat_penalty {decoding.repetition_penalty}")
        lines.append("PARAMETER repeat_last_n -1")
        if decoding.seed is not None:
            lines.append(f"PARAMETER seed {decoding.seed}")
        return write_files({to: "\n".join(lines) + "\n"})

    def render(self, path: Path, conversations: Sequence[Example]) -> list[str]:
        """Reads the Modelfile by Ollama's rules and runs its template."""
        template = read_modelfile(path.read_bytes().decode("utf-8"))["template"][0]
        found = []
        for item in conversations:
            messages = []
            for turn in item.turns:
                messages += [("user", turn.query), ("assistant", turn.answer)]
            found.append(run_template(template, [*messages, ("user", item.query)]))
        return found


def go_literal(text: str, *, first: bool = False) -> str:
    """Writes a text so that the template gives it back, however Ollama reads the file.

    Args:
        text: The text.
        first: Whether three quotes stand right before it.
    """

    def written(found: re.Match[str]) -> str:
        given = found.group()
        if len(given) == 1 and given != "{" and given.isprintable():
            return given
        codes = "".join(f"\\U{ord(char):08x}" for char in given)
        return '{{"{"}}' if given == "{" else f'{{{{"{codes}"}}}}'

    plain = _OTHER.sub(written, text)
    if first and plain.startswith('"'):
        plain = '{{"\\x22"}}' + plain[1:]
    return plain


def _refuse_stop(stop: str) -> None:
    for found in re.finditer(r'""+|^"|"$|.', stop):
        given = found.group()
        if '"' in given and (len(given) > 1 or found.start() in (0, len(stop) - 1)):
            raise UserError(f"a Modelfile cannot carry {character(given)} in a stop string")
        if not given.isprintable() and given != "\t":
            raise UserError(f"a Modelfile cannot carry {character(given)} in a stop string")


EXPORTER = OllamaExporter()
