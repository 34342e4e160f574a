"""Verbs that talk: serve, chat."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from icl_align.cli._app import AsJson, PackFile, as_text, until_stopped
from icl_align.errors import UserError

if TYPE_CHECKING:
    from icl_align.chat import Reply
    from icl_align.serve import Served


def serve(
    pack: PackFile,
    model: Annotated[str | None, typer.Option(help="Another model than the pack's.")] = None,
    engine: Annotated[
        str | None, typer.Option(help="transformers or vllm; the installed one by default.")
    ] = None,
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for a free one.")] = 8000,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ... (transformers)")] = "auto",
    name: Annotated[
        str | None, typer.Option(help="Name that clients ask for; the file's by default.")
    ] = None,
    wait: Annotated[float, typer.Option(help="Most seconds until it must serve.")] = 900.0,
    as_json: AsJson = False,
) -> None:
    """Serves the pack's base model as an OpenAI-compatible chat endpoint, until it is stopped.

    Example: icl-align serve tuned.json --port 8000
    """
    from icl_align.library import find_pack
    from icl_align.pack import Pack
    from icl_align.serve import serving

    loaded = Pack.load(find_pack(pack))
    with (
        until_stopped(),
        serving(
            loaded,
            model,
            engine=engine,
            host=host,
            port=port,
            device=device,
            name=name or pack.stem,
            wait_s=wait,
        ) as served,
    ):
        _announce(served, loaded.prompt.decoding.max_tokens, as_json=as_json)
        code = served.process.wait()
        raise UserError(f"the engine ended by itself with code {code}; its last lines say why")


def chat(
    pack: PackFile,
    model: Annotated[str | None, typer.Option(help="Another model than the pack's.")] = None,
    keep_turns: Annotated[
        int, typer.Option(min=0, help="Newest turns that stay where exemplars must go.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Talks with the pack's base model in the terminal; also reads queries from a pipe, one a line.

    Commands: /undo, /reset, /help, /quit.

    Example: icl-align chat tuned.json
    """
    from icl_align.chat import HELP, start, talk
    from icl_align.history import HistoryBudget
    from icl_align.library import find_pack
    from icl_align.pack import Pack

    made = start(Pack.load(find_pack(pack)), model, HistoryBudget(keep_turns))
    if sys.stdin.isatty():
        typer.echo(HELP, err=True)
    talk(made, _lines(), _say_json if as_json else _say, lambda text: typer.echo(text, err=True))


def _lines() -> Iterator[str]:
    """Lines of standard input, with a prompt where a person types them."""
    if not sys.stdin.isatty():
        for raw in sys.stdin.buffer:
            yield raw.decode("utf-8", "replace")
        return
    while True:
        try:
            yield input("> ")
        except EOFError:
            typer.echo("", err=True)
            return


def _say(reply: Reply) -> None:
    from icl_align.chat import shown

    typer.echo(shown(reply.answer))
    sys.stdout.flush()


def _say_json(reply: Reply) -> None:
    from dataclasses import asdict

    typer.echo(json.dumps(asdict(reply), ensure_ascii=True))
    sys.stdout.flush()


def _announce(served: Served, max_tokens: int, *, as_json: bool) -> None:
    if as_json:
        typer.echo(
            as_text(
                {
                    "url": served.url,
                    "model": served.model,
                    "engine": served.engine,
                    "stop": list(served.stop),
                    "max_tokens": max_tokens,
                    "pid": served.process.pid,
                }
            )
        )
    else:
        typer.echo(served.url)
        typer.echo(f"serving {served.model!r} with {served.engine}; stop it with Ctrl-C", err=True)
        if served.stop:
            typer.echo(f"clients of this engine send stop={json.dumps(served.stop)}", err=True)
    sys.stdout.flush()
