"""What a judge has once said about an instruction, and is not asked again: drafts, choices."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import TypeVar

from icl_align.scorers.ask import Reply, Task, ask
from icl_align.scorers.judge_model import JudgeModel

T = TypeVar("T")
Notes = MutableMapping[str, str]
"""Raw replies by key."""


def noted(
    notes: Notes,
    model: JudgeModel,
    task: Task,
    questions: Sequence[Mapping[str, str]],
    read: Callable[[str], T],
) -> list[Reply[T]]:
    """Asks only what the notes do not hold, and notes the replies that could be read.

    Args:
        notes: Raw replies by key.
        model: Who is asked.
        task: What.
        questions: Texts of the input fields.
        read: Reads a raw reply; ValueError for one that it cannot read.

    Returns:
        One reply per question, in order; one from the notes has cost nothing.
    """
    keys = [_key(model, task, question) for question in questions]
    found: dict[int, Reply[T]] = {}
    for place, key in enumerate(keys):
        text = notes.get(key)
        if text is not None:
            found[place] = Reply(read(text), text)
    new = [place for place in range(len(questions)) if place not in found]
    for place, reply in zip(
        new, ask(model, task, [questions[place] for place in new], read), strict=True
    ):
        found[place] = reply
        if reply.reading is not None:
            notes[keys[place]] = reply.text
    return [found[place] for place in range(len(questions))]


def _key(model: JudgeModel, task: Task, question: Mapping[str, str]) -> str:
    parts = (model.identity, model.temperature, model.seed, task.digest, sorted(question.items()))
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()
