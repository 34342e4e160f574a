"""Finds, in a judge's reply, what it says of each aspect: which object counts, and which part of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from icl_align.scorers._reply_json import MOST_CHARACTERS, Torn, scan
from icl_align.scorers._reply_reader import Obj, Value, walk
from icl_align.scorers._reply_values import plainly

SCORE_KEYS = ("score", "rating", "grade")
CHOICE_KEYS = ("choice", "preference", "verdict", "winner", "better", "decision", "answer")
_REASON_KEYS = {
    *("reason", "reasons", "reasoning", "rationale", "explanation", "justification", "analysis"),
    *("feedback", "critique", "thought", "thoughts", "strengths", "weaknesses", "comment"),
}
_NAME_KEYS = {"aspect", "criterion", "dimension"}
_SUFFIX = re.compile(r"(?<=\w) (?:score|rating|preference|choice)\Z")


@dataclass(slots=True)
class Said:
    """What one object says of one aspect: every value given, the reason, or what is wrong."""

    values: list[Value] = field(default_factory=list)
    reason: str = ""
    problem: str = ""


def said_of(
    text: str,
    aspects: Sequence[str],
    value_keys: Sequence[str],
    is_placeholder: Callable[[Value], bool],
    examples: Sequence[str] = (),
) -> tuple[dict[str, Said], str]:
    """Gives what the reply says of the aspects it names, and why it may say nothing of others.

    The last object counts; earlier ones add aspects as long as none is said twice, so that a reply may
    give an object per aspect. An object with nothing but placeholders, or one that equals an example,
    is the template's and does not count.

    Args:
        text: The whole reply.
        aspects: Distinct, also without case.
        value_keys: Under which keys an aspect's object holds its verdict.
        is_placeholder: Tells a template's stand-in from a verdict.
        examples: Objects, as text, that the judge was shown as examples of the form.

    Raises:
        ValueError: no aspects, or two that differ only in case.
    """
    wanted = {_key(aspect): aspect for aspect in aspects}
    if not wanted or len(wanted) < len(aspects):
        raise ValueError(f"a reading needs distinct aspects, got {list(aspects)}")
    if len(text) > MOST_CHARACTERS:
        return {}, f"the reply has {len(text)} characters; more than {MOST_CHARACTERS} are not read"
    known = [_of(item, wanted, value_keys) for example in examples for item in scan(example)]
    items = scan(text)
    taken: dict[str, Said] = {}
    why = ""
    for item in reversed(items):
        if isinstance(item, Torn) and item.cut:
            why = why or ("the reply breaks off" if _names(item, wanted) else "")
            continue
        for found in reversed(_of(item, wanted, value_keys)):
            if any(found == shown for there in known for shown in there):
                why = why or "the reply only repeats an example"
            elif not _torn(found) and all(_only(said, is_placeholder) for said in found.values()):
                why = why or "the reply only repeats the template"
            elif taken.keys() & found.keys():
                return taken, ""
            else:
                taken |= found
    return taken, why or ("" if items else "there is no JSON object in the reply")


def _only(said: Said, is_placeholder: Callable[[Value], bool]) -> bool:
    return bool(said.values) and all(map(is_placeholder, said.values))


def _torn(found: Mapping[str, Said]) -> bool:
    return any(said.problem and not said.values for said in found.values())


def _names(item: Torn, wanted: Mapping[str, str]) -> bool:
    return any(_key(key) in wanted for key in item.keys)


def _of(
    item: Obj | Torn, wanted: Mapping[str, str], value_keys: Sequence[str]
) -> list[dict[str, Said]]:
    """The parts of an object, itself or within it, that say something of an aspect."""
    if isinstance(item, Torn):
        broken = {
            wanted[_key(key)]: Said(problem=_BROKEN) for key in item.keys if _key(key) in wanted
        }
        return [broken] if broken else []
    found = list(_within(item, wanted, value_keys))
    if not found and item.loose and len(wanted) == 1 and _flat(item, value_keys):
        return [{next(iter(wanted.values())): _verdict(item, value_keys)}]
    return found


_BROKEN = "the JSON of the reply is broken there"


def _within(
    item: Obj, wanted: Mapping[str, str], value_keys: Sequence[str]
) -> Iterator[dict[str, Said]]:
    named = [value for key, value in item.pairs if _key(key) in _NAME_KEYS]
    if len(named) == 1 and isinstance(named[0], str):
        if _key(named[0]) in wanted:
            yield {wanted[_key(named[0])]: _verdict(item, value_keys)}
        return
    here: dict[str, Said] = {}
    for key, value in item.pairs:
        if (plain := _key(key)) in wanted:
            said = _verdict(value, value_keys) if isinstance(value, Obj) else Said([value])
            whole = here.setdefault(wanted[plain], Said())
            whole.values += said.values
            whole.reason, whole.problem = said.reason or whole.reason, said.problem or whole.problem
    if here:
        if len(here) == 1 and len(item.pairs) > 1:
            only = next(iter(here.values()))
            only.reason = only.reason or _reason(item)
        yield here
        return
    for _, value in item.pairs:
        for inner in walk(value):
            yield from _within(inner, wanted, value_keys)


def _verdict(item: Obj, value_keys: Sequence[str]) -> Said:
    """What an aspect's own object holds."""
    values = [value for key, value in item.pairs if _key(key) in value_keys]
    problem = "" if values else f"its object holds no {value_keys[0]}"
    return Said(values, _reason(item), problem)


def _reason(item: Obj) -> str:
    texts = [
        value for key, value in item.pairs if _key(key) in _REASON_KEYS and isinstance(value, str)
    ]
    return "\n".join(texts)


def _flat(item: Obj, value_keys: Sequence[str]) -> bool:
    """Whether an object is a verdict without the aspect's name."""
    keys = {_key(key) for key, _ in item.pairs}
    return bool(keys & set(value_keys)) and keys <= _REASON_KEYS | set(value_keys)


def _key(key: str) -> str:
    return _SUFFIX.sub("", plainly(key.replace("_", " ").replace("-", " ")))
