"""What the command line shows people: tables as plain text."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from icl_align.signs import interval

if TYPE_CHECKING:
    from icl_align.doctor import Finding
    from icl_align.prompt import Prompt
    from icl_align.prove import Proof

_SYSTEM_SHOWN = 60


def proof_table(proof: Proof) -> str:
    """The proof as a table: each baseline, the tuned prompt, and the differences with intervals."""
    found = proof.to_json()
    others = [found["baseline"], *found["others"]]
    level = f"{found['difference']['level']:.0%}"
    table = new_table("prompt", "mean", "n", f"tuned minus it [{level} interval]")
    for row, difference in zip(
        others, [found["difference"], *(o["difference"] for o in found["others"])], strict=True
    ):
        table.add_row(row["name"], number(row["mean"]), str(row["n"]), interval(difference))
    tuned = found["tuned"]
    table.add_row(f"tuned (trial {tuned['trial']})", number(tuned["mean"]), str(tuned["n"]), "")
    prompt = proof.pack.prompt
    lines = [
        f"On {tuned['n']} untouched instructions ({found['proof']} split):",
        "",
        printed(table),
        f"tuned prompt: {_shape(prompt)}",
        f"system text:  {prompt.system or '(none)'}",
        f"pack:         {found['pack']}",
        f"generations:  {found['generations']['paid']:,} paid by the run in all",
        f"this time:    {found['now']['paid']:,} paid, {found['now']['cached']:,} from the ledger",
        *_tokens(found["tokens"], "search and proof: "),
        f"seconds:      {found['seconds']:.0f} of generating and scoring, in all",
    ]
    missing = sum(row["missing"] for row in (tuned, *others))
    if missing:
        lines.append(f"no verdict:   {missing} answers were not scored; they count in no mean")
    return "\n".join(lines)


def sweep_table(found: Mapping[str, Any]) -> str:
    """What a sweep has found, in a few lines."""
    best, spent = found["best"], found["spent"]
    limits = [
        f"{spent[name]:,.6g} of {limit:,} {name}"
        for name, limit in found["budget"].items()
        if name in spent
    ]
    lines = [
        f"run:          {found['run']}",
        f"spent:        {', '.join(limits)}; {spent['trials']} trials",
        f"best so far:  {_believed(best)} on dev (trial {best['trial']}, {best['n']} examples)"
        if best
        else "best so far:  none, no prompt has a verdict",
        f"generations:  {found['generations']['paid']} paid, {found['generations']['cached']} from the ledger",
        *_tokens(found["tokens"]),
    ]
    if found["trials_since_proof"]:
        lines.append(f"proof:        made before {found['trials_since_proof']} of the trials")
    confirm = f"icl-align confirm {found['run']}"
    if found["interrupted"]:
        lines.append(f"next:         the same command again goes on; or {confirm}")
    elif best:
        lines.append(f"next:         {confirm}")
    else:
        lines.append("next:         look at the answers: no scorer gave any a verdict")
    return "\n".join(lines)


def contest_table(found: Mapping[str, Any]) -> str:
    """A contest as a table: each sampler and baseline on untouched instructions, against the first."""
    rows, first = found["samplers"], found["samplers"][0]["sampler"]
    held = " and ".join(f"{n} {name}" for name, n in found["held_out"].items())
    table = new_table(
        "sampler",
        "held-out",
        f"minus {first} [{found['level']:.0%} interval]",
        "won-tied-lost",
        "on dev",
        "generations",
        "s/proposal",
        "seeds",
    )
    for row in rows:
        wins, pause = row["wins"], row["seconds"]["per_proposal"]
        table.add_row(
            row["sampler"],
            number(row["mean"]),
            interval(row["difference"]) if row["difference"] else "",
            f"{wins['won']}-{wins['tied']}-{wins['lost']}" if wins else "",
            number(row["reported"]),
            "-" if row["generations"] is None else f"{row['generations']:.0f}",
            number(pause),
            str(len(row["by_seed"])),
        )
    for row in found["baselines"]:
        difference = interval(row["difference"]) if row["difference"] else ""
        table.add_row(row["name"], number(row["mean"]), difference)
    done = found["entrants"]
    lines = [f"On {held} instructions, untouched by all searches:", "", printed(table)]
    missing = sum(one["missing"] for row in rows for one in row["by_seed"])
    if missing:
        lines.append(f"no verdict:   {missing} answers were not scored; they count in no mean")
    if len(found["seeds"]) == 1:
        lines.append("one seed:     nothing can be said about how a sampler varies; give --seeds")
    if found["interrupted"]:
        lines.append(f"unfinished:   {done['done']} of {done['total']} entrants have ended")
    paid = found["paid"]
    return "\n".join(
        [
            *lines,
            f"generations:  {paid['generations']} paid, {paid['cached']} from the ledger",
            *(f"figure:       {place}" for place in found.get("figures", ())),
        ]
    )


def forecast_table(found: Mapping[str, Any]) -> str:
    """What a sweep will cost."""
    lines = []
    for name in ("sweep", "confirm", "total"):
        part = found[name]
        lines.append(
            f"{name + ':':9} {part['generations']:>9,} generations  "
            f"{part['prompt_tokens']:>12,} prompt tokens  "
            f"at most {part['generated_tokens']:>11,} generated"
            + (f"  at most {part['money']:,.2f}" if found["priced"] else "")
            + (f"  about {part['seconds']:,.0f} s" if part["seconds"] is not None else "")
        )
    lines += [f"note:     {note}" for note in found["notes"]]
    return "\n".join(lines)


def finding_line(found: Finding) -> str:
    """One finding of `icl-align doctor`."""
    line = f"{found.verdict:5}  {found.check:14} {found.found}"
    return f"{line}\n       {'':14} -> {found.remedy}" if found.remedy else line


def _tokens(tokens: Mapping[str, Any], of: str = "") -> list[str]:
    """What sharing has spared, and how fast tokens came; nothing where nothing was generated."""
    if not tokens["prompt"]:
        return []
    line = f"prefill:      {of}saved {tokens['saved']:.0%} of {tokens['prompt']:,} prompt tokens"
    if tokens["seconds"]:
        line += f"; {tokens['generated'] / tokens['seconds']:,.0f} generated tokens/s"
    return [line]


def ranking_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The best prompts of a run."""
    table = new_table(
        "trial",
        "estimate",
        "dev mean",
        "n",
        "tokens",
        "K",
        "format",
        "temp.",
        "exemplars",
        "system text",
    )
    for row in rows:
        table.add_row(
            str(row["trial"]),
            _believed(row),
            number(row["mean"]),
            str(row["n"]),
            str(row["length"]),
            str(row["k"]),
            row["format"],
            f"{row['temperature']:g}",
            " ".join(row["exemplars"]),
            row["system"][:_SYSTEM_SHOWN] + "..." * (len(row["system"]) > _SYSTEM_SHOWN),
        )
    return printed(table).rstrip("\n")


def rescore_table(found: Mapping[str, Any]) -> str:
    """What another objective makes of a run."""
    table = new_table("prompt", "n", "before", "now", "missing")
    for row in found["prompts"][:10]:
        table.add_row(
            row["digest"][:12],
            str(row["n"]),
            number(row["before"]),
            number(row["after"]),
            str(row["missing"]),
        )
    best = found["best"]
    same = best["before"] == best["after"]
    lines = [
        f"{found['trials']} trials scored again, none generated: {found['run']}",
        "",
        printed(table),
        f"Rank correlation of the prompts' means, before and now: {number(found['spearman'])}.",
        "The best prompt is the same." if same else "Another prompt is the best one now.",
    ]
    if found["missing"]:
        lines.append(f"{found['missing']} responses have no verdict; they are in no mean.")
    return "\n".join(lines)


def new_table(*columns: str) -> Table:
    """Makes a plain table."""
    table = Table(box=None, pad_edge=False, header_style="")
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def printed(table: Table) -> str:
    """Writes a table as lines."""
    console = Console(file=io.StringIO(), width=200, markup=False, emoji=False, highlight=False)
    console.print(table)
    file = console.file
    assert isinstance(file, io.StringIO)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def number(value: float | None) -> str:
    """Writes a number, or that there is none."""
    return "-" if value is None else f"{value:.3f}"


def _believed(row: Mapping[str, Any]) -> str:
    """An estimate with its standard deviation, where there is one."""
    sd = row["sd"]
    shown = number(row["estimate"]) + (f" \u00b1 {sd:.3f}" if sd is not None else "")
    return shown if row["allowed"] else f"{shown} (breaks the constraint)"


def _shape(prompt: Prompt) -> str:
    form, temperature = prompt.format.name, prompt.decoding.temperature
    return f"K={len(prompt.exemplars)}, format {form}, temperature {temperature:g}"
