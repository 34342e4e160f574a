"""Verbs about packs: show, answer, lint."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from icl_align.cli._app import AsJson, PackFile, as_text
from icl_align.errors import UserError

if TYPE_CHECKING:
    from icl_align.pack import Pack


def show(
    pack: PackFile,
    query: Annotated[str | None, typer.Option(help="Render this query too.")] = None,
    as_json: AsJson = False,
) -> None:
    """Prints the exact text that is sent to the model, byte for byte.

    Example: icl-align show tuned.json --query "What is the capital of Peru?"
    """
    prompt = _pack(pack).prompt
    text = prompt.to_text() if query is None else prompt.render(query)
    if as_json:
        typer.echo(as_text({"text": text, "stop": list(prompt.stop), "digest": prompt.digest}))
    else:
        sys.stdout.buffer.write(text.encode("utf-8"))
        sys.stdout.buffer.flush()


def answer(
    pack: PackFile,
    query: Annotated[str | None, typer.Option(help="One query.")] = None,
    input_: Annotated[
        Path | None, typer.Option("--input", help="Instructions: JSONL, CSV or URIAL text.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Another model than the pack's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Answers one query, or a file of them (JSON lines on stdout), with the pack's prompt and model.

    Example: icl-align answer tuned.json --query "How do I boil an egg?"
    """
    from icl_align.data import read_examples
    from icl_align.library import load_pack
    from icl_align.live import shares
    from icl_align.types import Example
    from icl_align.use import answering

    if (query is None) == (input_ is None):
        raise UserError("answer takes one of --query TEXT and --input FILE")
    examples = [Example(query)] if query is not None else read_examples(input_ or Path())
    rows = answering(load_pack(pack), examples, model)
    if query is not None:
        row = next(rows)
        typer.echo(as_text(row) if as_json else row["answer"])
        return
    with shares("answer", quiet=as_json) as update:
        for number, row in enumerate(rows, 1):
            line = json.dumps(row, ensure_ascii=False)
            typer.echo(
                line.encode("utf-8", "replace").decode("utf-8")
            )  # a half surrogate is no text
            update(number / len(examples), f"{number:,} of {len(examples):,} instructions")


def lint(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A pack or a URIAL prompt text.")],
    items: Annotated[
        Path | None, typer.Option(help="Evaluation instructions that must not be exemplars.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Check the length against this model's context.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Names what is wrong with a prompt; exit code 1 when it finds an error.

    Example: icl-align lint prompt.txt --items dev.jsonl
    """
    from icl_align.library import find_pack
    from icl_align.use import lint_file

    findings = lint_file(find_pack(file), items, model)
    if as_json:
        typer.echo(as_text({"file": str(file), "findings": findings}))
    else:
        for found in findings:
            typer.echo(
                f"{found['where']}: {found['severity']}: {found['message']} [{found['code']}]"
            )
        if not findings:
            typer.echo(f"{file}: nothing found", err=True)
    if any(found["severity"] == "error" for found in findings):
        raise typer.Exit(1)


def _pack(path: Path) -> Pack:
    from icl_align.library import find_pack
    from icl_align.pack import Pack

    return Pack.load(find_pack(path))
