"""Writes the command line's reference from the program itself, where a page says {{ cli }}."""

from __future__ import annotations

from typing import Any


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Puts the reference in the place of its mark (a hook of MkDocs)."""
    if "{{ cli }}" not in markdown:
        return markdown
    import typer
    from typer.cli import get_docs_for_click

    from icl_align.cli import app

    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="icl-align")
    text = get_docs_for_click(obj=command, ctx=context, name="icl-align")
    return markdown.replace("{{ cli }}", text.partition("\n")[2])
