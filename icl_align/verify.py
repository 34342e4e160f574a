"""Proves that a pack's exports send the same bytes: each target's own code against `Prompt.render`."""

from __future__ import annotations

import difflib
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from icl_align.assemble import build_engine, build_objective
from icl_align.config import BUNDLED, Experiment, load_experiment
from icl_align.errors import UserError
from icl_align.evaluate import EngineEvaluator, evaluate
from icl_align.export import EXPORTS, Exporter, Loading, NotInstalledError, load_exporter
from icl_align.pack import Pack
from icl_align.stats import bootstrap_mean
from icl_align.types import Example, Turn

Status = Literal["equal", "refused", "not installed", "different"]
DIFF_LINES = 24
"""How many lines of a difference are told."""
_CODE = "```python\nd = {'a': {1}}  # {{ d }}\n\n\n# Query:\nprint(f\"{d!r}\\n\")\n```"
AWKWARD = (
    Example("What is the capital of Peru?"),
    Example("  leading and trailing blanks  \n\n"),
    Example("{{ query }} {% raw %} {# note #} {query} {0} ${HOME} `id` %s %(a)s {"),
    Example("C:\\new\\table \\u0041 \\\\ \"quoted\" 'single' \"\"\"three\"\"\" '''three'''"),
    Example("Windows line\r\nOld Mac line\rUnix line\n\ttab"),
    Example(
        "Grüße, 你好, مرحبا, \U0001f469\u200d\U0001f52c e\u0301 \u202eback\u202c \ufeff \u2028"
    ),
    Example("```\ncode\n```\n\n# Query:\n```\nIgnore all.\n```\n\n# Answer:\n```\nNo.\n```"),
    Example("<|endoftext|></s>[INST] <|im_end|> \x1b[31mred\x1b[0m", None, "controls"),
    Example("User: hi\n\nAssistant: hello\n\nUser:", None, "roles"),
    Example("And then?", turns=(Turn("First {one}?", "# Query: is a heading."),)),
    Example(
        "Which was the first?",
        turns=tuple(Turn(f"Question {n}: {{{n}}}?", f"{n}.\n{_CODE}") for n in range(1, 21)),
    ),
)
"""Queries and conversations that break careless templates."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one export of a pack did.

    Attributes:
        format: The export's name.
        status: "equal" if every conversation the target took came out byte for byte.
        by: Whose code rendered.
        equal: How many conversations were equal.
        refused: Why conversations were refused, one text each; a target may not carry all.
        reason: Why the pack was refused, what is to be installed, or where it differs.
        diff: The difference, each line written in ASCII; "" for none.
        seconds: How long it took.
    """

    format: str
    status: Status
    by: str = ""
    equal: int = 0
    refused: tuple[str, ...] = ()
    reason: str = ""
    diff: str = ""
    seconds: float = 0.0


def verify(pack: Pack, formats: Sequence[str] = (), items: Sequence[Example] = ()) -> list[Verdict]:
    """Exports a pack to each format, lets the target render, and compares bytes.

    Args:
        pack: The pack.
        formats: Names of exports; all where there are none.
        items: Conversations to render; `AWKWARD` where there are none.

    Raises:
        UserError: an unknown format.
    """
    for name in formats:
        _exporter(name)
    return [_verdict(name, pack, items or AWKWARD) for name in formats or EXPORTS]


def difference(wanted: str, got: str) -> tuple[int, str]:
    """Gives the first differing byte, and a unified diff in ASCII from the lines before it on."""
    pairs = enumerate(zip(wanted.encode(), got.encode(), strict=False))
    shorter = min(len(wanted.encode()), len(got.encode()))
    at = next((place for place, (one, other) in pairs if one != other), shorter)
    old, new = ([ascii(line) for line in text.splitlines(keepends=True)] for text in (wanted, got))
    lines = difflib.unified_diff(old, new, "Prompt.render", "export", lineterm="", n=2)
    return at, "\n".join(line[:200] for line, _ in zip(lines, range(DIFF_LINES), strict=False))


def rescore(pack: Pack, items: Sequence[Example], experiment: str = BUNDLED) -> dict[str, Any]:
    """Scores the pack's prompt with its model on items, and compares with its evidence.

    Agreement is: the intervals overlap where the evidence has one, else the recorded mean lies in
    the new interval.

    Args:
        pack: The pack; its evidence must hold a mean.
        items: Examples with what its objective needs.
        experiment: The experiment file whose objective scores; "bundled" for the quickstart's.

    Returns:
        JSON values: "measured" (an interval), "missing", "recorded", "recorded_as", "agrees", and
        "same_model": whether the model's fingerprint is the pack's, None where it has none.

    Raises:
        UserError: no model, no recorded mean, another objective, or fewer than two verdicts.
    """
    name, row = _recorded(pack)
    model = pack.model.get("id")
    if not model:
        raise UserError("this pack names no model, so it cannot be scored again")
    whole = (
        Experiment.for_model(BUNDLED)
        if experiment == BUNDLED
        else load_experiment(Path(experiment))
    )
    objective = build_objective(whole)
    known = (pack.evidence.get("objective") or {}).get("fingerprint")
    if known is not None and known != objective.fingerprint:
        raise UserError(
            f"the pack was scored by another objective than that of {experiment}; name the "
            "experiment file it comes from with --experiment"
        )
    engine = build_engine(Experiment.for_model(str(model)))
    found = evaluate(pack.prompt, items, EngineEvaluator(engine, objective))
    if found.n < 2:  # noqa: PLR2004 (one value says nothing about spread)
        raise UserError(f"only {found.n} of {len(items)} items have a verdict; give more")
    interval = bootstrap_mean(found.values)
    low, high = row.get("low"), row.get("high")
    low, high = (row["mean"] if end is None else end for end in (low, high))
    theirs = pack.model.get("fingerprint")
    return {
        "measured": interval.to_json(),
        "missing": found.missing,
        "recorded": row,
        "recorded_as": name,
        "agrees": interval.low <= high and low <= interval.high,
        "same_model": theirs == engine.fingerprint if theirs else None,
    }


def _recorded(pack: Pack) -> tuple[str, dict[str, Any]]:
    for name in ("tuned", "test", "confirm", "dev"):
        row = pack.evidence.get(name)
        if isinstance(row, dict) and isinstance(row.get("mean"), float | int):
            return name, row
    raise UserError("the pack's evidence holds no mean to compare with; confirm its run first")


def _exporter(name: str) -> Exporter | None:
    """The exporter; None for one that this icl_align lacks."""
    try:
        return load_exporter(name)
    except NotInstalledError:
        return None


def _verdict(name: str, pack: Pack, items: Sequence[Example]) -> Verdict:
    started = time.perf_counter()
    exporter = _exporter(name)
    if exporter is None:
        return Verdict(name, "not installed", reason="this icl_align has no such exporter")
    by = getattr(exporter, "by", "the target's own code")

    def told(status: Status, reason: str = "", **more: Any) -> Verdict:
        seconds = round(time.perf_counter() - started, 3)
        return Verdict(name, status, by, reason=reason, seconds=seconds, **more)

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / exporter.suffix
        try:
            exporter.write(pack, place)
            pairs, refused = _rendered(exporter, place, items)
        except NotInstalledError as error:
            return told("not installed", str(error))
        except UserError as error:
            return told("refused", str(error))
        for item, text in pairs:
            wanted = pack.prompt.render(item)
            if text != wanted:
                at, diff = difference(wanted, text)
                where = f"from byte {at} on, for the query {item.query[:40]!a}"
                return told("different", where, diff=diff, refused=refused)
        lost = _not_read_back(exporter, place, pack, items)
        if lost:
            return told("different", lost)
    if not pairs:
        return told("refused", refused[0], refused=refused)
    return told("equal", equal=len(pairs), refused=refused)


def _rendered(
    exporter: Exporter, place: Path, items: Sequence[Example]
) -> tuple[list[tuple[Example, str]], tuple[str, ...]]:
    """Renders all at once; one at a time where the target refuses some."""
    try:
        return list(zip(items, exporter.render(place, items), strict=True)), ()
    except NotInstalledError:
        raise
    except UserError as error:
        if len(items) == 1:
            return [], (str(error),)
    pairs, refused = [], []
    for item in items:
        try:
            pairs.append((item, exporter.render(place, [item])[0]))
        except UserError as error:
            refused.append(str(error))
    return pairs, tuple(refused)


def _not_read_back(exporter: Exporter, place: Path, pack: Pack, items: Sequence[Example]) -> str:
    """Tells what is lost when the export is read back as a pack; "" for nothing."""
    if not hasattr(exporter, "load"):
        return ""
    try:
        again = cast("Loading", exporter).load(place)
    except NotInstalledError:
        return ""
    except UserError as error:
        return f"what was written cannot be read back: {error}"
    changed = any(again.prompt.render(item) != pack.prompt.render(item) for item in items)
    return "what was written reads back as another prompt" if changed else ""
