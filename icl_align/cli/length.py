"""The verb about already paid annotations: lc."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from icl_align.cli._app import AsJson, as_text
from icl_align.errors import UserError

if TYPE_CHECKING:
    from icl_align.annotations import LengthTable


def lc(  # noqa: PLR0913, PLR0917 (a verb's options)
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Annotations: .csv, .json or .jsonl, or .gz.")
    ],
    difficulty: Annotated[
        Path | None, typer.Option(help="A file with a column `difficulty` per instruction.")
    ] = None,
    regularisation: Annotated[
        Path | None, typer.Option(help="Annotations of a verbose or concise baseline.")
    ] = None,
    weight: Annotated[
        float, typer.Option("--regularisation-weight", help="Of each of its rows, next to 1.")
    ] = 0.1,
    penalty: Annotated[
        str, typer.Option(help="C of the L1 penalty; cv to choose by cross-validation; none.")
    ] = "none",
    by: Annotated[str, typer.Option(help="The column that says whose row it is.")] = "model",
    coding: Annotated[
        str, typer.Option(help="Of preferences: auto; 0-1; 1-2, AlpacaEval's.")
    ] = "auto",
    difficulty_by: Annotated[
        str, typer.Option(help="id: by instruction; row: by position, as published numbers.")
    ] = "id",
    level: Annotated[float, typer.Option(help="Coverage of the intervals.")] = 0.95,
    resamples: Annotated[
        int, typer.Option(min=0, help="Of the bootstrap; 0 for no intervals.")
    ] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Win rates at equal length, from annotations that a judge was already paid for.

    Example: icl-align lc annotations.json --json
    """
    from icl_align.annotations import (
        length_table,
        read_annotations,
        read_difficulty,
        read_regularisation,
    )

    chosen, alignment = _coding(coding), _alignment(difficulty_by)
    c = _penalty(penalty)
    if not 0 < level < 1:
        raise UserError(f"--level must be above 0 and below 1, got {level}")
    if not 0 < weight < math.inf:
        raise UserError(f"--regularisation-weight must be above 0, got {weight}")
    annotations = read_annotations(file, coding=chosen, by=by)
    hard = None if difficulty is None else read_difficulty(difficulty)
    rows = (
        None
        if regularisation is None
        else read_regularisation(regularisation, hard, alignment=alignment, weight=weight)
    )
    with typer.progressbar(
        length=len(annotations.groups), label="lc", file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as bar:
        table = length_table(
            annotations,
            hard,
            rows,
            c,
            alignment=alignment,
            source=str(regularisation or ""),
            level=level,
            resamples=resamples,
            seed=seed,
            on_model=lambda _: bar.update(1),
        )
    if as_json:
        typer.echo(as_text(table.to_json()))
    else:
        _print(table)


def _print(table: LengthTable) -> None:
    """Prints one row per model; warnings go to stderr."""
    width = max(len("model"), *map(len, table.results))
    typer.echo(f"{'model':{width}}  {'n':>5} {'win %':>7} {'se':>5} {'lc %':>7}  interval")
    for name, found in table.results.items():
        ends = found.interval and f"{found.interval.low:.2f} to {found.interval.high:.2f}"
        error = "" if found.standard_error is None else f"{found.standard_error:.2f}"
        typer.echo(
            f"{name:{width}}  {found.n:5} {found.win_rate:7.2f} {error:>5} "
            f"{found.lc_win_rate:7.2f}  {ends or ''}".rstrip()
        )
        for warning in found.warnings:
            typer.echo(f"{name}: {warning}", err=True)


def _penalty(text: str) -> float | Literal["cv"] | None:
    if text == "cv":
        return "cv"
    if text == "none":
        return None
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not number > 0:
        raise UserError(f"--penalty must be a number above 0, cv or none, got {text!r}")
    return number


def _coding(text: str) -> Literal["auto", "0-1", "1-2"]:
    match text:
        case "auto" | "0-1" | "1-2":
            return text
    raise UserError(f"--coding must be auto, 0-1 or 1-2, got {text!r}")


def _alignment(text: str) -> Literal["id", "row"]:
    match text:
        case "id" | "row":
            return text
    raise UserError(f"--difficulty-by must be id or row, got {text!r}")
