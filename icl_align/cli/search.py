"""Verbs that search and prove: quickstart, run, top, confirm, compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from icl_align.cli._app import AsJson, Folder, as_text


def quickstart(
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/quickstart"),
    seed: Annotated[int, typer.Option(help="Seed of the search; one folder holds one seed.")] = 0,
    as_json: AsJson = False,
) -> None:
    """The whole story on the bundled model: sweep, confirm, export, table. A few minutes on a laptop.

    Example: icl-align quickstart --out runs/quickstart --seed 0
    """
    from icl_align.config import bundled_experiment
    from icl_align.live import progress, proof_progress
    from icl_align.prove import prove
    from icl_align.run import start
    from icl_align.show import proof_table

    run = start(bundled_experiment(seed), out)
    with progress(quiet=as_json, usage=run.usage) as on_trial:
        run.sweep(on_trial)
    with proof_progress(quiet=as_json, usage=run.usage) as (_, on_progress):
        proof = prove(run, on_progress=on_progress)
    typer.echo(as_text(proof.to_json()) if as_json else proof_table(proof))


def run(  # noqa: PLR0913, PLR0917 (a verb's options)
    experiment: Annotated[
        Path, typer.Argument(metavar="EXPERIMENT.toml", help="The experiment file.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; runs/NAME by default.")
    ] = None,
    sampler: Annotated[
        str | None, typer.Option(help="structured, tpe, tpe-racing, random, greedy, ...")
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many trials in all.")
    ] = None,
    generations: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many generations in all.")
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many generated tokens.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Stop after so much time spent measuring.")
    ] = None,
    money: Annotated[float | None, typer.Option(help="Stop after so much, by the prices.")] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Trials proposed and measured together.")
    ] = None,
    earlier: Annotated[
        list[Path] | None, typer.Option(help="A run whose best prompts come first; repeatable.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it will cost.")] = False,
    require_passport: Annotated[
        bool,
        typer.Option("--require-passport", help="Refuse judges without a passport that they pass."),
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="Model folder or Hub id, instead of the file's.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed, instead of the file's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Starts a sweep, or continues the one in the folder; nothing is paid for twice.

    A limit given here replaces all limits of the file. Ctrl-C lets the batch in flight end, and saves.

    Example: icl-align run experiments/bundled.toml --out runs/first --generations 2000
    """
    from icl_align.assemble import build_objective
    from icl_align.config import load_experiment
    from icl_align.forecast import forecast
    from icl_align.live import cancelling, progress
    from icl_align.passport.sweeps import concerns, require
    from icl_align.run import EXPERIMENT_FILE, open_run, start, summary
    from icl_align.show import forecast_table, sweep_table

    loaded = load_experiment(experiment).override(
        model=model,
        seed=seed,
        sampler=sampler,
        trials=trials,
        generations=generations,
        tokens=tokens,
        seconds=seconds,
        money=money,
        batch=batch,
    )
    folder = out or Path("runs") / loaded.name
    if dry_run:
        before = open_run(folder) if (folder / EXPERIMENT_FILE).exists() else None
        cost = forecast(loaded, before)
        typer.echo(as_text(cost) if as_json else forecast_table(cost))
        return
    opened = start(loaded, folder)
    doubts = concerns(opened.experiment, build_objective(opened.experiment))
    if require_passport:
        require(doubts)
    for doubt in doubts:
        typer.echo(f"icl-align: warning: {doubt}", err=True)
    with progress(quiet=as_json, usage=opened.usage) as on_trial:
        sweep = opened.sweep(on_trial, cancelling, earlier or ())
    found = summary(opened, sweep)
    typer.echo(as_text(found) if as_json else sweep_table(found))
    if sweep.interrupted:
        raise typer.Exit(130)


def top(
    folder: Folder,
    n: Annotated[int, typer.Option("-n", "--number", min=1, help="How many prompts.")] = 10,
    pareto: Annotated[
        bool, typer.Option("--pareto", help="Only prompts that no shorter one equals.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """The best prompts of a run on the dev instructions: what is believed of them, and what was measured.

    Example: icl-align top runs/first -n 5
    """
    from icl_align.run import open_run, ranking
    from icl_align.show import ranking_table

    rows = ranking(open_run(folder), n, pareto=pareto)
    typer.echo(as_text({"run": str(folder), "top": rows}) if as_json else ranking_table(rows))


def confirm(
    folder: Folder,
    against: Annotated[
        list[Path] | None, typer.Option(help="Packs or URIAL texts to compare with; repeatable.")
    ] = None,
    random_search: Annotated[
        bool | None,
        typer.Option(help="Compare with a random search's winner, at as many generations."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Proves the winner on untouched instructions, against the hand-written prompt and others.

    Example: icl-align confirm runs/first --against other-pack.json
    """
    from icl_align.live import proof_progress
    from icl_align.prove import prove
    from icl_align.run import open_run
    from icl_align.show import proof_table

    opened = open_run(folder)
    with proof_progress(quiet=as_json, usage=opened.usage) as (on_trial, on_progress):
        proof = prove(
            opened,
            against or (),
            random_search=random_search,
            on_trial=on_trial,
            on_progress=on_progress,
        )
    typer.echo(as_text(proof.to_json()) if as_json else proof_table(proof))


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
    from icl_align.live import cancelling, contest_progress
    from icl_align.show import contest_table

    loaded = load_experiment(experiment)
    rules = rules_of(
        loaded, samplers, generations=generations, seeds=seeds, points=points, warm_start=warm_start
    )
    folder = out or Path("runs") / f"{loaded.name}-contest"
    with contest_progress(quiet=as_json) as on_progress:
        outcome = compete(loaded, rules, folder, on_progress=on_progress, on_cancel=cancelling)
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
    from icl_align.rescore import rescore as score_again
    from icl_align.run import open_run
    from icl_align.show import rescore_table

    place = out or folder.with_name(f"{folder.name}-{objective.stem}")
    found = score_again(open_run(folder), objective, place)
    typer.echo(as_text(found) if as_json else rescore_table(found))
