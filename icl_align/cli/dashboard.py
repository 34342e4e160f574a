"""The verb that opens optuna-dashboard on a run: dashboard."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icl_align.cli._app import AsJson, Folder, as_text, until_stopped

if TYPE_CHECKING:
    from icl_align.dashboard import Served


def dashboard(
    folder: Folder,
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for a free one.")] = 8080,
    browse: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in a browser.")
    ] = False,
    prefer: Annotated[
        bool,
        typer.Option("--prefer", help="Let people compare answers of the best prompts, blind."),
    ] = False,
    top: Annotated[
        int, typer.Option(min=1, max=20, help="How many prompts, besides the main baseline.")
    ] = 4,
    instructions: Annotated[
        int, typer.Option(min=1, max=20, help="On how many dev instructions they are compared.")
    ] = 3,
    preferences: Annotated[
        bool, typer.Option("--preferences", help="Only say what people have preferred so far.")
    ] = False,
    writable: Annotated[
        bool, typer.Option("--writable", help="Let the page change and delete studies, too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Opens optuna-dashboard on a run's database, with a note on each trial, until it is stopped.

    The run may be going on. The page can write notes and preferences, and nothing else.

    Example: icl-align dashboard runs/first --port 8080
    """
    from icl_align.dashboard import read_preferences, serving
    from icl_align.run import open_run

    run = open_run(folder)
    if preferences:
        found = read_preferences(run)
        typer.echo(as_text(found) if as_json else _told(found))
        return
    with (
        until_stopped(),
        serving(
            run,
            host=host,
            port=port,
            prefer=(top, instructions) if prefer else None,
            writable=writable,
        ) as served,
    ):
        _announce(served, as_json=as_json)
        if browse:
            import webbrowser

            webbrowser.open(served.preferences or served.url)
        served.server.serve_forever(poll_interval=0.1)


def _announce(served: Served, *, as_json: bool) -> None:
    if as_json:
        content = {"url": served.url, "preferences": served.preferences, "pid": os.getpid()}
        typer.echo(as_text(content))
    else:
        typer.echo(served.preferences or served.url)
        if served.asked is not None:
            what = "begins" if served.asked.new else "goes on"
            typer.echo(
                f"{served.asked.name} {what}: {len(served.asked.contenders)} prompts on "
                f"{len(served.asked.instructions)} instructions; the run is at {served.url}",
                err=True,
            )
        typer.echo("stop it with Ctrl-C", err=True)
    if not served.local:
        typer.echo(
            "icl-align: warning: whoever reaches this port can read the run and write notes; "
            "there is no password",
            err=True,
        )
    sys.stdout.flush()


def _told(found: Mapping[str, Any]) -> str:
    from icl_align.passport.plain import printable
    from icl_align.show import new_table, number, printed

    table = new_table("prompt", "strength", "interval", "won", "matches", "estimate", "rank")
    for row in found["prompts"]:
        role = f" ({printable(row['role'])})" if row["role"] else ""
        ends = [row["low"], row["high"]]
        table.add_row(
            f"trial {row['trial']}{role}",
            f"{row['strength']:+.3f}",
            "-" if None in ends else f"[{ends[0]:+.3f}, {ends[1]:+.3f}]",
            number(row["win_rate"]),
            str(row["matches"]),
            number(row["estimate"]),
            str(row["rank"] or "-"),
        )
    agreed = found["spearman"]
    return "\n".join(
        [
            f"{found['comparisons']} comparisons in {found['rounds']} rounds:",
            "",
            printed(table),
            f"rank correlation with the objective: {number(agreed['mean'] if agreed else None)}",
            *(f"note: {warning}" for warning in found["warnings"]),
        ]
    )
