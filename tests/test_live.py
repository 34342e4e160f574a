"""Promises of icl_align.live: what a sweep shows while it runs, on a terminal and without one.

Run as a script (`test_live.py FOLDER`), this file is the sweep that its own tests look at.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from small_run import small_experiment
from test_sweep_blocks import EXAMPLES, SPACE, STRUCTURED, Landscape

from icl_align.evaluate import EngineEvaluator
from icl_align.ledger import sqlite_url
from icl_align.live import progress
from icl_align.live.display import shares
from icl_align.live.state import Display, clock_text
from icl_align.live.sweep import SweepFacts, speed_text
from icl_align.prompt import FORMATS, Prompt
from icl_align.run import start
from icl_align.search.budget import Budget
from icl_align.search.sweep import Progress, run_sweep
from icl_align.types import Decoding, Example, Response, Score, Usage


def watched(command: Sequence[str], columns: int = 100) -> tuple[str, str]:
    """Runs a process with a terminal for its stderr; gives what that and stdout have got."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns)}
    env.pop("NO_COLOR", None)
    process = subprocess.Popen(command, env=env, stderr=theirs, stdout=subprocess.PIPE, text=True)
    os.close(theirs)
    found = b""
    while True:
        try:
            part = os.read(ours, 1 << 16)
        except OSError:  # Linux says so that the other end is closed
            break
        if not part:
            break
        found += part
    os.close(ours)
    data, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return found.decode(), data


def sweeping(folder: Path) -> list[str]:
    """The command of this file's own sweep."""
    return [sys.executable, __file__, str(folder)]


def test_a_terminal_sees_the_state_redrawn_in_place(tmp_path: Path) -> None:
    """The bar with its ETA, the best prompt with its uncertainty, what was left early, speed and savings."""
    drawn, _ = watched(sweeping(tmp_path))
    assert "\x1b[1A" in drawn, "it is drawn over itself"
    frame = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn)[-1200:]
    assert "12 of 12 trials" in frame
    assert re.search(r"best +0\.\d{3} \u00b1 0\.\d{3} on dev \(trial \d+: K=\d, 19 of 20", frame)
    assert re.search(
        r"tried +\d+ prompts in 12 trials, 0 dropped early; \d+ measured on 10 instructions or more, "
        r"\d+ on all 20",
        " ".join(frame.split()),
    )
    assert re.search(r"tokens/s, prefill 40% saved, \d+ paid, \d+ from the ledger", frame)
    assert re.search(r"left +0:00:00", frame)


def test_no_line_is_wider_than_the_terminal(tmp_path: Path) -> None:
    """On a narrow one the facts fold; a line that wraps by itself would not be redrawn in place."""
    drawn, _ = watched(sweeping(tmp_path), columns=44)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn)
    assert max(map(len, re.split(r"[\r\n]+", plain))) <= 44


def test_without_a_terminal_there_are_plain_lines(tmp_path: Path) -> None:
    """One at once and one at the end, without any control character."""
    done = subprocess.run(sweeping(tmp_path), check=True, capture_output=True, text=True)
    told = done.stderr
    lines = told.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("  8%  1 of 12 trials  best 0.")
    assert lines[1].startswith("100%  12 of 12 trials  best 0.")
    assert "prefill 40% saved" in lines[1]
    assert all(letter.isprintable() for line in lines for letter in line)


def test_data_stays_on_stdout(tmp_path: Path) -> None:
    """`icl-align answer --input FILE > answers.jsonl` on a terminal: the display takes none of the lines."""
    source = """
import time
from icl_align.live import shares
with shares("x", quiet=False) as update:
    for number in range(5):
        print("row", number)
        update(number / 4, "some")
        time.sleep(0.1)
"""
    drawn, data = watched([sys.executable, "-c", source])
    assert data.splitlines() == [f"row {number}" for number in range(5)]
    assert "row" not in drawn
    assert "some" in drawn


def test_an_interrupt_is_seen_to_be_heard(tmp_path: Path) -> None:
    """On a terminal it is part of what is drawn, so that nothing draws over it; else it is a line."""
    source = """
import sys, time
from icl_align.live import shares
with shares("x", quiet=len(sys.argv) > 1) as shown:
    shown(0.1, "some")
    shown.cancelling()
    time.sleep(0.6)
    shown(0.2, "more")
    time.sleep(0.6)
"""
    command = [sys.executable, "-c", source]
    drawn, _ = watched(command)
    assert "once more stops at once" in drawn.rpartition("more")[2] + drawn[-400:]
    assert drawn.count("stopping when the batch") > 2, "each frame has it"
    for more in ([], ["quiet"]):
        done = subprocess.run([*command, *more], check=True, capture_output=True, text=True)
        assert done.stderr.count("stopping when the batch in flight is done") == 1


def test_a_log_hears_that_a_long_batch_goes_on() -> None:
    """Loading a large model, or its first batch, takes minutes in which no trial ends."""
    source = """
import time
from icl_align.live import shares
with shares("sweep", quiet=False, beat_s=0.2, pulse=lambda: {"speed": "9 tokens/s"}) as shown:
    time.sleep(0.7)
    shown(0.5, "half")
    time.sleep(0.7)
"""
    done = subprocess.run(
        [sys.executable, "-c", source], check=True, capture_output=True, text=True
    )
    lines = done.stderr.splitlines()
    assert lines[0] == "  0%  sweep  speed 9 tokens/s  still going on"
    assert " 50%  half  speed 9 tokens/s" in lines[1:]
    assert lines[-1] == " 50%  half  speed 9 tokens/s  still going on"


def test_quiet_is_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json a log gets nothing."""
    with shares("x", quiet=True) as update:
        update(0.0, "none")
        update(1.0, "all")
    assert capsys.readouterr().err == ""


def test_plain_lines_say_how_long_it_will_take(capsys: pytest.CaptureFixture[str]) -> None:
    """By this process's speed: what earlier ones have done took it no time."""
    moments = iter([0.0, 0.0, 20.0, 40.0, 50.0])
    with shares(
        "x", quiet=False, pulse=lambda: {"speed": "fast"}, clock=lambda: next(moments)
    ) as update:
        update(0.5, "half")
        update(0.6, "more")
        update(0.7, "[bold]more[/bold]")
        update(1.0, "all")
    assert capsys.readouterr().err.splitlines() == [
        " 50%  half  speed fast",
        " 60%  more  speed fast  0:01:20 left",
        " 70%  [bold]more[/bold]  speed fast  0:01:00 left",
        "100%  all  speed fast",
    ]


def test_the_end_is_told_also_short_of_the_whole(capsys: pytest.CaptureFixture[str]) -> None:
    """A budget of generations mostly leaves a rest that no trial fits into, and Ctrl-C comes early."""
    with shares("x", quiet=False) as update:
        update(0.1, "some")
        update(0.98, "most")
    assert capsys.readouterr().err.splitlines() == [" 10%  some", " 98%  most"]


def test_the_time_left_goes_by_all_that_was_done() -> None:
    """The trials of a batch come in one moment, minutes after the last; they are no speed."""
    display = Display("x", started=0.0, updated=100.004, first=0.0, share=0.02)
    left = display.left(110.004)
    assert left == pytest.approx(100.004 / 0.02 * 0.98 - 10)
    assert Display("x").left(5.0) is None


@pytest.mark.parametrize("change", [{"TERM": "dumb"}, {"FORCE_COLOR": "1"}])
def test_what_cannot_be_redrawn_has_plain_lines(tmp_path: Path, change: dict[str, str]) -> None:
    """A dumb terminal would see nothing before the end, a log would be full of controls."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm"} | change
    dumb = "TERM" in change
    done = subprocess.run(
        sweeping(tmp_path), env=env, check=True,
        stderr=theirs if dumb else subprocess.PIPE, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(theirs)
    told = (os.read(ours, 1 << 16) if dumb else done.stderr).decode()
    os.close(ours)
    first, last = told.splitlines()
    assert first.startswith("  8%  1 of 12 trials")
    assert last.startswith("100%  12 of 12 trials")
    assert "\x1b" not in told


def test_nobody_has_to_read_it(tmp_path: Path) -> None:
    """`2>&1 | head -1` ends what is shown, not what is done."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(sweeping(tmp_path), check=False, stderr=writing)
    os.close(writing)
    assert done.returncode == 0
    assert len(start(small_experiment(tmp_path), tmp_path / "run").trials()) == 12


def test_clock() -> None:
    """As Rich writes the time that has passed."""
    assert (
        clock_text(59.6),
        clock_text(3599),
        clock_text(3600),
        clock_text(90_061),
        clock_text(None),
    ) == (
        "0:01:00",
        "0:59:59",
        "1:00:00",
        "1 day, 1:01:01",
        "-:--:--",
    )


def sweep(folder: Path, *, look: bool) -> tuple[list[Progress], list[object]]:
    """A sweep by our sampler, of which the best prompt is looked at after each trial or never."""
    told: list[Progress] = []
    looks: list[object] = []

    def on_trial(now: Progress) -> None:
        told.append(now)
        if look:
            looks.append(now.best)

    folder.mkdir()
    found = run_sweep(
        SPACE,
        EXAMPLES,
        Landscape(),
        url=sqlite_url(folder / "run.db"),
        budget=Budget(generations=400),
        sampler=STRUCTURED,
        seed=3,
        on_trial=on_trial,
    )
    return told, [[(t.params, t.mean) for t in found.trials], found.best and found.best.to_json()]


def test_looking_at_the_best_changes_nothing(tmp_path: Path) -> None:
    """The study is the same whether or not anybody watches; the last look is the sweep's own result."""
    told, watched_study = sweep(tmp_path / "a", look=True)
    _, unwatched = sweep(tmp_path / "b", look=False)
    assert watched_study == unwatched
    assert told[-1].best is not None
    assert told[-1].best.to_json() == watched_study[1]


def test_counts_of_prompts_survive_a_restart(tmp_path: Path) -> None:
    """What earlier processes measured is counted, each prompt once."""
    told, _ = sweep(tmp_path / "a", look=False)
    again: list[Progress] = []
    found = run_sweep(
        SPACE,
        EXAMPLES,
        Landscape(),
        url=sqlite_url(tmp_path / "a" / "run.db"),
        budget=Budget(generations=600),
        sampler=STRUCTURED,
        seed=3,
        on_trial=again.append,
    )
    last, records = again[-1], found.trials
    prompts = {t.evaluation.prompt.digest for t in records if t.evaluation}
    whole = {t.evaluation.prompt.digest for t in records if t.evaluation and t.state == "complete"}
    assert again[0].trial.number == told[-1].trial.number + 1
    half = {
        t.evaluation.prompt.digest for t in records if t.evaluation and len(t.evaluation.ids) >= 20
    }
    assert (last.prompts, last.half, last.whole) == (len(prompts), len(half), len(whole))
    assert last.dropped == len(prompts) - len(half)
    assert last.dropped > 0


def test_looking_is_thrifty(tmp_path: Path) -> None:
    """Working out the best takes at most a twentieth of the time, and it is always done at the end."""
    told, _ = sweep(tmp_path / "a", look=False)
    moment, looks = 0.0, 0

    def clock() -> float:
        return moment

    facts = SweepFacts(clock=clock)
    for now in told:
        moment += 0.5
        before = now.__dict__.get("best")
        facts.facts(now)
        if before is None and "best" in now.__dict__:
            looks += 1
    assert 0 < looks <= len(told) * 0.5 / 1.0 + 2
    assert "best" in told[-1].__dict__


@dataclass
class Dripping:
    """An engine that hands over one response at a time, and looks around after each."""

    evaluator: EngineEvaluator | None = None
    seen: list[int] = field(default_factory=list)
    name: str = "dripping"
    fingerprint: str = "dripping-1"

    def generate(
        self, prompts: Sequence[str], *, stop: Sequence[str], decoding: Decoding
    ) -> list[Response]:
        return [response for _, response in self.stream(prompts, stop=stop, decoding=decoding)]

    def stream(
        self, prompts: Sequence[str], *, stop: Sequence[str], decoding: Decoding
    ) -> Iterator[tuple[int, Response]]:
        del stop, decoding
        for index, _ in enumerate(prompts):
            if self.evaluator:
                self.seen.append(self.evaluator.usage.paid)
            yield index, Response("yes", 2, "stop", 10, 5)


class Half:
    """Grades everything alike."""

    name = fingerprint = "half"

    def score(self, examples: Sequence[Example], responses: Sequence[Response]) -> list[Score]:
        del responses
        return [Score(0.5) for _ in examples]


def test_a_batch_in_flight_is_counted_as_it_comes() -> None:
    """A batch of a large model takes minutes: the display need not wait for its end."""
    engine = Dripping()
    evaluator = EngineEvaluator(engine, Half())
    engine.evaluator = evaluator
    evaluator(Prompt("Be kind.", (), FORMATS["block"]), EXAMPLES[:5])
    assert engine.seen == [0, 1, 2, 3, 4]
    usage = evaluator.usage
    assert (usage.paid, usage.prompt_tokens, usage.reused_tokens) == (5, 50, 25)
    assert usage.generated_tokens == 10


def test_speed_says_nothing_that_is_not_known() -> None:
    """An engine that counts no prompt tokens has saved nothing that could be told."""
    assert speed_text(Usage(paid=3, cached=1)) == "3 paid, 1 from the ledger"
    assert speed_text(Usage(3, 1, 100, 25, 50, 2.0)) == (
        "25 tokens/s, prefill 25% saved, 3 paid, 1 from the ledger"
    )


if __name__ == "__main__":
    opened = start(
        small_experiment(Path(sys.argv[1]), search={"sampler": "random", "trials": 12}),
        Path(sys.argv[1]) / "run",
    )

    def slowly(now: Progress) -> None:
        watch.on_trial(now)
        time.sleep(0.06)

    with progress(usage=opened.usage) as watch:
        opened.sweep(slowly)
