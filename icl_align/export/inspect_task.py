"""Export `inspect`: a task file for Inspect, whose solver sends the pack's exact text."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from icl_align.export import needed
from icl_align.export.files import load_python, parts, python_file, write_files
from icl_align.export.programs import rendered_by
from icl_align.export.python import RENDER
from icl_align.pack import Pack
from icl_align.types import Example

_DOC = """A task for Inspect with a prompt for a base language model, exported by icl_align.

inspect eval FILE --model hf/ID -M use_chat_template=false -T dataset=items.jsonl

The data are rows of JSON with "query", and "answer" and "turns" where there are any. A chat template
must not be put around the text: with vllm the same -M, with other servers their completions provider.
Give a scorer with --scorer, or import prompt_pack() as a solver into a task of your own.
"""
_CODE = '''
from inspect_ai import Task, task
from inspect_ai.dataset import Sample, json_dataset
from inspect_ai.model import ChatMessageAssistant, ChatMessageUser, GenerateConfig
from inspect_ai.solver import generate, solver

STOP = {stop!r}
DECODING = PACK["prompt"]["decoding"]


{render}


@solver
def prompt_pack():
    """Put the exact text of the conversation in the place of its messages."""

    async def solve(state, generate):
        said = [message for message in state.messages if message.role in ("user", "assistant")]
        pairs = list(zip(said[::2], said[1::2]))
        text = render(said[-1].content, [(asked.content, told.content) for asked, told in pairs])
        state.messages = [ChatMessageUser(content=text)]
        return state

    return solve


def sample(row):
    """Give a sample of a row with "query", "answer" and "turns"."""
    messages = []
    for turn in row.get("turns") or ():
        messages.append(ChatMessageUser(content=turn["query"]))
        messages.append(ChatMessageAssistant(content=turn["answer"]))
    messages.append(ChatMessageUser(content=row["query"]))
    return Sample(input=messages, target=row.get("answer") or "", id=row.get("id"))


@task
def pack(dataset="items.jsonl"):
    """Answer the rows of a file with the pack's prompt, stop strings and decoding."""
    return Task(
        dataset=json_dataset(dataset, sample),
        solver=[prompt_pack(), generate()],
        config=GenerateConfig(
            max_tokens=DECODING["max_tokens"],
            temperature=DECODING["temperature"],
            top_p=DECODING["top_p"],
            seed=DECODING["seed"],
            stop_seqs=STOP,
        ),
    )
'''
_DRIVER = """
import importlib.util, json, logging, os, sys, tempfile
rows = json.load(sys.stdin)
spec = importlib.util.spec_from_file_location("exported", sys.argv[1])
exported = importlib.util.module_from_spec(spec)
spec.loader.exec_module(exported)
from inspect_ai import eval as run
from inspect_ai.model import ModelOutput, ModelUsage, get_model
reply = ModelOutput.from_content("mockllm/model", "ok")
reply.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
mock = get_model("mockllm/model", custom_outputs=[reply.model_copy(deep=True) for row in rows])
with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    with open("items.jsonl", "w", encoding="utf-8") as file:
        for number, row in enumerate(rows):
            file.write(json.dumps({**row, "id": number}) + "\\n")
    done = run(exported.pack("items.jsonl"), model=mock, display="none",
               log_dir=folder, log_level="critical", score=False)[0]
    assert done.status == "success", done.error
    texts = {}
    for item in done.samples:
        sent = [event.input for event in item.events if event.event == "model"]
        assert len(sent) == 1 and len(sent[0]) == 1, sent
        text = sent[0][0].content
        for name, value in item.attachments.items():
            text = text.replace("attachment://" + name, value)
        texts[item.id] = text
print("\\n\\x1e" + json.dumps([texts[number] for number in range(len(rows))]))
"""
"""Runs the task on Inspect's mock model and reads from the log what that model was sent."""


@dataclass(frozen=True, slots=True)
class InspectExporter:
    """A task and a solver that send the pack's text as one message, which a base model reads raw."""

    name: str = "inspect"
    suffix: str = "inspect_pack.py"
    by: str = "inspect-ai, what its model was sent"

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
        """Runs the task on Inspect's mock model.

        Raises:
            NotInstalledError: inspect-ai is not there.
            UserError: it fails.
        """
        needed("inspect_ai", "exports")
        command = [sys.executable, "-I", "-c", _DRIVER, str(path.resolve())]
        return rendered_by(command, conversations, path.parent)


EXPORTER = InspectExporter()
