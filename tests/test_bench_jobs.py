"""Results are kept as they come, and nothing outlives its parent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bench.jobs import Task, gather


def tasks(count: int) -> list[Task]:
    return [Task({"number": number}, ({"square": number**2},)) for number in range(count)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_in_the_order_of_tasks(jobs: int, tmp_path: Path) -> None:
    """Together with their keys, on one process or more; each is a line of the file."""
    path = tmp_path / "kept.jsonl"
    found = gather(dict, tasks(3), path=path, jobs=jobs, stamp={"by": "me"})
    assert found == [{"number": n, "square": n**2, "by": "me"} for n in range(3)]
    assert len(path.read_text().splitlines()) == 1 + 3


def test_what_is_kept_is_not_done_again(tmp_path: Path) -> None:
    """Only what is missing, cut off, or to be forgotten."""
    path = tmp_path / "kept.jsonl"
    done: list[int] = []

    def work(square: dict[str, int]) -> dict[str, Any]:
        done.append(square["square"])
        return square

    gather(work, tasks(3), path=path)
    text = path.read_text()
    assert gather(work, tasks(4), path=path)[3]["square"] == 9
    assert done == [0, 1, 4, 9]
    path.write_text(text[:-5])
    gather(work, tasks(3), path=path, again=lambda key: key["number"] == 0)
    assert done == [0, 1, 4, 9, 0, 4]
    head, *lines = path.read_text().splitlines()
    assert json.loads(head)["version"] == 1
    assert [json.loads(line)["key"]["number"] for line in lines] == [1, 0, 2]


def test_a_file_about_something_else_is_refused(tmp_path: Path) -> None:
    """Results of another landscape are not mixed with these."""
    path = tmp_path / "kept.jsonl"
    gather(dict, tasks(1), path=path, about={"landscapes": "one"})
    with pytest.raises(ValueError, match="move it away"):
        gather(dict, tasks(1), path=path, about={"landscapes": "two"})


def test_a_failure_does_not_stop_the_others(tmp_path: Path) -> None:
    """They are done and kept; it is raised at the end, and tried again the next time."""
    path = tmp_path / "kept.jsonl"
    bad = Task({"number": -1}, (7,))
    with pytest.raises(RuntimeError, match="1 of 4 tasks failed"):
        gather(dict, [bad, *tasks(3)], path=path, jobs=2)
    assert len(path.read_text().splitlines()) == 1 + 3
    with pytest.raises(TypeError):
        gather(dict, [bad, *tasks(3)], path=path)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_processes_end_with_a_killed_parent() -> None:
    """Even if it had no time to tell them."""
    script = "import time; from bench.jobs import *; gather(time.sleep, [Task({}, (600,))], jobs=2)"
    folder = Path(__file__).parents[1] / "experiments"
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    parent = subprocess.Popen(
        [sys.executable, "-c", script], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        listed = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        workers: set[str] = set()
        end = time.monotonic() + 60
        while not workers and time.monotonic() < end:
            time.sleep(0.1)
            workers = {pid for pid in listed.read_text().split() if b"spawn_main" in command(pid)}
        time.sleep(1)  # a worker that is still starting ends by itself
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        while any(command(pid) for pid in workers) and time.monotonic() < end:
            time.sleep(0.1)
        assert workers
        assert not any(b"spawn_main" in command(pid) for pid in workers)
    finally:
        parent.kill()
        parent.wait()


def command(pid: str) -> bytes:
    """A process's command line; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
