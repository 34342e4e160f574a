"""The verb about judges' records: tables."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from icl_align.cli._app import AsJson
from icl_align.errors import UserError


class Kind(StrEnum):
    """What the records are of."""

    JUST_EVAL = "just-eval"
    MT_BENCH = "mt-bench"


class Form(StrEnum):
    """How a table is written."""

    MARKDOWN = "markdown"
    CSV = "csv"
    JSON = "json"


def tables(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Judges' records: JSONL, or .gz.")],
    kind: Annotated[Kind, typer.Option(help="What the records are of.")] = Kind.JUST_EVAL,
    by: Annotated[
        str,
        typer.Option(
            help="Groups, with commas: model, judge, aspect, task_type, topic, difficulty, tag, "
            "category, source; for mt-bench: model, judge, turn, category."
        ),
    ] = "model",
    na: Annotated[
        str, typer.Option(help="N/A: drop, or a number to stand in for it (5: as published).")
    ] = "drop",
    questions: Annotated[
        Path | None, typer.Option(help="For mt-bench: questions with their categories.")
    ] = None,
    form: Annotated[Form, typer.Option("--format", help="How to write it.")] = Form.MARKDOWN,
    digits: Annotated[int, typer.Option(min=0, max=12, help="Decimals, in Markdown.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the intervals' bootstrap.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Tabulates judges' records: means with intervals, what was N/A, what could not be read.

    Example: icl-align tables ratings.jsonl --kind just-eval --by model,aspect --na drop
    """
    from icl_align.analysis.just_eval import just_eval_table, read_ratings
    from icl_align.analysis.mt_bench import mt_bench_table, read_judgments

    groups = [name.strip() for name in by.split(",") if name.strip()]
    if kind is Kind.MT_BENCH:
        if na != "drop":
            raise UserError("--na is for just-eval; MT-Bench's unscored judgments are left out")
        table = mt_bench_table(read_judgments(file, questions), groups, seed=seed)
    else:
        if questions is not None:
            raise UserError("--questions is for mt-bench; just-eval's records hold their labels")
        table = just_eval_table(read_ratings(file), groups, na=_rule(na), seed=seed)
    typer.echo(table.render("json" if as_json else form.value, digits))


def _rule(na: str) -> Literal["drop"] | float:
    if na == "drop":
        return "drop"
    try:
        return float(na)
    except ValueError as error:
        raise UserError(f"--na is drop or a number from 1 to 5, got {na!r}") from error
