"""Export `promptfoo`: a config whose prompt is the pack, as a Nunjucks template.

A test's variable is one object, `item`, with "query" and "turns": promptfoo cuts line feeds from
plain texts, reads those that look like files, and replaces what looks like a variable in them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl_align.errors import UserError
from icl_align.export.files import as_json, jinja_literal, parts, read_json, write_files
from icl_align.export.programs import RENDER_SECONDS, as_rows
from icl_align.pack import Pack
from icl_align.types import Example

_QUIET = (
    "PROMPTFOO_DISABLE_TELEMETRY",
    "PROMPTFOO_DISABLE_UPDATE",
    "PROMPTFOO_DISABLE_REMOTE_GENERATION",
)


@dataclass(frozen=True, slots=True)
class PromptfooExporter:
    """A promptfoo config for a completions endpoint, with one test as an example."""

    name: str = "promptfoo"
    suffix: str = "promptfooconfig.json"

    @property
    def by(self) -> str:
        """What renders: promptfoo where it is installed, else Jinja, whose syntax is near enough."""
        if shutil.which("promptfoo"):
            return "promptfoo, by its echo provider"
        return "Jinja in the place of promptfoo's Nunjucks; promptfoo was not run"

    def write(self, pack: Pack, to: Path) -> list[Path]:
        """Writes the config.

        Raises:
            UserError: it cannot be written.
        """
        return write_files({to: as_json(_config(pack))})

    def render(self, path: Path, conversations: Sequence[Example]) -> list[str]:
        """Lets promptfoo echo the prompts of these conversations, or renders its template by Jinja.

        Raises:
            UserError: promptfoo fails.
        """
        config = read_json(path)
        rows = as_rows(conversations)
        program = shutil.which("promptfoo")
        if program:
            return _echoed(program, config, rows)
        from jinja2.sandbox import SandboxedEnvironment

        frame = SandboxedEnvironment(keep_trailing_newline=True)  # prompts are no HTML
        template = frame.from_string(config["prompts"][0]["raw"])
        return [template.render(item=row) for row in rows]


def _config(pack: Pack) -> dict[str, Any]:
    found, decoding = parts(pack.prompt), pack.prompt.decoding
    ask, reply, close = (jinja_literal(text) for text in (found.ask, found.reply, found.close))
    turn = f"{ask}{{{{ turn.query }}}}{reply}{{{{ turn.answer }}}}{close}"
    raw = (
        f"{jinja_literal(found.head)}{{% for turn in item.turns %}}{turn}{{% endfor %}}"
        f"{ask}{{{{ item.query }}}}{reply}"
    )
    settings: dict[str, Any] = {
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "max_tokens": decoding.max_tokens,
        "stop": list(pack.prompt.stop),
    }
    if decoding.repetition_penalty != 1:
        settings["passthrough"] = {"repetition_penalty": decoding.repetition_penalty}
    if decoding.seed is not None:
        settings["seed"] = decoding.seed
    name = jinja_literal(str(pack.model.get("id") or "MODEL"))
    return {
        "description": "a prompt pack exported by icl_align",
        "prompts": [{"raw": raw, "label": f"icl_align {pack.prompt.digest[:12]}"}],
        "providers": [{"id": f"openai:completion:{name}", "config": settings}],
        "tests": [{"vars": {"item": {"query": "What is the capital of Peru?", "turns": []}}}],
    }


def _echoed(program: str, config: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    """Runs the config's prompt through promptfoo's own provider that answers with the prompt."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tests = [{"vars": {"item": row, "number": number}} for number, row in enumerate(rows)]
        content = {**config, "providers": ["echo"], "tests": tests}
        (folder / "config.json").write_text(json.dumps(content), encoding="ascii")
        command = [
            program,
            "eval",
            "-c",
            "config.json",
            "-o",
            "out.json",
            "--no-cache",
            "--no-table",
        ]
        environment = {**os.environ, "PROMPTFOO_CONFIG_DIR": name, **dict.fromkeys(_QUIET, "1")}
        done = subprocess.run(  # noqa: S603 (promptfoo itself)
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            timeout=RENDER_SECONDS,
            check=False,
        )
        if done.returncode or not (folder / "out.json").exists():
            last = done.stderr.decode("utf-8", "replace").strip().split("\n")[-1]
            raise UserError(f"promptfoo failed: {ascii(last)[:300]}")
        results = read_json(folder / "out.json")["results"]["results"]
    texts = {int(result["vars"]["number"]): result["response"]["output"] for result in results}
    return [texts[number] for number in range(len(rows))]


EXPORTER = PromptfooExporter()
