"""Export `python`: one file without dependencies; the pack is a literal in it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from icl_align.export.files import load_python, parts, python_file, write_files
from icl_align.export.programs import rendered_by
from icl_align.pack import Pack
from icl_align.types import Example

_DOC = """A prompt for a base language model, exported by icl_align; needs nothing but Python 3.8.

render(query, history) gives the exact text to send; STOP are the stop strings, DECODING says how to
sample. On the command line: python FILE "a query", or rows as JSON on stdin: [{"query": ..., "turns":
[{"query": ..., "answer": ...}]}], for a JSON list of texts.
"""
RENDER = '''
def render(query, history=()):
    """Give the text to send for a query; history is pairs of earlier queries and answers."""
    prompt, form = PACK["prompt"], PACK["prompt"]["format"]

    def turn(asked, answered, around=form):
        return (around["query_open"] + asked + around["query_close"]
                + around["answer_open"] + answered + around["answer_close"])

    text = form["system_open"] + prompt["system"] + form["system_close"] if prompt["system"] else ""
    layouts, last = prompt["layouts"], len(prompt["exemplars"]) - 1
    for number, exemplar in enumerate(prompt["exemplars"]):
        for earlier in exemplar.get("turns", ()):
            text += turn(earlier["query"], earlier["answer"]) + form["gap"]
        around = layouts[number] if layouts else form
        text += turn(exemplar["query"], exemplar["answer"], around)
        text += form["gap"] if number == last else around["gap"]
    for asked, answered in history:
        text += turn(asked, answered) + form["gap"]
    return text + form["query_open"] + query + form["query_close"] + form["answer_open"]
'''
"""The code of `Prompt.render` without icl_align; it reads a global PACK."""
_CODE = '''
STOP = {stop!r}
DECODING = PACK["prompt"]["decoding"]


{render}


def main(arguments):
    """Print the text of the query in the arguments, or of all rows on stdin as a JSON list."""
    import json
    import sys

    if arguments:
        sys.stdout.buffer.write(render(" ".join(arguments)).encode("utf-8"))
        return
    rows = json.load(sys.stdin)
    pairs = [[(turn["query"], turn["answer"]) for turn in row.get("turns", ())] for row in rows]
    print(json.dumps([render(row["query"], past) for row, past in zip(rows, pairs)]))


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
'''


@dataclass(frozen=True, slots=True)
class PythonExporter:
    """A function `render`, for programs that want no dependency."""

    name: str = "python"
    suffix: str = "prompt.py"
    by: str = "Python, the file run by itself"

    def write(self, pack: Pack, to: Path) -> list[Path]:
        """Writes the file.

        Raises:
            UserError: it cannot be written.
        """
        parts(pack.prompt)
        code = _CODE.format(stop=list(pack.prompt.stop), render=RENDER.strip())
        return write_files({to: python_file(_DOC, pack, code)})

    def load(self, path: Path) -> Pack:
        """Reads the pack; the file is not run."""
        return load_python(path)

    def render(self, path: Path, conversations: Sequence[Example]) -> list[str]:
        """Runs the file, isolated from everything installed.

        Raises:
            UserError: it fails.
        """
        command = [sys.executable, "-I", "-S", str(path.resolve())]
        return rendered_by(command, conversations, path.parent)


EXPORTER = PythonExporter()
