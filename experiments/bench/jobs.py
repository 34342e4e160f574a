"""Many independent tasks on some processes; each result is kept as soon as it is there."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERSION = 1
"""Version of a file of results."""


@dataclass(frozen=True, slots=True)
class Task:
    """One call of a function.

    Attributes:
        key: What tells its result from others', as JSON values.
        arguments: What the function is called with.
    """

    key: Mapping[str, Any]
    arguments: tuple[Any, ...] = ()

    @property
    def name(self) -> str:
        """The key as one line."""
        return json.dumps(dict(self.key), sort_keys=True)


def gather(
    work: Callable[..., dict[str, Any]],
    tasks: Sequence[Task],
    *,
    path: Path | None = None,
    about: Mapping[str, Any] | None = None,
    stamp: Mapping[str, Any] | None = None,
    again: Callable[[Mapping[str, Any]], bool] | None = None,
    jobs: int = 1,
    begin: tuple[Callable[..., None], tuple[Any, ...]] | None = None,
) -> list[dict[str, Any]]:
    """Does tasks, those without a result in the file.

    Args:
        work: Gives a task's result, as JSON values; a function of a module, so that others can call it.
        tasks: What is to be done, with distinct keys.
        path: A file of one JSON line per result, read first and added to; None to keep nothing.
        about: What results depend on besides their keys.
        stamp: What is added to every new result.
        again: Says of a key in the file whether to forget its result.
        jobs: Processes; 1 is this one.
        begin: What a new process calls first, and with what.

    Returns:
        The results in the order of tasks, each together with its key.

    Raises:
        ValueError: the file is about something else.
        RuntimeError: some task failed; the others are done all the same.
        Exception: what a task raised, with one process.
    """
    known = _read(path, dict(about or {}), again or (lambda _: False))
    todo = [task for task in tasks if task.name not in known]
    start = time.perf_counter()

    def keep(task: Task, result: dict[str, Any]) -> None:
        known[task.name] = result = {**result, **(stamp or {})}
        if path is not None:
            with path.open("a", encoding="utf-8") as file:
                line = {"key": dict(task.key), "result": result}
                file.write(json.dumps(line, allow_nan=False) + "\n")
        done = sum(one.name in known for one in todo)
        took = time.perf_counter() - start
        left = took / done * (len(todo) - done)
        print(f"{done}/{len(todo)}, {left:,.0f} s left: {task.name}", file=sys.stderr, flush=True)

    if jobs == 1:
        for task in todo:
            keep(task, work(*task.arguments))
    elif todo:
        _spread(work, todo, keep, jobs, begin)
    return [{**task.key, **known[task.name]} for task in tasks]


def _spread(
    work: Callable[..., dict[str, Any]],
    todo: Sequence[Task],
    keep: Callable[[Task, dict[str, Any]], None],
    jobs: int,
    begin: tuple[Callable[..., None], tuple[Any, ...]] | None,
) -> None:
    """Does tasks on fresh processes; results are kept by this one alone."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by the libraries of the new processes
    pool = ProcessPoolExecutor(
        jobs, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(begin,)
    )
    failed: list[tuple[Task, BaseException]] = []
    try:
        futures = {pool.submit(work, *task.arguments): task for task in todo}
        for future in as_completed(futures):
            error = future.exception()
            if error is None:
                keep(futures[future], future.result())
            else:
                failed.append((futures[future], error))
                print(f"failed: {futures[future].name}: {error!r}", file=sys.stderr, flush=True)
    finally:
        pool.shutdown(cancel_futures=True)
    if failed:
        task, error = failed[0]
        raise RuntimeError(
            f"{len(failed)} of {len(todo)} tasks failed, first {task.name}"
        ) from error


def _begin(begin: tuple[Callable[..., None], tuple[Any, ...]] | None) -> None:
    """Ties a process to its parent: when that is killed, this one ends too."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    if begin is not None:
        begin[0](*begin[1])


def _read(
    path: Path | None, about: dict[str, Any], again: Callable[[Mapping[str, Any]], bool]
) -> dict[str, dict[str, Any]]:
    """Reads the results there are, cuts off a line that was being written, and starts a new file."""
    if path is None:
        return {}
    head = {"version": VERSION, "about": about}
    text = path.read_text("utf-8") if path.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    if not whole:
        path.write_text(json.dumps(head) + "\n", "utf-8")
        return {}
    first, *lines = whole.splitlines()
    if json.loads(first) != head:
        raise ValueError(
            f"{path} holds results about {first}, wanted are some about {json.dumps(head)}; "
            "move it away, or write elsewhere"
        )
    kept = [line for line in lines if not again(json.loads(line)["key"])]
    if whole != text or len(kept) < len(lines):
        aside = path.with_name(f"{path.name}.new")
        aside.write_text("".join(f"{line}\n" for line in [first, *kept]), "utf-8")
        aside.replace(path)
    found = [json.loads(line) for line in kept]
    return {Task(line["key"]).name: line["result"] for line in found}
