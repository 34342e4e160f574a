"""Export `lm-eval`: a task for the LM Evaluation Harness whose `doc_to_text` is the exact text.

The exemplars stand in `doc_to_text`, with `num_fewshot: 0`: the harness would join few-shot samples
by rules of its own. Jinja's signs are written as string literals, so nothing of a pack is a template.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl_align.export import needed
from icl_align.export.files import jinja_literal, parts, write_files
from icl_align.export.programs import rendered_by
from icl_align.pack import Pack
from icl_align.types import Example

_SAMPLE = {"query": "What is the capital of Peru?", "turns": [], "answer": "Lima"}
_DRIVER = """
import json, logging, os, shutil, sys, tempfile
os.environ.update(HF_DATASETS_OFFLINE="1", HF_HUB_OFFLINE="1", TQDM_DISABLE="1")
logging.disable(logging.CRITICAL)
rows = json.load(sys.stdin)
name = json.loads(sys.argv[2])
with tempfile.TemporaryDirectory() as folder:
    os.environ["HF_DATASETS_CACHE"] = os.path.join(folder, "cache")
    shutil.copy(sys.argv[1], folder)
    os.chdir(folder)
    with open("items.jsonl", "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps({**row, "answer": ""}) + "\\n")
    from lm_eval.tasks import TaskManager, get_task_dict
    task = get_task_dict([name], TaskManager(include_path=folder, include_defaults=False))[name]
    task.build_all_requests(rank=0, world_size=1)
    texts = [instance.args[0] for instance in task.instances]
print("\\n\\x1e" + json.dumps(texts))
"""
"""Lets the harness build its requests, and prints their contexts."""


@dataclass(frozen=True, slots=True)
class LmEvalExporter:
    """A folder with the task's YAML and one line of data as an example."""

    name: str = "lm-eval"
    suffix: str = "lm_eval_task"
    by: str = "lm-eval, the requests it builds"

    def write(self, pack: Pack, to: Path) -> list[Path]:
        """Writes `task.yaml` and `items.jsonl` into a folder.

        Raises:
            UserError: it cannot be written.
        """
        task = _task(pack)
        lines = [f"{key}: {yaml_value(value)}\n" for key, value in task.items()]
        doc = "# lm_eval run --include_path . --tasks NAME --model hf; data are rows as in items.jsonl\n"
        return write_files(
            {
                to / "task.yaml": doc.replace("NAME", task["task"]) + "".join(lines),
                to / "items.jsonl": json.dumps(_SAMPLE) + "\n",
            }
        )

    def render(self, path: Path, conversations: Sequence[Example]) -> list[str]:
        """Lets the harness build the requests.

        Raises:
            NotInstalledError: lm-eval is not there.
            UserError: it fails.
        """
        needed("lm_eval", "exports")
        file = path / "task.yaml"
        found = re.search(r'^task: ("\w+")$', file.read_bytes().decode("utf-8"), re.MULTILINE)
        assert found, "the writer gives every task a name"
        command = [sys.executable, "-I", "-c", _DRIVER, str(file.resolve()), found.group(1)]
        return rendered_by(command, conversations, path)


def yaml_value(value: Any) -> str:
    """Writes JSON values as one line of YAML.

    JSON's own escapes of characters beyond the first plane are no YAML, and raw line separators
    would be folded, so everything but plain ASCII is written as YAML's escapes.
    """
    if isinstance(value, dict):
        inner = ", ".join(f"{yaml_value(str(k))}: {yaml_value(v)}" for k, v in value.items())
        return f"{{{inner}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(yaml_value, value))}]"
    if not isinstance(value, str):
        return json.dumps(value, allow_nan=False)
    written = (
        char if 32 <= ord(char) < 127 and char not in '"\\' else _escaped(char)  # noqa: PLR2004 (printable ASCII)
        for char in value
    )
    return f'"{"".join(written)}"'


def _escaped(char: str) -> str:
    short = {'"': '\\"', "\\": "\\\\", "\n": "\\n"}
    return short.get(char, f"\\U{ord(char):08X}")


def _task(pack: Pack) -> dict[str, Any]:
    found, decoding = parts(pack.prompt), pack.prompt.decoding
    ask, reply, close = (jinja_literal(text) for text in (found.ask, found.reply, found.close))
    turn = f"{ask}{{{{turn.query}}}}{reply}{{{{turn.answer}}}}{close}"
    return {
        "task": f"icl_align_{pack.prompt.digest[:12]}",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "items.jsonl"}},
        "test_split": "test",
        "output_type": "generate_until",
        "num_fewshot": 0,
        "doc_to_text": f"{jinja_literal(found.head)}{{% for turn in turns %}}{turn}{{% endfor %}}"
        f"{ask}{{{{query}}}}{reply}",
        "doc_to_target": "{{answer}}",
        "target_delimiter": "",
        "generation_kwargs": {
            "until": list(pack.prompt.stop),
            "max_gen_toks": decoding.max_tokens,
            "do_sample": decoding.temperature > 0,
            **({"temperature": decoding.temperature} if decoding.temperature > 0 else {}),
            **({"top_p": decoding.top_p} if decoding.top_p < 1 else {}),
            **(
                {"repetition_penalty": decoding.repetition_penalty}
                if decoding.repetition_penalty != 1
                else {}
            ),
        },
        "metric_list": [{"metric": "exact_match"}],
        "metadata": {"version": 1.0},
    }


EXPORTER = LmEvalExporter()
