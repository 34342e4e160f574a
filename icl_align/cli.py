"""The command line: one short function per verb; heavy imports stand inside the verbs that need them.

Data goes to stdout, progress and messages to stderr. A user's mistake is one line and exit code 2; a bug
keeps its traceback.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icl_align.errors import UserError

if TYPE_CHECKING:
    from icl_align.pack import Pack


app = typer.Typer(
    name="icl-align",
    help="Find, prove and ship stronger URIAL prompts for base language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Folder = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")]
PackFile = Annotated[
    Path, typer.Argument(metavar="PACK", help="A pack (JSON) or a URIAL prompt text.")
]


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/quickstart"),
    seed: Annotated[int, typer.Option(help="Seed of the search; one folder holds one seed.")] = 0,
    as_json: AsJson = False,
) -> None:
    """The whole story on the bundled model: sweep, confirm, export, table. A few minutes on a laptop.

    Example: icl-align quickstart --out runs/quickstart --seed 0
    """
    from icl_align.config import bundled_experiment
    from icl_align.prove import prove
    from icl_align.run import start
    from icl_align.show import progress, proof_table

    run = start(bundled_experiment(seed), out)
    with progress(quiet=as_json) as on_trial:
        run.sweep(on_trial)
    proof = prove(run)
    typer.echo(_json(proof.to_json()) if as_json else proof_table(proof))


@app.command()
def run(  # noqa: PLR0913, PLR0917 (a verb's options)
    experiment: Annotated[
        Path, typer.Argument(metavar="EXPERIMENT.toml", help="The experiment file.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; runs/NAME by default.")
    ] = None,
    sampler: Annotated[
        str | None, typer.Option(help="structured, tpe, tpe-racing, random, greedy, ...")
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many trials in all.")
    ] = None,
    generations: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many generations in all.")
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many generated tokens.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Stop after so much time spent measuring.")
    ] = None,
    money: Annotated[float | None, typer.Option(help="Stop after so much, by the prices.")] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Trials proposed and measured together.")
    ] = None,
    earlier: Annotated[
        list[Path] | None, typer.Option(help="A run whose best prompts come first; repeatable.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it will cost.")] = False,
    model: Annotated[
        str | None, typer.Option(help="Model folder or Hub id, instead of the file's.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed, instead of the file's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Starts a sweep, or continues the one in the folder; nothing is paid for twice.

    A limit given here replaces all limits of the file. Ctrl-C lets the batch in flight end, and saves.

    Example: icl-align run experiments/bundled.toml --out runs/first --generations 2000
    """
    from icl_align.config import load_experiment
    from icl_align.forecast import forecast
    from icl_align.run import EXPERIMENT_FILE, open_run, start, summary
    from icl_align.show import cancelling, forecast_table, progress, sweep_table

    loaded = load_experiment(experiment).override(
        model=model,
        seed=seed,
        sampler=sampler,
        trials=trials,
        generations=generations,
        tokens=tokens,
        seconds=seconds,
        money=money,
        batch=batch,
    )
    folder = out or Path("runs") / loaded.name
    if dry_run:
        before = open_run(folder) if (folder / EXPERIMENT_FILE).exists() else None
        cost = forecast(loaded, before)
        typer.echo(_json(cost) if as_json else forecast_table(cost))
        return
    opened = start(loaded, folder)
    with progress(quiet=as_json) as on_trial:
        sweep = opened.sweep(on_trial, cancelling, earlier or ())
    found = summary(opened, sweep)
    typer.echo(_json(found) if as_json else sweep_table(found))
    if sweep.interrupted:
        raise typer.Exit(130)


@app.command()
def top(
    folder: Folder,
    n: Annotated[int, typer.Option("-n", "--number", min=1, help="How many prompts.")] = 10,
    pareto: Annotated[
        bool, typer.Option("--pareto", help="Only prompts that no shorter one equals.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """The best prompts of a run on the dev instructions: what is believed of them, and what was measured.

    Example: icl-align top runs/first -n 5
    """
    from icl_align.run import open_run, ranking
    from icl_align.show import ranking_table

    rows = ranking(open_run(folder), n, pareto=pareto)
    typer.echo(_json({"run": str(folder), "top": rows}) if as_json else ranking_table(rows))


@app.command()
def confirm(
    folder: Folder,
    against: Annotated[
        list[Path] | None, typer.Option(help="Packs or URIAL texts to compare with; repeatable.")
    ] = None,
    random_search: Annotated[
        bool | None,
        typer.Option(help="Compare with a random search's winner, at as many generations."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Proves the winner on untouched instructions, against the hand-written prompt and others.

    Example: icl-align confirm runs/first --against other-pack.json
    """
    from icl_align.prove import prove
    from icl_align.run import open_run
    from icl_align.show import progress, proof_table

    with progress(quiet=as_json) as on_trial:
        proof = prove(
            open_run(folder), against or (), random_search=random_search, on_trial=on_trial
        )
    typer.echo(_json(proof.to_json()) if as_json else proof_table(proof))


@app.command()
def compare(
    experiment: Annotated[
        Path, typer.Argument(metavar="EXPERIMENT.toml", help="The experiment file.")
    ],
    samplers: Annotated[
        str, typer.Option(help="Names with commas between: structured,tpe,random,dspy-mipro,...")
    ],
    seeds: Annotated[int, typer.Option(help="How often each one searches, with seeds from 0.")] = 5,
    generations: Annotated[
        int | None, typer.Option(help="The budget of each search, instead of the file's.")
    ] = None,
    points: Annotated[
        int, typer.Option(help="Look at each after so many equal parts of its budget.")
    ] = 1,
    warm_start: Annotated[
        bool, typer.Option("--warm-start", help="Start from the hand-written prompts.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the contest; runs/NAME-contest by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Lets samplers search with equal budgets, and judges what each finds on untouched instructions.

    Killed or interrupted, it continues with the same command; nothing is paid for twice.

    Example: icl-align compare experiments/bundled.toml --samplers random,structured --generations 800
    """
    from icl_align.config import load_experiment
    from icl_align.contest import compete, recorded, rules_of
    from icl_align.show import cancelling, contest_progress, contest_table

    loaded = load_experiment(experiment)
    rules = rules_of(
        loaded, samplers, generations=generations, seeds=seeds, points=points, warm_start=warm_start
    )
    folder = out or Path("runs") / f"{loaded.name}-contest"
    with contest_progress(quiet=as_json) as on_progress:
        outcome = compete(loaded, rules, folder, on_progress=on_progress, on_cancel=cancelling)
    found = recorded(outcome)
    typer.echo(_json(found) if as_json else contest_table(found))
    if outcome.interrupted:
        raise typer.Exit(130)


@app.command()
def export(
    folder: Folder,
    to: Annotated[
        Path, typer.Option(help="FILE.json for a pack, FILE.txt for a URIAL prompt text.")
    ],
    max_tokens: Annotated[
        int | None,
        typer.Option(min=0, help="The best measured prompt of at most so many tokens instead."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Writes a run's confirmed winner (or, before confirm, its best dev prompt) to a file.

    Example: icl-align export runs/first --to tuned.json
    """
    from icl_align.prove import winner_pack
    from icl_align.run import open_run

    pack = winner_pack(open_run(folder), max_tokens)
    pack.save(to)
    typer.echo(_json({"pack": str(to), "digest": pack.prompt.digest}) if as_json else f"wrote {to}")


@app.command()
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
        typer.echo(_json({"text": text, "stop": list(prompt.stop), "digest": prompt.digest}))
    else:
        sys.stdout.buffer.write(text.encode("utf-8"))
        sys.stdout.buffer.flush()


@app.command()
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
    from icl_align.types import Example
    from icl_align.use import answers

    if (query is None) == (input_ is None):
        raise UserError("answer takes one of --query TEXT and --input FILE")
    examples = [Example(query)] if query is not None else read_examples(input_ or Path())
    rows = answers(_pack(pack), examples, model)
    if query is not None and not as_json:
        typer.echo(rows[0]["answer"])
    elif query is not None:
        typer.echo(_json(rows[0]))
    else:
        for row in rows:
            typer.echo(json.dumps(row, ensure_ascii=False))


@app.command()
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
    from icl_align.use import lint_file

    findings = lint_file(file, items, model)
    if as_json:
        typer.echo(_json({"file": str(file), "findings": findings}))
    else:
        for found in findings:
            typer.echo(
                f"{found['where']}: {found['severity']}: {found['message']} [{found['code']}]"
            )
        if not findings:
            typer.echo(f"{file}: nothing found", err=True)
    if any(found["severity"] == "error" for found in findings):
        raise typer.Exit(1)


@app.command()
def doctor(
    experiment: Annotated[
        str, typer.Argument(metavar="EXPERIMENT", help="An experiment file, or: bundled.")
    ] = "bundled",
    engine: Annotated[str | None, typer.Option(help="Another engine: hf, openai, vllm.")] = None,
    model: Annotated[str | None, typer.Option(help="Another model: a folder or a name.")] = None,
    base_url: Annotated[
        list[str] | None, typer.Option(help="Where a server is; may be given several times.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tries what an engine can do: before a sweep. Exit code 1 if it must not be relied on.

    Example: icl-align doctor --engine openai --model my/model --base-url http://127.0.0.1:8000/v1
    """
    from dataclasses import asdict

    from icl_align.config import BUNDLED, Experiment, load_experiment
    from icl_align.doctor import engine_of, examine
    from icl_align.show import finding_line

    whole = (
        Experiment.for_model(BUNDLED)
        if experiment == BUNDLED
        else load_experiment(Path(experiment))
    )
    made = engine_of(whole, engine, model, base_url or ())
    findings = []
    for found in examine(made):
        findings.append(asdict(found))
        if not as_json:
            typer.echo(finding_line(found))
    if as_json:
        typer.echo(
            _json({"engine": made.name, "fingerprint": made.fingerprint, "findings": findings})
        )
    if any(found["verdict"] == "wrong" for found in findings):
        raise typer.Exit(1)


def _pack(path: Path) -> Pack:
    from icl_align.pack import Pack

    return Pack.load(path)


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)


def main() -> None:
    """Runs the command line.

    A `UserError`, or an operating-system error about a user's file, is one line and exit code 2.
    """
    # Threads that wait should spin only briefly: docs/performance.md has what it costs when others
    # want the same cores. Whoever has set one of these knows better.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        app()
    except UserError as error:
        _fail(str(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except (PermissionError, FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        _fail(f"{error.strerror}: {error.filename}")
    except OSError as error:
        if error.errno not in (28, 30, 122):  # disk full, read-only file system, quota
            raise
        _fail(f"{error.strerror}: {error.filename or 'while writing'}; what was recorded is intact")
    except KeyboardInterrupt:
        typer.echo("interrupted; run the same command again to continue", err=True)
        raise SystemExit(130) from None


def _fail(message: str) -> None:
    line = " ".join(message.split())
    typer.echo(f"icl-align: {line}", err=True)
    raise SystemExit(2)
