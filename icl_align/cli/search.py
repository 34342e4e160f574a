"""Verbs that search and prove: quickstart, run, top, confirm."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from icl_align.cli._app import AsJson, Folder, as_text

Track = Annotated[
    list[str] | None,
    typer.Option(
        help="Log to mlflow, wandb, or a tracker of yours (file.py:attr); repeatable. Off by default."
    ),
]


def _warn(text: str) -> None:
    typer.echo(f"icl-align: warning: {text}", err=True)


def quickstart(
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/quickstart"),
    seed: Annotated[int, typer.Option(help="Seed of the search; one folder holds one seed.")] = 0,
    track: Track = None,
    as_json: AsJson = False,
) -> None:
    """The whole story on the bundled model: sweep, confirm, export, table. A few minutes on a laptop.

    Example: icl-align quickstart --out runs/quickstart --seed 0
    """
    from icl_align.config import bundled_experiment
    from icl_align.live import progress, proof_progress
    from icl_align.prove import prove
    from icl_align.run import start, summary
    from icl_align.show import proof_table, sweep_table
    from icl_align.trackers import tracking
    from icl_align.trackers.names import make_tracker

    for name in track or ():
        make_tracker(name)  # before anything is written
    run = start(bundled_experiment(seed), out)
    with tracking(track or (), run, _warn) as tracked:
        with progress(quiet=as_json, usage=run.usage) as watch:
            sweep = run.sweep(tracked.beside(watch.on_trial), watch.on_cancel)
        found = summary(run, sweep)
        tracked.end(found, sweep)
        if not sweep.interrupted:
            with proof_progress(quiet=as_json, usage=run.usage) as watch:
                proof = prove(run, on_progress=watch.on_progress)
            tracked.proved(proof)
            typer.echo(as_text(proof.to_json()) if as_json else proof_table(proof))
        else:
            typer.echo(as_text(found) if as_json else sweep_table(found))
    if sweep.interrupted:
        raise typer.Exit(130)


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
    track: Track = None,
    as_json: AsJson = False,
) -> None:
    """Starts a sweep, or continues the one in the folder; nothing is paid for twice.

    A limit given here replaces all limits of the file. Ctrl-C lets the batch in flight end, and saves.

    Example: icl-align run experiments/bundled.toml --out runs/first --generations 2000
    """
    from icl_align.assemble import build_objective
    from icl_align.config import load_experiment
    from icl_align.forecast import forecast
    from icl_align.live import progress
    from icl_align.passport.sweeps import concerns, require
    from icl_align.run import EXPERIMENT_FILE, open_run, start, summary
    from icl_align.show import forecast_table, sweep_table
    from icl_align.trackers import tracking
    from icl_align.trackers.names import make_tracker

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
    for name in track or ():
        make_tracker(name)  # before anything is written
    opened = start(loaded, folder)
    doubts = concerns(opened.experiment, build_objective(opened.experiment))
    if require_passport:
        require(doubts)
    for doubt in doubts:
        _warn(doubt)
    with tracking(track or (), opened, _warn) as tracked:
        with progress(quiet=as_json, usage=opened.usage) as watch:
            sweep = opened.sweep(tracked.beside(watch.on_trial), watch.on_cancel, earlier or ())
        found = summary(opened, sweep)
        tracked.end(found, sweep)
        typer.echo(as_text(found) if as_json else sweep_table(found))  # no tracker holds it back
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
    track: Track = None,
    as_json: AsJson = False,
) -> None:
    """Proves the winner on untouched instructions, against the hand-written prompt and others.

    Example: icl-align confirm runs/first --against other-pack.json
    """
    from icl_align.live import proof_progress
    from icl_align.prove import prove
    from icl_align.run import open_run
    from icl_align.show import proof_table
    from icl_align.trackers import tracking

    opened = open_run(folder)
    with tracking(track or (), opened, _warn) as tracked:
        with proof_progress(quiet=as_json, usage=opened.usage) as watch:
            proof = prove(
                opened,
                against or (),
                random_search=random_search,
                on_trial=watch.on_trial,
                on_progress=watch.on_progress,
                on_cancel=watch.on_cancel,
            )
        tracked.proved(proof)
        typer.echo(as_text(proof.to_json()) if as_json else proof_table(proof))
