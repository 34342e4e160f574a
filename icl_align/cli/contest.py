"""Verbs about how to search and to score: compare, rescore."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from icl_align.cli._app import AsJson, Folder, as_text


def compare(
    experiment: Annotated[
        Path, typer.Argument(metavar="EXPERIMENT.toml", help="The experiment file.")
    ],
    samplers: Annotated[
        str, typer.Option(help="Names with commas between: structured,tpe,random,dspy-mipro,...")
    ],
    seeds: Annotated[int, typer.Option(help="How often each one searches, with seeds from 0.")] = 5,
    generations: Annotated[
        int | None, typer.Option(help="The budget of each search, instead of the file's.")
    ] = None,
    points: Annotated[
        int, typer.Option(help="Look at each after so many equal parts of its budget.")
    ] = 1,
    warm_start: Annotated[
        bool, typer.Option("--warm-start", help="Start from the hand-written prompts.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the contest; runs/NAME-contest by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Lets samplers search with equal budgets, and judges what each finds on untouched instructions.

    Killed or interrupted, it continues with the same command; nothing is paid for twice.

    Example: icl-align compare experiments/bundled.toml --samplers random,structured --generations 800
    """
    from icl_align.config import load_experiment
    from icl_align.contest import compete, recorded, rules_of
    from icl_align.live import contest_progress
    from icl_align.show import contest_table

    loaded = load_experiment(experiment)
    rules = rules_of(
        loaded, samplers, generations=generations, seeds=seeds, points=points, warm_start=warm_start
    )
    folder = out or Path("runs") / f"{loaded.name}-contest"
    with contest_progress(quiet=as_json) as (on_progress, on_cancel):
        outcome = compete(loaded, rules, folder, on_progress=on_progress, on_cancel=on_cancel)
    found = recorded(outcome)
    typer.echo(as_text(found) if as_json else contest_table(found))
    if outcome.interrupted:
        raise typer.Exit(130)


def rescore(
    folder: Folder,
    objective: Annotated[
        Path,
        typer.Option(help="A TOML file with [objective.NAME] tables; an experiment file will do."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the new run; RUN-FILE by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Scores a run's responses by another judge or other weights; nothing is generated again.

    The new run can be looked at, confirmed and exported like any other.

    Example: icl-align rescore runs/first --objective stricter.toml
    """
    from icl_align.live import shares
    from icl_align.rescore import rescore as score_again
    from icl_align.run import open_run
    from icl_align.show import rescore_table

    place = out or folder.with_name(f"{folder.name}-{objective.stem}")
    with shares("rescore", quiet=as_json) as update:
        found = score_again(open_run(folder), objective, place, on_progress=update)
    typer.echo(as_text(found) if as_json else rescore_table(found))
