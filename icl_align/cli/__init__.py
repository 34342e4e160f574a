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

for verb in (
    search.quickstart,
    search.run,
    search.top,
    search.confirm,
    contest.compare,
    contest.rescore,
    reports.report,
    reports.explain,
    dashboard.dashboard,
    exports.export,
    exports.verify,
    packs.show,
    packs.answer,
    packs.lint,
    library.index,
    library.push,
    library.pull,
    judging.refine,
    serving.serve,
    serving.chat,
    engines.doctor,
    length.lc,
    tables.tables,
    shift.shift,
):
    app.command()(verb)
for one in (judging.compare, judging.calibrate, judging.draft):
    judge.judge_app.command()(one)
app.add_typer(judge.judge_app, name="judge")
app.command("import")(importing.import_)
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
