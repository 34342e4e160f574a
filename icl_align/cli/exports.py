"""Verbs that take a pack elsewhere: export, verify."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icl_align.cli._app import AsJson, PackFile, as_text
from icl_align.errors import UserError

if TYPE_CHECKING:
    from icl_align.pack import Pack


class Weights(StrEnum):
    """Where an exported folder has its model's weights."""

    REFERENCE = "reference"
    LINK = "link"
    COPY = "copy"


_PLAIN = {".json": "json", ".txt": "urial"}
_NO_DECODING = ("urial", "text")


def export(
    source: Annotated[
        Path, typer.Argument(metavar="RUN|PACK", help="A run's folder, a pack or a URIAL text.")
    ],
    to: Annotated[Path, typer.Option(help="The file, or the folder, to write.")],
    format_: Annotated[
        str | None,
        typer.Option(
            "--format", help="json, urial, text, python, openai, ...; by the suffix of --to."
        ),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(min=0, help="The best measured prompt of at most so many tokens instead."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="For hf-folder: another model than the pack's.")
    ] = None,
    weights: Annotated[
        Weights, typer.Option(help="For hf-folder: where the model's weights are to be.")
    ] = Weights.REFERENCE,
    as_json: AsJson = False,
) -> None:
    """Writes a run's confirmed winner (or, before confirm, its best dev prompt), or a pack, for a tool.

    Formats: urial, json, text, python, chat-template, hf-folder, openai, dspy, langchain, ollama,
    llamacpp, promptfoo, inspect, lm-eval. `verify` proves that they all send the same bytes.

    Example: icl-align export runs/first --format openai --to messages.json
    """
    from icl_align.export import load_exporter

    name = format_ or _PLAIN.get(to.suffix)
    if name is None:
        raise UserError(
            f"{to.name!r} does not say which format to write; give --format, or .json for a pack "
            "and .txt for a URIAL text"
        )
    exporter = load_exporter(name)
    pack = _source(source, max_tokens)
    if exporter.name == "hf-folder":
        from icl_align.export.hf_folder import EXPORTER

        files = EXPORTER.write(pack, to, model=model, weights=weights.value)
    elif model is not None or weights is not Weights.REFERENCE:
        raise UserError(f"--model and --weights are for hf-folder, not for {exporter.name}")
    else:
        files = exporter.write(pack, to)
    for note in _notes(pack, exporter.name):
        typer.echo(f"icl-align: note: {note}", err=True)
    found = {
        "pack": str(to),
        "format": exporter.name,
        "digest": pack.prompt.digest,
        "files": [str(file) for file in files],
    }
    typer.echo(as_text(found) if as_json else f"wrote {to}")


def verify(
    pack: PackFile,
    format_: Annotated[
        list[str] | None, typer.Option("--format", help="Only this format; may be repeated.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every format; the default.")] = False,
    items: Annotated[
        Path | None, typer.Option(help="Queries to render; awkward ones of our own by default.")
    ] = None,
    rescore: Annotated[
        bool,
        typer.Option("--rescore", help="Score the pack on --items, compare with its evidence."),
    ] = False,
    experiment: Annotated[
        str, typer.Option(help="With --rescore: the experiment file whose objective scores.")
    ] = "bundled",
    as_json: AsJson = False,
) -> None:
    """Renders queries through each export by the target's own code, and compares bytes.

    Exit code 1 when anything differs, or when --rescore does not agree with the pack's evidence.

    Example: icl-align verify tuned.json --all
    """
    from dataclasses import asdict

    from icl_align.data import read_examples
    from icl_align.library import find_pack
    from icl_align.pack import Pack
    from icl_align.verify import rescore as score_again
    from icl_align.verify import verify as compare

    if all_ and format_:
        raise UserError("verify takes --all or --format, not both")
    if rescore and items is None:
        raise UserError("--rescore needs the examples to score on; give --items FILE")
    loaded, known = Pack.load(find_pack(pack)), read_examples(items) if items else []
    verdicts = compare(loaded, format_ or (), known)
    found: dict[str, Any] = {
        "pack": str(pack),
        "digest": loaded.prompt.digest,
        "formats": [asdict(verdict) for verdict in verdicts],
    }
    if rescore:
        found["rescore"] = score_again(loaded, known, experiment)
    typer.echo(as_text(found) if as_json else _told(found))
    agrees = found.get("rescore", {}).get("agrees", True)
    if not agrees or any(verdict.status == "different" for verdict in verdicts):
        raise typer.Exit(1)


def _source(source: Path, max_tokens: int | None) -> Pack:
    if not source.is_dir():
        if max_tokens is not None:
            raise UserError(f"--max-tokens chooses among a run's prompts, and {source} is no run")
        from icl_align.library import find_pack
        from icl_align.pack import Pack

        return Pack.load(find_pack(source))
    from icl_align.prove import winner_pack
    from icl_align.run import open_run

    return winner_pack(open_run(source), max_tokens)


def _notes(pack: Pack, name: str) -> list[str]:
    """What an export cannot say, though its bytes are the same."""
    decoding, notes = pack.prompt.decoding, []
    if name in _NO_DECODING:
        notes.append("this format holds the text alone, without decoding and stop strings")
    elif (
        name not in ("json", "python")
        and decoding.repetition_penalty != 1
        and decoding.repetition_scope == "generated"
    ):
        notes.append(
            f"the repetition penalty of {decoding.repetition_penalty} was tuned on generated tokens "
            "only, but other tools apply theirs to the prompt's tokens, too"
        )
    return notes


def _told(found: dict[str, Any]) -> str:
    lines = []
    for row in found["formats"]:
        count = f"{row['equal']} conversations" if row["status"] == "equal" else row["reason"]
        if row["status"] == "equal" and row["refused"]:
            count += f"; {len(row['refused'])} refused: {row['refused'][0]}"
        status = row["status"].upper() if row["status"] == "different" else row["status"]
        by = f"  [{row['by']}]" if row["status"] == "equal" else ""
        lines.append(f"{row['format']:14} {status:14} {_printable(count)}{by}")
        if row["diff"]:
            lines += [f"    {line}" for line in row["diff"].split("\n")]
    if "rescore" in found:
        again = found["rescore"]
        new, old = again["measured"], again["recorded"]
        lines.append(
            f"score {new['mean']:.4f} [{new['low']:.4f}, {new['high']:.4f}] (n = {new['n']}); "
            f"the pack says {old['mean']:.4f}: {'agrees' if again['agrees'] else 'DIFFERS'}"
        )
    return "\n".join(lines)


def _printable(text: str) -> str:
    """A message without what would move a terminal's cursor."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
