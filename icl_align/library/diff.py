"""How two packs differ: in words, exemplars, format, decoding, length and measured scores."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from difflib import SequenceMatcher
from os.path import commonprefix
from typing import Any

from icl_align.data import normalise
from icl_align.pack import Pack
from icl_align.passport.plain import printable
from icl_align.prompt import Prompt, rough_tokens
from icl_align.types import Example

_WORD = re.compile(r"\w+\s*|[^\w\s]\s*|\s+")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_FEW, _MANY = 300, 4000
"""Words up to which every one counts, and up to which words are compared at all."""
_MEASURED = ("dev", "confirm", "test", "tuned", "baseline", "difference")

Part = tuple[str, str]
"""A piece of a compared text: "same", "removed" or "added", and its words."""


def difference(
    a: Pack, b: Pack, count_tokens: Callable[[str], int] | None = None
) -> dict[str, Any]:
    """Says how `b` differs from `a`, as JSON values.

    Args:
        a: The one before.
        b: The one after.
        count_tokens: Counts tokens; four bytes count as one where None.

    Returns:
        "same" (whether both send the same and decode alike), "digests", "system" (parts, see `Part`),
        "exemplars" (one row each, with its "change": same, moved, changed, moved and changed, added
        or removed), "format", "decoding" and "model" (pairs of what differs), "tokens", "scores".
    """
    count = count_tokens or rough_tokens
    lengths = [count(one.prompt.to_text()) for one in (a, b)]
    return {
        "same": a.prompt.digest == b.prompt.digest,
        "digests": [a.prompt.digest, b.prompt.digest],
        "system": [list(part) for part in words(a.prompt.system, b.prompt.system)],
        "exemplars": exemplars(a.prompt, b.prompt),
        "format": _pairs(asdict(a.prompt.format), asdict(b.prompt.format)),
        "layouts": a.prompt.layouts != b.prompt.layouts,
        "decoding": _pairs(asdict(a.prompt.decoding), asdict(b.prompt.decoding)),
        "model": _pairs(a.model, b.model),
        "tokens": {
            "a": lengths[0],
            "b": lengths[1],
            "difference": lengths[1] - lengths[0],
            "counted": "by the model" if count_tokens else "four bytes as one",
        },
        "scores": _scores(a.evidence, b.evidence),
    }


def words(a: str, b: str) -> list[Part]:
    """Compares texts word by word; joined without the added parts they are `a`, and so on for `b`.

    Long texts are compared by lines, and what is longer still only at its ends: comparing can take
    more than the square of the length.
    """
    left, right = (_WORD.findall(text) for text in (a, b))
    if max(len(left), len(right)) > _MANY:
        left, right = (_LINE.findall(text) for text in (a, b))
    start = len(commonprefix([left, right]))
    end = len(commonprefix([left[start:][::-1], right[start:][::-1]]))
    inner = left[start : len(left) - end], right[start : len(right) - end]
    parts = [
        ("same", "".join(left[:start])),
        *_changes(*inner),
        ("same", "".join(left[len(left) - end :])),
    ]
    return [(kind, text) for kind, text in parts if text]


def _changes(left: list[str], right: list[str]) -> Iterator[Part]:
    longer = max(len(left), len(right))
    if longer > _MANY:
        yield "removed", "".join(left)
        yield "added", "".join(right)
        return
    # With junk, words that are everywhere are passed over; it keeps repetitive texts quick.
    matcher = SequenceMatcher(None, left, right, autojunk=longer > _FEW)
    for kind, i, j, m, n in matcher.get_opcodes():
        if kind == "equal":
            yield "same", "".join(left[i:j])
        else:
            yield "removed", "".join(left[i:j])
            yield "added", "".join(right[m:n])


def exemplars(a: Prompt, b: Prompt) -> list[dict[str, Any]]:
    """Says what became of each exemplar: those of `b` in order, then those that are gone.

    One is the same as another by its query, white space, case and marks of speech apart; else by its
    answer. Those that changed places are the fewest that can have.
    """
    pairs = _matched(a.exemplars, b.exemplars)
    kept = [before for before in pairs if before is not None]
    still = _in_order(kept)
    rows = []
    for after, before in enumerate(pairs):
        one = b.exemplars[after]
        row: dict[str, Any] = {"query": one.query, "before": None, "after": after + 1}
        if before is None:
            rows.append({**row, "change": "added"})
            continue
        old = a.exemplars[before]
        row["before"] = before + 1
        changes = ["moved"] * (before not in still)
        if (old.query, old.answer, old.turns) != (one.query, one.answer, one.turns):
            changes.append("changed")
            row["words"] = [list(part) for part in words(_text(old), _text(one))]
        rows.append({**row, "change": " and ".join(changes) or "same"})
    gone = [index for index in range(len(a.exemplars)) if index not in kept]
    return rows + [
        {"query": a.exemplars[i].query, "before": i + 1, "after": None, "change": "removed"}
        for i in gone
    ]


def _text(one: Example) -> str:
    turns = "".join(f"{turn.query}\n{turn.answer}\n" for turn in one.turns)
    return f"{turns}{one.query}\n{one.answer or ''}"


def _matched(a: Sequence[Example], b: Sequence[Example]) -> list[int | None]:
    """For each exemplar of `b` the place of its like in `a`, if it has one; each is taken once."""
    found: list[int | None] = [None] * len(b)
    free = set(range(len(a)))
    sames: tuple[Callable[[Example], object], ...] = (
        lambda one: (one.query, one.answer, one.turns),
        lambda one: normalise(one.query),
        lambda one: one.answer,
    )
    for same in sames:
        places: dict[object, list[int]] = {}
        for index in sorted(free, reverse=True):
            places.setdefault(same(a[index]), []).append(index)
        for after, one in enumerate(b):
            like = places.get(same(one)) if found[after] is None else None
            if like:
                taken = found[after] = like.pop()
                free.discard(taken)
    return found


def _in_order(places: Sequence[int]) -> set[int]:
    """The longest rising subsequence (Schensted 1961): those that need not have moved."""
    ends: list[int] = []  # the least end of a rising run of each length
    before: dict[int, int | None] = {}
    for place in places:
        at = bisect_left(ends, place)
        before[place] = ends[at - 1] if at else None
        ends[at : at + 1] = [place]
    kept: set[int] = set()
    last = ends[-1] if ends else None
    while last is not None:
        kept.add(last)
        last = before[last]
    return kept


def _pairs(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, list[Any]]:
    keys = sorted({*a, *b})
    return {key: [a.get(key), b.get(key)] for key in keys if a.get(key) != b.get(key)}


def _scores(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Measured means with their intervals, where either pack has one."""
    found = {}
    for key in _MEASURED:
        sides = [_measured(evidence.get(key)) for evidence in (a, b)]
        if any(sides):
            found[key] = {"a": sides[0], "b": sides[1]}
    return found


def _measured(value: Any) -> dict[str, Any] | None:
    if not isinstance(value, Mapping) or not isinstance(value.get("mean"), int | float):
        return None
    kept = ("mean", "low", "high", "n")
    return {key: value[key] for key in kept if isinstance(value.get(key), int | float)}


def difference_text(found: Mapping[str, Any]) -> str:
    """Tells a `difference` in lines: [-gone-] and {+new+} words, as wdiff writes them."""
    if found["same"]:
        lines = ["both send the same text and decode alike"]
    else:
        lines = ["system", f"  {_marked(found['system']) or '(none)'}", "exemplars"]
        for row in found["exemplars"]:
            places = f"{row['before'] or '-'} -> {row['after'] or '-'}"
            lines.append(f"  {places:9}{row['change']:18}{printable(row['query'][:70])!r}")
            if "words" in row:
                lines.append(f"      {_marked(row['words'])}")
        for name in ("format", "decoding"):
            lines += [f"{name}.{key}: {a!r} -> {b!r}" for key, (a, b) in found[name].items()]
        if found["layouts"]:
            lines.append("the white space around exemplars differs")
    lines += [f"model.{key}: {a!r} -> {b!r}" for key, (a, b) in found["model"].items()]
    size = found["tokens"]
    lines.append(
        f"tokens {size['a']} -> {size['b']} ({size['difference']:+d}; counted {size['counted']})"
    )
    for key, sides in found["scores"].items():
        lines.append(f"{key}: {_figure(sides['a'])} -> {_figure(sides['b'])}")
    return "\n".join(lines)


def _marked(parts: Sequence[Sequence[str]]) -> str:
    marks = {"same": "{}", "removed": "[-{}-]", "added": "{{+{}+}}"}
    return "".join(marks[kind].format(printable(text)) for kind, text in parts).replace(
        "\n", "\n      "
    )


def _figure(side: Mapping[str, Any] | None) -> str:
    if side is None:
        return "not measured"
    ends = f" [{side['low']:.3f}, {side['high']:.3f}]" if {"low", "high"} <= set(side) else ""
    return f"{side['mean']:.3f}{ends}" + (f" (n = {side['n']})" if "n" in side else "")
