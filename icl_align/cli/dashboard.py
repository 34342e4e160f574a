"""The verb that opens optuna-dashboard on a run: dashboard."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icl_align.cli._app import AsJson, Folder, as_text, until_stopped
from icl_align.errors import UserError

if TYPE_CHECKING:
    from icl_align.dashboard import Served

_TOP, _INSTRUCTIONS = 4, 3


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
        int | None,
        typer.Option(
            min=1, max=20, help=f"How many prompts, besides the main baseline.  [default: {_TOP}]"
        ),
    ] = None,
    instructions: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=20,
            help=f"On how many dev instructions they are compared.  [default: {_INSTRUCTIONS}]",
        ),
    ] = None,
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

    if preferences and prefer:
        raise UserError(
            "--prefer starts a round and --preferences says what came out; give one of the two"
        )
    if not prefer and (top is not None or instructions is not None):
        option = "--top" if top is not None else "--instructions"
        raise UserError(f"{option} says what people compare, so it needs --prefer; add it")
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
            prefer=(top or _TOP, instructions or _INSTRUCTIONS) if prefer else None,
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
        content = {
            "url": served.url,
            "preferences": served.preferences,
            "alike": served.asked.alike if served.asked else (),
            "pid": os.getpid(),
        }
        typer.echo(as_text(content))
    else:
        typer.echo(served.preferences or served.url)
        if served.asked is not None:
            what = "begins" if served.asked.new else "goes on"
            cards, shown = len(served.asked.cards), len(served.asked.instructions)
            typer.echo(
                f"{served.asked.name} {what}: {cards} cards on {_counted(shown, 'instruction')}; "
                f"the run is at {served.url}",
                err=True,
            )
            for trials in served.asked.alike:
                names = _joined(trials)
                typer.echo(
                    f"{names} answer alike here: one card stands for "
                    f"them (a larger --top may bring others)",
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
    from icl_align.signs import signed

    table = new_table("prompt", "strength", "interval", "won", "matches", "estimate", "rank")
    for row in found["prompts"]:
        role = f" ({printable(row['role'])})" if row["role"] else ""
        ends = [row["low"], row["high"]]
        table.add_row(
            f"trial {row['trial']}{role}",
            signed(row["strength"]),
            "-" if None in ends else f"[{signed(ends[0])}, {signed(ends[1])}]",
            number(row["win_rate"]),
            str(row["matches"]),
            number(row["estimate"]),
            str(row["rank"] or "-"),
        )
    agreed = found["spearman"]
    return "\n".join(
        [
            f"{_counted(found['comparisons'], 'comparison')} in {_counted(found['rounds'], 'round')}:",
            "",
            printed(table),
            f"rank correlation with the objective: {signed(agreed['mean']) if agreed else '-'}",
            *(_cards(name, cards) for name, cards in found["cards"].items()),
            *(f"note: {warning}" for warning in found["warnings"]),
        ]
    )


def _cards(name: str, cards: Sequence[Sequence[int]]) -> str:
    told = (f"card {place} is {_joined(trials)}" for place, trials in enumerate(cards))
    alike = any(len(trials) > 1 for trials in cards)
    why = "; those of one card answered alike and share what was said of it" if alike else ""
    return f"{name}: {', '.join(told)}{why}"


def _joined(trials: Sequence[int]) -> str:
    names = [f"trial {one}" for one in trials]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
