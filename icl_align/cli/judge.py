"""Verbs about judges: validate, label."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icl_align.cli._app import AsJson, as_text
from icl_align.errors import UserError

if TYPE_CHECKING:
    from icl_align.passport.items import Pair, Rating

judge_app = typer.Typer(no_args_is_help=True, help="Examine judges; grade by hand.")
JudgeName = Annotated[
    str,
    typer.Option(
        "--judge", help="A judge's TOML file, recorded:COLUMN, longer, shorter or annotator."
    ),
]


@judge_app.command(short_help="A judge's passport, from what people said.")
def validate(  # noqa: PLR0913, PLR0917 (a verb's options)
    judge: JudgeName,
    pairs: Annotated[
        Path | None, typer.Option(help="Pairs that people judged: JSONL (docs/judges.md).")
    ] = None,
    ratings: Annotated[Path | None, typer.Option(help="Responses that people rated.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How often each pair is asked about.")] = 1,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many pairs, drawn at random.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to; runs/judge-NAME by default.")
    ] = None,
    swap: Annotated[
        bool, typer.Option(help="Ask in both orders, where the judge does not do so itself.")
    ] = True,
    min_lead: Annotated[
        float, typer.Option(help='Least lead in accuracy over "the longer one wins".')
    ] = 0.0,
    min_kappa: Annotated[float, typer.Option(help="Least kappa with people.")] = 0.4,
    min_consistency: Annotated[
        float, typer.Option(help="Least share of verdicts that survive a change of places.")
    ] = 0.8,
    min_repeatability: Annotated[
        float, typer.Option(help="Least share of verdicts that another seed gives again.")
    ] = 0.8,
    max_length_bias: Annotated[
        float, typer.Option(help="Most the longer one may win more, or less, than with people.")
    ] = 0.1,
    max_missing: Annotated[float, typer.Option(help="Greatest share of missing verdicts.")] = 0.05,
    min_spearman: Annotated[float, typer.Option(help="Least correlation with ratings.")] = 0.4,
    alt_test: Annotated[
        bool, typer.Option("--alt-test", help="Require the alternative annotator test.")
    ] = False,
    epsilon: Annotated[
        float, typer.Option(min=0, max=1, help="Its allowance for being no person.")
    ] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap and of --limit.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Examines a judge on what people said, and writes its passport: JSON, and a page.

    Exit code 0 whether it passes or fails: the verdict is in the output.

    Example: icl-align judge validate --judge recorded:gpt35 --pairs pandalm.jsonl --out passport
    """
    from icl_align.live import shares
    from icl_align.passport.judges import load_judge
    from icl_align.passport.length import Settings
    from icl_align.passport.record import Criteria
    from icl_align.passport.validate import Plan
    from icl_align.passport.validate import validate as examine

    made = load_judge(judge)
    criteria = Criteria(
        beat_longer=min_lead,
        kappa=min_kappa,
        consistency=min_consistency,
        repeatability=min_repeatability,
        length_bias=max_length_bias,
        missing=max_missing,
        spearman=min_spearman,
        alt_test=alt_test,
    )
    settings = Settings(seed=seed, epsilon=epsilon)
    plan = Plan(pairs, ratings, seeds, limit, swap, settings, criteria)
    folder = out or Path("runs") / f"judge-{made.name}"
    with shares("judge", quiet=as_json) as update:
        found = examine(made, plan, folder, update).to_json()
    files = {"passport": str(folder / "passport.json"), "page": str(folder / "passport.html")}
    typer.echo(as_text({**found, **files}) if as_json else _told({**found, **files}))


@judge_app.command(short_help="Grade pairs or responses by hand, blind.")
def label(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Pairs, or responses to rate.")],
    out: Annotated[Path, typer.Option(help="Where the grades go; continued if it is there.")],
    judge: Annotated[
        str | None, typer.Option(help="Compare with this judge, as in judge validate.")
    ] = None,
    n: Annotated[int, typer.Option("-n", "--number", min=1, help="Grades in all.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Of order and sides.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Grades pairs or responses by hand, blind; quit with q and resume at any time.

    With c the criteria can be rewritten; what was graded before is then marked as such.

    Example: icl-align judge label pairs.jsonl --out labels.jsonl --judge longer -n 20
    """
    from icl_align.passport.compare import compare_with_labels
    from icl_align.passport.judges import load_judge
    from icl_align.passport.label import Desk, Labels, grade

    items, labels = _items(file), Labels(out)
    other = load_judge(judge) if judge is not None else None
    out.parent.mkdir(parents=True, exist_ok=True)
    desk = Desk(
        lambda text: typer.echo(text, err=True),
        _asked,
        lambda: datetime.now(UTC).isoformat(timespec="seconds"),
    )
    whole = grade(items, labels, desk, n, seed)
    found: dict[str, Any] = {
        "labels": len(labels.labels),
        "complete": whole,
        "criteria": labels.criteria[-1],
        "outdated": labels.outdated,
        "file": str(out),
    }
    if other is not None and labels.labels:
        found |= compare_with_labels(other, items, labels)
    typer.echo(as_text(found) if as_json else _graded(found))


def _asked(question: str) -> str:
    """Asks for a line; the end of the input, or Ctrl-C, quits as "q" does."""
    try:
        return str(typer.prompt(question, default="", show_default=False, err=True))
    except typer.Abort:
        typer.echo(err=True)
        return "q"


def _items(file: Path) -> list[Pair] | list[Rating]:
    """Pairs where the first line has two responses, ratings where it has one."""
    import json

    from icl_align.data import read_text
    from icl_align.passport.items import read_pairs, read_ratings

    first = next((line for line in read_text(file).split("\n") if line.strip()), "{}")
    try:
        keys = set(json.loads(first))
    except (ValueError, TypeError) as error:
        raise UserError(f"{file}:1: broken JSON; each line must be one JSON object") from error
    if keys & {"response1", "output_1"}:
        return read_pairs(file, unlabelled=True)
    return read_ratings(file, unlabelled=True)


def _told(found: Mapping[str, Any]) -> str:
    """A passport as a few lines."""
    from icl_align.passport.page import REFERENCES, ROWS, shown
    from icl_align.passport.plain import printable

    lines = [f"{printable(found['judge']['name'])} {found['verdict']}", ""]
    pairs, ratings = found["pairs"], found["ratings"]
    if pairs:
        shown_columns = [(key, name) for key, name in REFERENCES if key != "shorter" and pairs[key]]
        lines.append(f"{'':38}" + "".join(f"{name:32}" for _, name in shown_columns).rstrip())
        for key, name in ROWS:
            cells = "".join(f"{shown(pairs[one][key]):32}" for one, _ in shown_columns)
            lines.append(f"{name:38}{cells}".rstrip())
        lines += ["", f"{'at matched length':38}{shown(pairs['length']['matched'])}"]
        lines += [f"{key.replace('_', ' ')}: {note}" for key, note in pairs["notes"].items()]
        if pairs["missing"]["n"]:
            lines.append(f"no verdict: {pairs['missing']['n']} of {pairs['judge']['n']} pairs")
    if ratings:
        row = ratings["judge"]
        lines.append(f"{'Spearman with ratings':38}{shown(row['spearman'])}")
        if row["missing"]:
            lines.append(f"no score: {row['missing']} of {row['n'] + row['missing']} responses")
    lines.append("")
    lines += [
        f"{check['verdict']:13}{check['rule']}: {shown(check['value'])}"
        for check in found["checks"]
    ]
    return "\n".join([*lines, "", f"passport: {found['passport']}", f"page:     {found['page']}"])


def _graded(found: Mapping[str, Any]) -> str:
    from icl_align.passport.page import shown

    lines = [f"{found['labels']} grades in {found['file']}"]
    if found["outdated"]:
        lines.append(f"{len(found['outdated'])} of them were made under earlier criteria")
    for name in ("current", "all"):
        row = found.get(name)
        if row:
            figures = ", ".join(
                f"{key} {shown(value)}" for key, value in row.items() if isinstance(value, dict)
            )
            lines.append(f"judge on {name} grades (n = {row['n']}): {figures or 'undefined'}")
    return "\n".join(lines)
