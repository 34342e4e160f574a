"""Verbs that use judges: judge compare, judge calibrate, judge draft, and refine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from icl_align.cli._app import AsJson, PackFile, as_text
from icl_align.errors import UserError

if TYPE_CHECKING:
    from icl_align.ledger import Ledger
    from icl_align.scorers import Scorer

LedgerFile = Annotated[
    Path | None,
    typer.Option(
        "--ledger", help="Keeps answers and verdicts here (SQLite): nothing is paid twice."
    ),
]
JudgeFile = Annotated[str, typer.Option("--judge", help="A judge's TOML file.")]


def compare(
    files: Annotated[
        list[Path], typer.Argument(metavar="ANSWERS...", help="JSONL of icl-align answer --input.")
    ],
    judge: JudgeFile,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the brackets, with more than two files.")
    ] = 0,
    ledger: LedgerFile = None,
    as_json: AsJson = False,
) -> None:
    """Compares files of answers: win rates, at equal length too; with more than two, a knock-out.

    Example: icl-align judge compare tuned.jsonl hand.jsonl --judge judge.toml
    """
    from icl_align.judging.duel import compared
    from icl_align.judging.remembered import RememberedJudge
    from icl_align.judging.shown import comparison_table
    from icl_align.passport.judges import load_judge

    made = load_judge(judge)
    if made.pairs is None:
        raise UserError(f"--judge {judge} cannot compare new responses; give a judge's TOML file")
    kept = _ledger(ledger)
    pairs = RememberedJudge(made.pairs, kept.notes) if kept else made.pairs
    found = compared(files, pairs, seed=seed)
    typer.echo(as_text(found) if as_json else comparison_table(found))


def calibrate(
    experiment: Annotated[
        Path, typer.Argument(metavar="EXPERIMENT.toml", help="The experiment file.")
    ],
    to: Annotated[Path, typer.Option(help="Where the scales go (JSON).")],
    terms: Annotated[str, typer.Option(help="Terms, with commas; all by default.")] = "",
    prompts: Annotated[int, typer.Option(min=1, help="How many prompts answer.")] = 4,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many instructions.")] = None,
    length: Annotated[bool, typer.Option(help="Take the taste for length off.")] = True,
    ledger: LedgerFile = None,
    as_json: AsJson = False,
) -> None:
    """Measures on which scale each judge grades, and what length is worth to it.

    Name the file in the experiment: [objective.NAME] calibration = "scales.json".

    Example: icl-align judge calibrate experiments/bundled.toml --to scales.json --prompts 4
    """
    from dataclasses import asdict

    from icl_align.assemble import build_engine, build_objective
    from icl_align.config import load_experiment
    from icl_align.evaluate import EngineEvaluator
    from icl_align.judging.calibrate import calibrate as measure
    from icl_align.judging.shown import calibration_table
    from icl_align.live import shares
    from icl_align.scorers.calibration import save_calibrations

    to.parent.mkdir(parents=True, exist_ok=True)
    loaded = load_experiment(experiment).without_calibrations()
    evaluator = EngineEvaluator(build_engine(loaded), build_objective(loaded), _ledger(ledger))
    names = tuple(name.strip() for name in terms.split(",") if name.strip())
    with shares("calibrate", quiet=as_json) as update:
        found = measure(
            loaded,
            evaluator,
            terms=names,
            prompts=prompts,
            limit=limit,
            length=length,
            on_progress=update,
            on_failure=lambda why: typer.echo(f"icl-align: warning: {why}", err=True),
        )
    save_calibrations(found, to)
    rows = {name: asdict(one) for name, one in found.items()}
    typer.echo(as_text({"file": str(to), "terms": rows}) if as_json else calibration_table(rows))


def draft(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Instructions.")],
    judge: JudgeFile,
    to: Annotated[Path, typer.Option(help="Instructions with questions, as JSONL.")],
    as_json: AsJson = False,
) -> None:
    """Drafts yes/no questions for each instruction, to be read and mended before they are used.

    The judge's file has scorer = "questions". The questions are checks of the kind "ask".

    Example: icl-align judge draft dev.jsonl --judge questions.toml --to dev-questions.jsonl
    """
    from icl_align.data import read_examples, write_examples
    from icl_align.scorers.questions import KIND, QuestionsScorer

    made = _scorer(judge)
    if not isinstance(made, QuestionsScorer):
        raise UserError(f'{judge}: to draft questions the judge needs scorer = "questions"')
    given = read_examples(file)
    to.parent.mkdir(parents=True, exist_ok=True)
    examples = made.drafted(given)
    write_examples(to, examples)
    counts = [sum(check.kind == KIND for check in example.checks) for example in examples]
    found = {
        "file": str(to),
        "instructions": len(counts),
        "questions": sum(counts),
        "without": sum(not count for count in counts),
    }
    said = f"wrote {to}: {sum(counts)} questions to {len(counts)} instructions"
    if found["without"]:
        said += f"; {found['without']} could not be read and have none"
    typer.echo(as_text(found) if as_json else said)


def refine(
    pack: PackFile,
    judge: JudgeFile,
    input_: Annotated[
        Path, typer.Option("--input", help="Instructions: JSONL, CSV or URIAL text.")
    ],
    samples: Annotated[
        int, typer.Option("-n", "--samples", min=1, help="Answers per instruction.")
    ] = 4,
    rounds: Annotated[int, typer.Option(min=0, help="Rounds of mending what is unmet.")] = 0,
    check: Annotated[
        str | None, typer.Option(help="A judge that only checks: the honest view of the gain.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Another model than the pack's.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the sampling.")] = 0,
    ledger: LedgerFile = None,
    as_json: AsJson = False,
) -> None:
    """Samples several answers, keeps the best by a judge, mends it by a checklist; says what that gains.

    Example: icl-align refine tuned.json --judge checklist.toml --input dev.jsonl -n 4
    """
    from icl_align.analysis.best_of import best_of
    from icl_align.assemble import build_engine
    from icl_align.config import Experiment
    from icl_align.data import read_examples
    from icl_align.evaluate import EngineEvaluator
    from icl_align.judging.shown import refine_table
    from icl_align.library import find_pack
    from icl_align.live import shares
    from icl_align.pack import Pack

    loaded = Pack.load(find_pack(pack))
    name = model or loaded.model.get("id")
    if not name:
        raise UserError("this pack names no model; give one with --model FOLDER or a Hub id")
    engine = build_engine(Experiment.for_model(str(name)))
    with shares("refine", quiet=as_json) as update:
        found = best_of(
            loaded.prompt,
            read_examples(input_),
            EngineEvaluator(engine, _scorer(judge), _ledger(ledger)),
            samples=samples,
            rounds=rounds,
            check=_scorer(check) if check else None,
            seed=seed,
            on_progress=update,
        ).to_json()
    typer.echo(as_text(found) if as_json else refine_table(found))


def _ledger(place: Path | None) -> Ledger | None:
    """Opens the ledger in a file, making its folder."""
    from icl_align.ledger import Ledger, sqlite_url

    if place is None:
        return None
    place.parent.mkdir(parents=True, exist_ok=True)
    return Ledger(sqlite_url(place.resolve()))


def _scorer(judge: str) -> Scorer:
    """Makes the scorer of a judge's file."""
    from icl_align.passport.judges import load_judge

    made = load_judge(judge)
    if made.scorer is None:
        raise UserError(
            f"--judge {judge} cannot score a response by itself; give a scorer's TOML file"
        )
    return made.scorer
