"""The verb `import`: another tool's prompt as a pack."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from icl_align.cli._app import AsJson, as_text
from icl_align.errors import UserError


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What another tool has written.")],
    to: Annotated[Path, typer.Option(help="FILE.json for a pack, FILE.txt for a URIAL text.")],
    form: Annotated[str, typer.Option("--format", help="auto, urial, drpo or dspy.")] = "auto",
    exemplars: Annotated[
        Path | None, typer.Option(help="DRPO's exemplars, to go with its system prompt.")
    ] = None,
    inputs: Annotated[
        str | None, typer.Option(help="Input fields of a DSPy program, with commas between.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Reads a prompt of URIAL, icl-alignment, DRPO or a saved DSPy program, and writes a pack.

    Example: icl-align import inst_1k_v4.txt --to urial.json
    """
    from icl_align.importers import AUTO, detect, import_pack

    name = detect(file) if form == AUTO else form
    if inputs is not None and name != "dspy":
        raise UserError(f"--inputs is for programs of DSPy, and {file} is read as {name!r}")
    if exemplars is not None and name != "drpo":
        raise UserError(f"--exemplars is for results of DRPO, and {file} is read as {name!r}")
    if inputs is not None:
        from icl_align.importers.dspy_saved import read

        pack = read(file, inputs=[part.strip() for part in inputs.split(",")])
    else:
        pack = import_pack(file, name)
    if exemplars is not None:
        from icl_align.importers.drpo import read_pool, with_exemplars

        pack = with_exemplars(pack, read_pool(exemplars))
    pack.save(to)
    told = {"pack": str(to), "format": name, "digest": pack.prompt.digest}
    typer.echo(
        as_text({**told, "exemplars": len(pack.prompt.exemplars)}) if as_json else f"wrote {to}"
    )
