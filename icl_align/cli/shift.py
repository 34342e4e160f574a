"""The verb about what alignment changes: shift."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from icl_align.cli._app import AsJson, as_text

if TYPE_CHECKING:
    from icl_align.prompt import Prompt

_BUNDLED = "bundled"


def shift(
    *,
    base: Annotated[str, typer.Option(help="The base model: a folder, a Hub id, or: bundled.")],
    aligned: Annotated[str, typer.Option(help="The model tuned from it, likewise.")],
    input_: Annotated[
        Path, typer.Option("--input", help="Instructions: JSONL, CSV, URIAL text, or: bundled.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the files.")],
    pack: Annotated[
        list[Path] | None,
        typer.Option(help="A pack or URIAL text as context; may be given several times."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="The first so many only.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Bound of an answer.")] = 200,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    dtype: Annotated[
        str,
        typer.Option(
            help="auto, float64, float32, bfloat16 or float16; auto is exact for small models on a CPU."
        ),
    ] = "auto",
    as_json: AsJson = False,
) -> None:
    """What alignment has changed, token by token, and how much of it a pack removes.

    Example: icl-align shift --base bundled --aligned bundled --pack tuned.json --input bundled --out shift
    """
    from icl_align.analysis._shift_files import shift_table, write_shift
    from icl_align.analysis.token_shift import Reader, token_shift
    from icl_align.data import read_examples
    from icl_align.live import shares
    from icl_align.models import bundled

    given = bundled("test.jsonl") if str(input_) == _BUNDLED else input_
    examples = read_examples(given)[:limit]
    packs = _packs(pack or [])
    one, other = (
        Reader(str(bundled(role)) if name == _BUNDLED else name, device=device, dtype=dtype)
        for role, name in (("base", base), ("aligned", aligned))
    )
    read = 0
    with shares("shift", quiet=as_json) as update:

        def on_texts(count: int) -> None:
            nonlocal read
            read += count
            update(read / len(examples), f"{read:,} of {len(examples):,} answers read")

        update(0.0, "the aligned model answers")
        report = token_shift(one, other, examples, packs, max_tokens=max_tokens, on_texts=on_texts)
    files = write_shift(report, out)
    content = report.to_json()
    if as_json:
        typer.echo(as_text({**content, "files": [str(file) for file in files]}))
    else:
        typer.echo(shift_table(content))
        typer.echo(f"wrote {', '.join(file.name for file in files)} to {out}", err=True)


def _packs(files: list[Path]) -> dict[str, Prompt]:
    """Prompts by the names of their files; a name that is taken gets a number."""
    from icl_align.analysis._token_classes import visible
    from icl_align.analysis.token_shift import ZERO_SHOT
    from icl_align.pack import Pack

    found: dict[str, Prompt] = {}
    for file in files:
        name = stem = visible(file.stem)
        number = 1
        while name in found or name == ZERO_SHOT:
            number += 1
            name = f"{stem} ({number})"
        found[name] = Pack.load(file).prompt
    return found
