"""Export `langchain`: a Python file that makes a `FewShotPromptTemplate` of the pack.

LangChain joins prefix, examples and suffix and formats the whole once more, so braces are doubled
in examples and history too. A file of its own, as `load_prompt` for JSON is deprecated.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from icl_align.export import needed
from icl_align.export.files import load_python, parts, python_file, write_files
from icl_align.export.programs import rendered_by
from icl_align.pack import Pack
from icl_align.types import Example

_DOC = """A few-shot prompt for a base language model, exported by icl_align; needs langchain-core.

PROMPT.format(query=...) gives the exact text to send; with_history(turns).format(query=...) that of
a conversation. STOP are the stop strings: llm.bind(stop=STOP).
"""
_CODE = '''
from langchain_core.prompts import FewShotPromptTemplate, PromptTemplate

STOP = {stop!r}
_FORM, _PARTS = PACK["prompt"]["format"], ("query_open", "query_close", "answer_open", "answer_close")


def _plain(text):
    return text.replace("{{", "{{{{").replace("}}", "}}}}")


def _turn(query, answer, around, gap):
    texts = {{name: _plain(around[name]) for name in _PARTS}}
    return {{**texts, "query": _plain(query), "answer": _plain(answer), "gap": _plain(gap)}}


def _examples():
    prompt = PACK["prompt"]
    exemplars, layouts, found = prompt["exemplars"], prompt["layouts"], []
    for number, exemplar in enumerate(exemplars):
        for turn in exemplar.get("turns", ()):
            found.append(_turn(turn["query"], turn["answer"], _FORM, _FORM["gap"]))
        around = layouts[number] if layouts else _FORM
        gap = _FORM["gap"] if number + 1 == len(exemplars) else around["gap"]
        found.append(_turn(exemplar["query"], exemplar["answer"], around, gap))
    return found


def with_history(turns):
    """Give the template with a conversation's earlier turns, pairs of query and answer."""
    system = PACK["prompt"]["system"]
    prefix = _FORM["system_open"] + system + _FORM["system_close"] if system else ""
    return FewShotPromptTemplate(
        examples=_examples() + [_turn(q, a, _FORM, _FORM["gap"]) for q, a in turns],
        example_prompt=PromptTemplate.from_template(
            "{{query_open}}{{query}}{{query_close}}{{answer_open}}{{answer}}{{answer_close}}{{gap}}"
        ),
        prefix=_plain(prefix),
        suffix=_plain(_FORM["query_open"])
        + "{{query}}"
        + _plain(_FORM["query_close"] + _FORM["answer_open"]),
        example_separator="",
        input_variables=["query"],
    )


PROMPT = with_history([])

if __name__ == "__main__":
    import json
    import sys

    found = []
    for row in json.load(sys.stdin):
        template = with_history([(turn["query"], turn["answer"]) for turn in row["turns"]])
        found.append(template.format(query=row["query"]))
    print(json.dumps(found))
'''


@dataclass(frozen=True, slots=True)
class LangChainExporter:
    """A few-shot template; history is appended as further examples, as URIAL does."""

    name: str = "langchain"
    suffix: str = "langchain_prompt.py"
    by: str = "langchain-core"

    def write(self, pack: Pack, to: Path) -> list[Path]:
        """Writes the file.

        Raises:
            UserError: it cannot be written.
        """
        parts(pack.prompt)
        code = _CODE.format(stop=list(pack.prompt.stop))
        return write_files({to: python_file(_DOC, pack, code)})

    def load(self, path: Path) -> Pack:
        """Reads the pack; the file is not run."""
        return load_python(path)

    def render(self, path: Path, conversations: Sequence[Example]) -> list[str]:
        """Runs the file.

        Raises:
            NotInstalledError: langchain-core is not there.
            UserError: it fails.
        """
        needed("langchain_core", "exports")
        command = [sys.executable, "-I", str(path.resolve())]
        return rendered_by(command, conversations, path.parent)


EXPORTER = LangChainExporter()
