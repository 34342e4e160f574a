"""A whole run as one record: what was measured, on what, with which versions."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import transformers

from bench.machine import Peaks
from bench.report import Sheet
from bench.work import Machine

VERSION = 1
"""Version of the record's layout."""


def record(
    args: argparse.Namespace, sheets: Sequence[Sheet], peaks: Sequence[Peaks]
) -> dict[str, Any]:
    """The whole run as JSON values."""
    machine = Machine(max(p.gemm for p in peaks), max(p.copy for p in peaks))
    width = getattr(torch, args.dtype).itemsize
    return {
        "version": VERSION,
        **header(args.device),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "device": args.device,
        "dtype": args.dtype,
        "threads": args.threads,
        "rounds": args.rounds,
        "load_1_minute": os.getloadavg()[0],
        "gemm_flops": {"best": machine.gemm, "all": [p.gemm for p in peaks]},
        "gemm_plain_flops": {"best": max(p.gemm_plain for p in peaks)},
        "copy_bytes_per_second": {"best": machine.copy, "all": [p.copy for p in peaks]},
        "cells": [sheet.record(machine, width) for sheet in sheets],
    }


def header(device: str = "cpu") -> dict[str, Any]:
    """When, from which tree and on what something was measured."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "python": platform.python_version(),
        "machine": _machine(device),
    }


def summary(done: dict[str, Any]) -> str:
    """One line on where and when this was measured."""
    gemm = done["gemm_flops"]
    others = [e.get("other_processes", 0.0) for cell in done["cells"] for e in cell["contestants"]]
    return (
        f"{done['machine']}, {done['threads']} threads, {done['dtype']}: matrix product "
        f"{gemm['best'] / 1e9:,.0f} GFLOP/s (over rounds {min(gemm['all']) / 1e9:,.0f}-"
        f"{max(gemm['all']) / 1e9:,.0f}; F.linear {done['gemm_plain_flops']['best'] / 1e9:,.0f}), copy "
        f"{done['copy_bytes_per_second']['best'] / 1e9:.1f} GB/s read and written; "
        f"other processes used up to {max(others, default=0.0):.0%} of the cores during a call; "
        f"torch {done['torch']}, transformers {done['transformers']}, commit {done['commit']}, {done['date']}"
    )


def _machine(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str:
    """Commit of this tree, "+" behind it where files differ from it; "unknown" outside of git."""
    head, state = _git("rev-parse", "--short", "HEAD"), _git("status", "--porcelain", "-uno")
    return head + ("+" if state else "") if head else "unknown"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed words
    except FileNotFoundError:
        return ""
    return done.stdout.strip()
