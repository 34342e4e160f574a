"""The command line: one short function per verb, a file per kind of verb.

Heavy imports stand inside the verbs that need them.

Data goes to stdout, progress and messages to stderr. A user's mistake is one line and exit code 2; a bug
keeps its traceback.
"""

from __future__ import annotations

import os
import sys

import typer

from icl_align.cli import (
    contest,
    dashboard,
    engines,
    exports,
    importing,
    judge,
    judging,
    length,
    library,
    packs,
    reports,
    search,
    serving,
    shift,
    tables,
)
from icl_align.errors import UserError

_INTERRUPTED = 130

app = typer.Typer(
    name="icl-align",
    help="Find, prove and ship stronger URIAL prompts for base language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for verb, short in (
    (search.quickstart, "Sweep, confirm and export on the bundled model."),
    (search.run, "Start a sweep, or continue it."),
    (search.top, "The best prompts so far."),
    (search.confirm, "Prove the winner on untouched instructions."),
    (contest.compare, "Samplers against one another at equal budgets."),
    (contest.rescore, "Another objective on what a run generated."),
    (reports.report, "A run as one page without network."),
    (reports.explain, "Why the winner won, and where it loses."),
    (dashboard.dashboard, "optuna-dashboard on a run; people's preferences."),
    (exports.export, "The winner as a pack, or in another format."),
    (exports.verify, "Byte equality of a pack's exports."),
    (packs.show, "The exact bytes that are sent."),
    (packs.answer, "Answer with a pack's prompt and model."),
    (packs.lint, "What is wrong with a prompt."),
    (library.index, "A pack that picks exemplars for each query."),
    (library.push, "Upload a pack to the Hugging Face Hub."),
    (library.pull, "Download a pack from the Hub, checked."),
    (judging.refine, "The best of several answers, mended."),
    (serving.serve, "A base model as a chat endpoint."),
    (serving.chat, "A base model as a chat in the terminal."),
    (engines.doctor, "Try what an engine or a server can do."),
    (length.lc, "Win rates at equal length."),
    (tables.tables, "Judges' records as tables."),
    (shift.shift, "What alignment changed, token by token."),
):
    app.command(short_help=short)(verb)
for one, short in (
    (judging.compare, "Files of answers against one another."),
    (judging.calibrate, "Measure each judge's scale."),
    (judging.draft, "Draft yes/no questions for instructions."),
):
    judge.judge_app.command(short_help=short)(one)
app.add_typer(judge.judge_app, name="judge")
app.command("import", short_help="A prompt of another tool as a pack.")(importing.import_)
app.add_typer(library.packs_app, name="packs")


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
    except (
        PermissionError,
        FileNotFoundError,
        FileExistsError,
        IsADirectoryError,
        NotADirectoryError,
    ) as error:
        _fail(f"{error.strerror}: {error.filename}")
    except OSError as error:
        if error.errno not in (28, 30, 122):  # disk full, read-only file system, quota
            raise
        _fail(f"{error.strerror}: {error.filename or 'while writing'}; what was recorded is intact")
    except SystemExit as end:
        if end.code == _INTERRUPTED:  # Typer makes it of a KeyboardInterrupt, without a word
            typer.echo("interrupted; run the same command again to continue", err=True)
        raise


def _fail(message: str) -> None:
    line = " ".join(message.split())
    typer.echo(f"icl-align: {line}", err=True)
    raise SystemExit(2)
