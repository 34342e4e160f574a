"""The winner's system text in other words: restated by rule, given in a file, or asked of a writer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from icl_align.explain.writer import written

if TYPE_CHECKING:
    from icl_align.scorers.judge_model import JudgeModel

RULE, FILE = "rule", "file"
_SENTENCE = re.compile(r"(?<=[.!?])[ \t]+")


def _lines(text: str) -> str:
    """Puts a text of several lines on one, and gives each sentence of one line a line."""
    return " ".join(text.split()) if "\n" in text else _SENTENCE.sub("\n", text)


RESTATED: dict[str, Callable[[str], str]] = {
    "with 'Instructions:' before it": lambda text: f"Instructions: {text}",
    "with other line breaks": _lines,
    "in lower case": str.lower,
    "without its last mark": lambda text: text.rstrip(" .?!\n") or text,
}
"""Ways to write the same system text; they change nothing that it asks for."""


@dataclass(frozen=True, slots=True)
class Paraphrase:
    """A system text that says the same.

    Attributes:
        text: It.
        name: Which: the rule, the place in the file, or the manner that was asked for.
        by: "rule", "file", or the name of the model that wrote it.
    """

    text: str
    name: str
    by: str


@dataclass(frozen=True, slots=True)
class OtherWords:
    """What a person adds to the restatements by rule.

    Attributes:
        texts: System texts by the names that they are told by.
        writer: A model that is asked for more; None for none.
        queries: Instructions in other words, by their ids.
        origin: What the instructions' words are told by.
        options: The options of the verb that brought all this, without folders.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    writer: JudgeModel | None = None
    queries: Mapping[str, str] = field(default_factory=dict)
    origin: str = "in given words"
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Collected:
    """Paraphrases that differ.

    Attributes:
        given: What a person has added.
        kept: Those from the file first, then the writer's, then those by rule.
        same: How many were left out, being the text itself or one another.
        unread: How many the writer was asked for in vain.
    """

    given: OtherWords
    kept: tuple[Paraphrase, ...] = ()
    same: int = 0
    unread: int = 0


def collected(system: str, given: OtherWords, notes: MutableMapping[str, str]) -> Collected:
    """Collects what there is; an empty system text has no other words, and nobody is asked.

    Args:
        system: The winner's.
        given: What a person adds.
        notes: Where the writer's replies are remembered.

    Raises:
        UserError: the writer cannot be reached.
    """
    if not system.strip():
        return Collected(given)
    found = [Paraphrase(text, name, FILE) for name, text in given.texts.items()]
    unread = 0
    if given.writer is not None:
        by = str(given.writer.lm.model)
        replies = written(given.writer, system, notes)
        unread = sum(text is None for text in replies.values())
        found += [Paraphrase(text, how, by) for how, text in replies.items() if text is not None]
    found += [Paraphrase(restate(system), name, RULE) for name, restate in RESTATED.items()]
    kept: dict[str, Paraphrase] = {}
    for one in found:
        if one.text != system:
            kept.setdefault(one.text, one)
    return Collected(given, tuple(kept.values()), len(found) - len(kept), unread)
