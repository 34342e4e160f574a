"""Verbs that look at a run: report, explain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from icl_align.cli._app import AsJson, Folder, as_text


def report(
    folder: Folder,
    out: Annotated[
        Path | None, typer.Option(help="The page; report.html in the run's folder by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Writes a run as one page that needs no network: what won, by how much, how sure, and why.

    Nothing is generated, and no model is loaded. What `explain` has found is shown with it.

    Example: icl-align report runs/first --out first.html
    """
    from icl_align.report import write_report
    from icl_align.run import open_run

    found = write_report(open_run(folder), out or folder / "report.html")
    if as_json:
        typer.echo(as_text(found))
        return
    typer.echo(
        f"{found['page']}: {found['headline']}; "
        f"{found['instructions']} instructions x {found['prompts']} prompts, {found['bytes']:,} bytes"
    )


def explain(
    folder: Folder,
    budget: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Generations asked for in all, from the ledger or not; by default enough for "
            "everything on up to 120 instructions, at least 4,200.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The file; explanation.json in the run's folder by default.")
    ] = None,
    paraphrases: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The system text in other words: .txt, one per line, or with empty lines between; or "
            '.jsonl with "text".',
        ),
    ] = None,
    writer: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Who puts the system text in other words, too: a model as DSPy names it, or a judge's "
            "TOML file.",
        ),
    ] = None,
    phrasings: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help='Instructions in other words: JSONL with "id" and "query".'
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Says why a run's prompt won: what its exemplars, their order and number, and its system text do.

    Everything is read from the run's ledger, or paid for and remembered there; never on the proof's
    instructions. Killed, it continues with the same command.

    Example: icl-align explain runs/first
    """
    from icl_align.explain import explain as explain_run
    from icl_align.explain.given import read_words
    from icl_align.explain.shown import explanation_text
    from icl_align.live import shares
    from icl_align.run import open_run

    run = open_run(folder)
    words = read_words(run.experiment, paraphrases, writer, phrasings)
    with shares("explain", quiet=as_json) as update:
        found = explain_run(run, budget=budget, out=out, on_progress=update, words=words)
    typer.echo(as_text(found) if as_json else explanation_text(found))
