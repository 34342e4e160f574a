"""What the machine can do, what it is doing, and how much memory this process has taken of it."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

_MIB = 2**20
_STATUS = Path("/proc/self/status")
_STAT = Path("/proc/stat")


@dataclass(frozen=True, slots=True)
class Peaks:
    """What the machine did in one measurement: operations and bytes per second."""

    gemm: float
    gemm_plain: float
    copy: float


def peaks(device: str, dtype: str) -> Peaks:
    """The best of some repetitions of a large product, by both libraries of `torch`, and a copy."""
    cuda = device != "cpu"
    size = 8192 if cuda else 2048
    options: dict[str, Any] = {"device": device, "dtype": getattr(torch, dtype)}
    with torch.inference_mode():
        one = torch.randn(size, size, **options)
        layer = torch.nn.Linear(size, size, bias=False, **options)
        flops = 2 * size**3
        plain = flops / _best(lambda: layer(one), cuda=cuda)
        gemm = plain
        if dtype == "float32" and not cuda and torch.backends.mkldnn.is_available():
            # What torch's compiler calls; on AMD it is twice as fast as the MKL behind F.linear.
            other = torch.ops.mkldnn._linear_pointwise.default  # noqa: SLF001
            weight = layer.weight.detach()
            seconds = _best(lambda: other(one, weight, None, "none", [], ""), cuda=cuda)
            gemm = max(gemm, flops / seconds)
        source = torch.zeros((4096 if cuda else 128) * _MIB // 4, device=device)
        target = torch.zeros_like(source)
        copy = 2 * source.nbytes / _best(lambda: target.copy_(source), cuda=cuda)
    return Peaks(gemm, plain, copy)


def _best(call: Callable[[], object], *, cuda: bool, times: int = 5) -> float:
    """Seconds of the fastest of some calls, after one that warms up."""
    found = []
    for _ in range(times + 1):
        if cuda:
            torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        if cuda:
            torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return min(found[1:])


def busy_seconds() -> float:
    """Seconds that all cores together have worked since the machine started; 0 where unknown."""
    if not _STAT.exists():
        return 0.0
    user, nice, system, _, _, irq, soft = map(int, _STAT.read_text().split()[1:8])
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")


def set_back() -> float:
    """Gives unused memory back, sets the high-water mark back; MiB held now."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    return high_water()


def high_water() -> float:
    """High-water mark of resident memory, MiB."""
    if _STATUS.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text())
        return int(found[1]) / 1024 if found else 0.0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MIB  # bytes on macOS
