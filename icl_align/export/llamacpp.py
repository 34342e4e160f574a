"""Export `llamacpp`: the prompt in files and a shell script with the command line.

`-f FILE` would drop the last newline, and escapes such as a backslash and an n in the prompt would
be read by llama.cpp; so the script joins the files and gives them by `--binary-file --no-escape`.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from icl_align.errors import UserError
from icl_align.export import NotInstalledError
from icl_align.export.files import character, model_id, parts, place_of, write_files
from icl_align.pack import Pack
from icl_align.types import Example

_SCRIPT = """#!/bin/sh
# A prompt pack for llama.cpp, exported by icl_align.
#   MODEL=model.gguf sh run.sh 'a query'
#   MODEL=model.gguf sh run.sh 'first query' 'its answer' 'second query'
#   sh run.sh --print 'a query'     only prints the text that is sent
# LLAMA is the program, llama-completion where it is not set (llama-cli in older versions).
# The pack was made for the model: MODEL_ID
set -eu
here=$(dirname -- "$0")

prompt() {
    cat -- "$here/head.txt"
    while [ "$#" -gt 1 ]; do
        cat -- "$here/ask.txt"
        printf '%s' "$1"
        cat -- "$here/reply.txt"
        printf '%s' "$2"
        cat -- "$here/close.txt"
        shift 2
    done
    cat -- "$here/ask.txt"
    printf '%s' "$1"
    cat -- "$here/reply.txt"
}

if [ "${1:-}" = "--print" ]; then
    shift
    prompt "$@"
    exit
fi
file=$(mktemp)
trap 'rm -f -- "$file"' EXIT
prompt "$@" > "$file"
"${LLAMA:-llama-completion}" -m "$MODEL" --binary-file "$file" --no-escape -no-cnv \\
    --no-display-prompt OPTIONS
"""


@dataclass(frozen=True, slots=True)
class LlamaCppExporter:
    """A folder with the parts of the prompt as files and `run.sh`."""

    name: str = "llamacpp"
    suffix: str = "llamacpp"
    by: str = "the shell, as run.sh joins the files; llama.cpp was not run"

    def write(self, pack: Pack, to: Path) -> list[Path]:
        """Writes the folder.

        Raises:
            UserError: a stop string holds NUL, or a file cannot be written.
        """
        found = parts(pack.prompt)
        if any("\0" in stop for stop in pack.prompt.stop):
            raise UserError(
                f"a command line cannot carry {character(chr(0))} in a stop string, from "
                f"{place_of(pack.prompt, chr(0))}"
            )
        script = _SCRIPT.replace("MODEL_ID", model_id(pack) or "not known")
        texts = {name: getattr(found, name) for name in ("head", "ask", "reply", "close")}
        files = {to / f"{name}.txt": text for name, text in texts.items()}
        return write_files({**files, to / "run.sh": script.replace("OPTIONS", _options(pack))})

    def render(self, path: Path, conversations: Sequence[Example]) -> list[str]:
        """Runs `run.sh --print`.

        Raises:
            NotInstalledError: there is no shell.
            UserError: a conversation holds NUL, which no command line carries, or the shell fails.
        """
        found = []
        for item in conversations:
            said = [text for turn in item.turns for text in (turn.query, turn.answer)]
            words = [*said, item.query]
            if any("\0" in word for word in words):
                raise UserError(f"a command line cannot carry {character(chr(0))} in a query")
            found.append(_printed(path / "run.sh", words))
        return found


def _printed(script: Path, words: Sequence[str]) -> str:
    command = [b"sh", bytes(script), b"--print", *(word.encode("utf-8") for word in words)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 (our script)
    except FileNotFoundError as error:
        raise NotInstalledError("there is no shell (sh) here") from error
    except OSError as error:
        raise UserError(f"the shell takes no command line so long: {error.strerror}") from error
    if done.returncode:
        raise UserError(f"run.sh failed: {ascii(done.stderr.decode('utf-8', 'replace'))[:200]}")
    return done.stdout.decode("utf-8")


def _options(pack: Pack) -> str:
    decoding = pack.prompt.decoding
    options = [
        *("-n", str(decoding.max_tokens), "--temp", str(decoding.temperature)),
        *("--top-p", str(decoding.top_p), "--top-k", "0", "--min-p", "0"),
        *("--repeat-penalty", str(decoding.repetition_penalty), "--repeat-last-n", "-1"),
    ]
    if decoding.seed is not None:
        options += ["--seed", str(decoding.seed)]
    for stop in pack.prompt.stop:
        options += ["-r", stop]
    return " ".join(shlex.quote(option) for option in options)


EXPORTER = LlamaCppExporter()
