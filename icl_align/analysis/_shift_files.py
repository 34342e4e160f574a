"""A shift's files: the summary, one line per token, a table for people, and figures."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icl_align.analysis._token_classes import KINDS
from icl_align.analysis.token_shift import ShiftReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SETTINGS: dict[Any, Any] = {"svg.hashsalt": "icl_align", "svg.fonttype": "none", "font.size": 9}
_PNG_DPI = 150
_COLUMNS = ("tokens", "unshifted", "marginal", "shifted", "p(token)", "KL(a|b)", "KL(b|a)")


def write_shift(report: ShiftReport, folder: Path) -> list[Path]:
    """Writes shift.json, tokens.jsonl, shift.txt, shift.svg and shift.png; each is there whole.

    Args:
        report: The measured shift.
        folder: Where to; made where it is missing.
    """
    content = report.to_json()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".shift-") as name:
        scratch = Path(name)
        text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
        (scratch / "shift.json").write_text(f"{text}\n", encoding="utf-8")
        with (scratch / "tokens.jsonl").open("w", encoding="utf-8") as file:
            for row in report.rows():
                file.write(f"{json.dumps(row, allow_nan=False)}\n")
        (scratch / "shift.txt").write_text(f"{shift_table(content)}\n", encoding="utf-8")
        plot_shift(content, scratch)
        written = []
        for one in sorted(scratch.iterdir()):
            one.replace(folder / one.name)
            written.append(folder / one.name)
    return written


def shift_table(content: Mapping[str, Any]) -> str:
    """Writes a summary, as `ShiftReport.to_json` gives it, for people; ASCII columns, KL in nats."""
    contexts = content["contexts"]
    width = max(12, *(len(name) for name in contexts), *(len(kind) + 2 for kind in KINDS))
    heads = "".join(f"{head:>11}" for head in _COLUMNS)
    lines = [f"{'context':{width}}{heads}"]
    for name, one in contexts.items():
        lines.append(_line(name, one, width))
        lines += [_line(f"  {kind}", part, width) for kind, part in one["by_class"].items()]
    lines += ["", f"{'position':{width}}{heads}"]
    for name, one in contexts.items():
        lines.append(name)
        bins = one["by_position"]
        for part, after in zip(bins, [*bins[1:], None], strict=True):
            lines.append(_line(f"  {_bin(part, after)}", part, width))
    for name, one in contexts.items():
        for measure, found in one.get("removed", {}).items():
            lines += ["", f"{name}: {measure}, mean per answer", *_removed(found)]
    return "\n".join(lines)


def _bin(part: Mapping[str, Any], after: Mapping[str, Any] | None) -> str:
    last = None if after is None else after["from"] - 1
    if last == part["from"]:
        return str(last)
    return f"{part['from']} and on" if last is None else f"{part['from']} to {last}"


def _line(name: str, part: Mapping[str, Any], width: int) -> str:
    rates = [part["unshifted"], part["marginal"], part["shifted"]]
    means = [part["probability"], part["kl_aligned_base"], part["kl_base_aligned"]]
    cells = [f"{part['tokens']}", *(f"{100 * rate:.2f} %" for rate in rates)]
    cells += ["-" if mean is None else f"{mean:.4f}" for mean in means]
    return f"{name:{width}}" + "".join(f"{cell:>11}" for cell in cells)


def _removed(found: Mapping[str, Any]) -> list[str]:
    before, after, share = found["zero_shot"], found["pack"], found["share"]
    if before is None or after is None:
        return ["  nothing to compare"]
    line = f"  {before:.4f} zero-shot, {after:.4f} behind the pack"
    if share is None:
        return [f"{line}; too few answers for a share"]
    ends = (share["low"], share["high"])
    interval = "" if None in ends else f" ({100 * ends[0]:.1f} to {100 * ends[1]:.1f} %)"
    return [f"{line}; {100 * share['mean']:.1f} % removed{interval}"]


def plot_shift(content: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draws shares of rank 1 by position, KL by position, and shares moved by class; SVG and PNG."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    places = [folder / "shift.svg", folder / "shift.png"]
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(12.6, 3.6), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(1, 3)
        _by_position(axes[0], content, "unshifted", "share at base rank 1")
        _by_position(axes[1], content, "kl_aligned_base", "KL(aligned || base), nats")
        _by_class(axes[2], content)
        axes[0].set_ylim(-0.02, 1.02)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)
        figure.savefig(places[0], metadata={"Date": None})
        figure.savefig(places[1], dpi=_PNG_DPI)
    return places


def _by_position(axes: Axes, content: Mapping[str, Any], key: str, label: str) -> None:
    edges = sorted({p["from"] for one in content["contexts"].values() for p in one["by_position"]})
    for number, (name, one) in enumerate(content["contexts"].items()):
        points = [p for p in one["by_position"] if p[key] is not None]
        where = [edges.index(point["from"]) for point in points]
        values = [point[key] for point in points]
        axes.plot(where, values, "o-", color=f"C{number % 10}", label=_plain(name), markersize=4)
    axes.set_xticks(range(len(edges)), [str(edge) for edge in edges])
    axes.set_xlabel("position in the answer, from")
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)


def _by_class(axes: Axes, content: Mapping[str, Any]) -> None:
    contexts: Sequence[Mapping[str, Any]] = list(content["contexts"].values())
    width = 0.8 / len(contexts)
    for number, one in enumerate(contexts):
        parts = [one["by_class"].get(kind) for kind in KINDS]
        heights = [0.0 if part is None else 1 - part["unshifted"] for part in parts]
        where = [place - 0.4 + width * (number + 0.5) for place in range(len(KINDS))]
        axes.bar(where, heights, width, color=f"C{number % 10}")
    axes.set_xticks(range(len(KINDS)), KINDS)
    axes.set_ylabel("share above base rank 1")
    axes.grid(axis="y", alpha=0.3)


def _plain(name: str) -> str:
    """A name without what matplotlib would read as a formula, or as no label."""
    return name.replace("$", r"\$").removeprefix("_") or "pack"
