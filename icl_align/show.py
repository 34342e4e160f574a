"""What the command line shows people: progress on stderr, tables as plain text."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

if TYPE_CHECKING:
    from icl_align.doctor import Finding
    from icl_align.prompt import Prompt
    from icl_align.prove import Proof
    from icl_align.search.study import TrialRecord

_PLAIN_EVERY_S = 15.0
_SYSTEM_SHOWN = 60


@contextmanager
def progress(trials: int, *, quiet: bool = False) -> Iterator[Callable[[TrialRecord], None]]:
    """Shows trials as they end: a bar with ETA on a terminal, else a plain line now and then.

    Args:
        trials: Trials in all.
        quiet: Show the bar on a terminal only, and no plain lines (for `--json`).
    """
    best = -1.0
    started = last = time.monotonic()
    measured = 0
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("best {task.fields[best]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )

    def on_trial(record: TrialRecord) -> None:
        nonlocal best, last, measured
        measured += 1
        best = max(best, record.mean if record.mean is not None else best)
        shown = f"{best:.3f}" if best >= 0 else "-"
        bar.update(task, completed=record.number + 1, best=shown)
        now = time.monotonic()
        if (
            not quiet
            and bar.disable
            and (now - last > _PLAIN_EVERY_S or record.number + 1 == trials)
        ):
            left = (now - started) / measured * (trials - record.number - 1)
            console.print(f"trial {record.number + 1}/{trials}  best {shown}  {left:.0f} s left")
            last = now

    with bar:
        task = bar.add_task("sweep", total=trials, best="-")
        yield on_trial


def proof_table(proof: Proof) -> str:
    """The proof as a table: each baseline, the tuned prompt, and the differences with intervals."""
    found = proof.to_json()
    others = [found["baseline"], *found["others"]]
    level = f"{found['difference']['level']:.0%}"
    table = _table("prompt", "mean", "n", f"tuned minus it [{level} interval]")
    for row, difference in zip(
        others, [found["difference"], *(o["difference"] for o in found["others"])], strict=True
    ):
        table.add_row(row["name"], _number(row["mean"]), str(row["n"]), _interval(difference))
    tuned = found["tuned"]
    table.add_row(f"tuned (trial {tuned['trial']})", _number(tuned["mean"]), str(tuned["n"]), "")
    prompt = proof.pack.prompt
    lines = [
        f"On {tuned['n']} untouched instructions ({found['proof']} split):",
        "",
        _text(table),
        f"tuned prompt: {_shape(prompt)}",
        f"system text:  {prompt.system or '(none)'}",
        f"pack:         {found['pack']}",
        f"generations:  {found['generations']['paid']} paid, {found['generations']['cached']} from the ledger",
        *_tokens(found["tokens"]),
        f"seconds:      {found['seconds']:.0f}",
    ]
    missing = sum(row["missing"] for row in (tuned, *others))
    if missing:
        lines.append(f"no verdict:   {missing} answers were not scored; they count in no mean")
    return "\n".join(lines)


def sweep_table(found: Mapping[str, Any]) -> str:
    """What a sweep has found, in a few lines."""
    best = found["best"]
    lines = [
        f"run:          {found['run']}",
        f"trials:       {found['trials']} of {found['wanted']}",
        f"best so far:  {_number(best['mean'])} on dev (trial {best['trial']}); optimistic, it was picked by it"
        if best
        else "best so far:  none, no trial is complete",
        f"generations:  {found['generations']['paid']} paid, {found['generations']['cached']} from the ledger",
        *_tokens(found["tokens"]),
        f"next:         icl-align {'confirm' if best else 'run'} {found['run']}",
    ]
    return "\n".join(lines)


def finding_line(found: Finding) -> str:
    """One finding of `icl-align doctor`."""
    line = f"{found.verdict:5}  {found.check:14} {found.found}"
    return f"{line}\n       {'':14} -> {found.remedy}" if found.remedy else line


def _tokens(tokens: Mapping[str, Any]) -> list[str]:
    """What sharing has spared, and how fast tokens came; nothing where nothing was generated."""
    if not tokens["prompt"]:
        return []
    line = f"prefill:      saved {tokens['saved']:.0%} of {tokens['prompt']:,} prompt tokens"
    if tokens["seconds"]:
        line += f"; {tokens['generated'] / tokens['seconds']:,.0f} generated tokens/s"
    return [line]


def ranking_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The best prompts of a run."""
    table = _table(
        "trial", "dev mean", "se", "n", "K", "format", "temp.", "exemplars", "system text"
    )
    for row in rows:
        table.add_row(
            str(row["trial"]),
            _number(row["mean"]),
            _number(row["standard_error"]),
            str(row["n"]),
            str(row["k"]),
            row["format"],
            f"{row['temperature']:g}",
            " ".join(row["exemplars"]),
            row["system"][:_SYSTEM_SHOWN] + "..." * (len(row["system"]) > _SYSTEM_SHOWN),
        )
    return _text(table).rstrip("\n")


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="")
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def _text(table: Table) -> str:
    console = Console(file=io.StringIO(), width=200, markup=False, emoji=False, highlight=False)
    console.print(table)
    file = console.file
    assert isinstance(file, io.StringIO)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _shape(prompt: Prompt) -> str:
    form, temperature = prompt.format.name, prompt.decoding.temperature
    return f"K={len(prompt.exemplars)}, format {form}, temperature {temperature:g}"


def _interval(difference: Mapping[str, Any]) -> str:
    return f"{difference['mean']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}]"
