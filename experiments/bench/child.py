"""One contestant (or the measurement of the machine) in a process of its own, so that its memory is its own.

A process lives through all cells of a model; before each timed call the kernel's high-water mark of its
resident memory is set back (Linux: 5 written to /proc/self/clear_refs). Where that cannot be done, the mark
is that of the whole process, and the result says so.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from bench.machine import Peaks, busy_seconds, high_water, peaks, set_back
from bench.shapes import Cell

_MACHINE = "machine"
"""Name of the process that measures the machine's peaks."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where and how a contestant runs.

    Attributes:
        folder: The checkpoint.
        device: "cpu" or "cuda".
        dtype: "float32" or "bfloat16".
        threads: Threads of matrix products on the CPU.
    """

    folder: Path
    device: str
    dtype: str
    threads: int


@dataclass(frozen=True, slots=True)
class Timing:
    """One timed call, or the reason why there is none.

    Attributes:
        seconds: Wall clock.
        cpu_seconds: Processor time of all threads of the process.
        peak_mib: High-water mark of the process's memory during the call.
        extra_mib: The part of it above what the process held before the call.
        device_mib: High-water mark of what `torch` took of the GPU's memory; 0 on a CPU.
        others: Share of the machine's cores that other processes used meanwhile; 0 where unknown.
        words: What was generated, by rows.
        error: Why there are no figures.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_mib: float = 0.0
    extra_mib: float = 0.0
    device_mib: float = 0.0
    others: float = 0.0
    words: tuple[tuple[str, ...], ...] = ()
    error: str = ""


class Children:
    """One process per contestant, started when it is first asked for."""

    def __init__(self, place: Place) -> None:
        """Starts nothing yet."""
        self.place = place
        self._all: dict[str, tuple[BaseProcess, Connection]] = {}

    def ask(self, name: str, cell: Cell, vocabulary: int, rows: int, limit: float) -> Timing:
        """Times `rows` rows of a cell; a call over `limit` seconds is ended with its process.

        With CUDA the process ends after each call, so that each finds the whole GPU's memory.
        """
        try:
            answer = self._answer(name, (cell, vocabulary, rows), limit)
        except (EOFError, OSError):
            return Timing(error=f"its process died, exit code {self._stop(name)}")
        if answer is None:
            self._stop(name)
            return Timing(error=f"stopped after {limit:.0f} s")
        if self.place.device != "cpu":
            self._stop(name)
        assert isinstance(answer, Timing)
        return answer

    def peaks(self) -> Peaks:
        """Measures the machine."""
        answer = self._answer(_MACHINE, None, None)
        if self.place.device != "cpu":
            self._stop(_MACHINE)
        assert isinstance(answer, Peaks)
        return answer

    def close(self) -> None:
        """Ends all processes."""
        for name in list(self._all):
            self._stop(name)

    def _answer(self, name: str, request: object, limit: float | None) -> object:
        """What a process answers, None if it does not within the limit."""
        if name not in self._all:
            context = multiprocessing.get_context("spawn")
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, name, self.place), daemon=True)
            process.start()
            theirs.close()
            self._all[name] = process, ours
        pipe = self._all[name][1]
        pipe.send(request)
        return pipe.recv() if pipe.poll(limit) else None

    def _stop(self, name: str) -> int | None:
        """Ends a process; gives the exit code of one that had ended by itself."""
        process, pipe = self._all.pop(name)
        pipe.close()
        process.join(0.2)
        code = process.exitcode
        process.kill()
        process.join()
        return code


def _serve(pipe: Connection, name: str, place: Place) -> None:
    """Answers requests until the parent ends."""
    import torch

    _first_to_go()
    _quiet()
    torch.set_num_threads(place.threads)
    contestant: Any = None
    while True:
        try:
            request = pipe.recv()
        except EOFError:
            return
        if name == _MACHINE:
            pipe.send(peaks(place.device, place.dtype))
            continue
        try:
            contestant, timing = _timed(contestant, name, place, *request)
        except Exception as error:  # noqa: BLE001 - one that fails is a result, the others go on
            reason = (str(error).strip() or type(error).__name__).split("\n")[0][:200]
            contestant, timing = None, Timing(error=reason)
        pipe.send(timing)


def _quiet() -> None:
    """Keeps notes on loading and on defaults off stderr; errors of generate_batch stay."""
    from transformers.utils import logging as hf_logging

    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    # On a CPU its memory is what `settings` says, so psutil is not missed.
    log = logging.getLogger("ContinuousBatchingLogger")
    log.addFilter(lambda record: "psutil" not in record.getMessage())


def _timed(
    contestant: Any, name: str, place: Place, cell: Cell, vocabulary: int, rows: int
) -> tuple[Any, Timing]:
    """Warms a contestant up and times one call; an engine with a memory is made anew each time."""
    import torch

    from bench.contestants import CONTESTANTS, Ours

    if contestant is None or isinstance(contestant, Ours):
        contestant = None
        contestant = CONTESTANTS[name](place.folder, place.device, place.dtype)
    prompts = cell.prompts(vocabulary)[:rows]
    if place.device == "cpu":
        other = Cell(16, 2, 2, seed=cell.seed + 1)
    else:  # kernels are chosen and graphs captured per size
        other = Cell(cell.prefix, cell.batch, cell.new, seed=cell.seed + 1)
    contestant.run(other.prompts(vocabulary)[:rows], other.new)
    before = set_back()
    synchronize: Callable[[], None] = lambda: None  # noqa: E731
    if place.device != "cpu":
        synchronize = torch.cuda.synchronize
        torch.cuda.reset_peak_memory_stats()
    synchronize()
    busy, wall, processor = busy_seconds(), time.perf_counter(), time.process_time()
    words = contestant.run(prompts, cell.new)
    synchronize()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    busy, peak = busy_seconds() - busy, high_water()
    timing = Timing(
        wall,
        processor,
        peak,
        max(0.0, peak - before),
        0.0 if place.device == "cpu" else torch.cuda.max_memory_allocated() / 2**20,
        max(0.0, busy - processor) / (wall * (os.cpu_count() or 1)),
        tuple(map(tuple, words)),
    )
    return contestant, timing


def _first_to_go() -> None:
    """Asks the kernel to end this process first where memory runs out, not the one that reports."""
    try:
        Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError:
        return
