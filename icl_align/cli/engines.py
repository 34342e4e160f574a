"""The verb about engines: doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from icl_align.cli._app import AsJson, as_text


def doctor(
    experiment: Annotated[
        str, typer.Argument(metavar="EXPERIMENT", help="An experiment file, or: bundled.")
    ] = "bundled",
    engine: Annotated[str | None, typer.Option(help="Another engine: hf, openai, vllm.")] = None,
    model: Annotated[str | None, typer.Option(help="Another model: a folder or a name.")] = None,
    base_url: Annotated[
        list[str] | None, typer.Option(help="Where a server is; may be given several times.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tries what an engine can do: before a sweep. Exit code 1 if it must not be relied on.

    Example: icl-align doctor --engine openai --model my/model --base-url http://127.0.0.1:8000/v1
    """
    from dataclasses import asdict

    from icl_align.config import BUNDLED, Experiment, load_experiment
    from icl_align.doctor import engine_of, examine
    from icl_align.show import finding_line

    whole = (
        Experiment.for_model(BUNDLED)
        if experiment == BUNDLED
        else load_experiment(Path(experiment))
    )
    made = engine_of(whole, engine, model, base_url or ())
    findings = []
    for found in examine(made):
        findings.append(asdict(found))
        if not as_json:
            typer.echo(finding_line(found))
    if as_json:
        typer.echo(
            as_text({"engine": made.name, "fingerprint": made.fingerprint, "findings": findings})
        )
    if any(found["verdict"] == "wrong" for found in findings):
        raise typer.Exit(1)
