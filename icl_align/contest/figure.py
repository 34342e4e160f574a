"""The figure of a contest, as SVG and PNG; matplotlib is loaded only when one is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH, _HEIGHT, _ROW = 6.4, 1.6, 0.38
"""Inches: a panel's width, and a figure's height without and for each row."""
_SETTINGS: dict[Any, Any] = {"svg.hashsalt": "icl_align", "svg.fonttype": "none", "font.size": 9}
_PNG_DPI = 150


def plot_contest(found: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draws a contest: a dot for each seed's winner, the mean with its interval, and curves.

    The curves, quality on untouched instructions against generations, are there when anyone was looked
    at before its end.

    Args:
        found: As `Outcome.to_json` gives it.
        folder: Where contest.svg and contest.png are written.

    Returns:
        Both files.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = found["samplers"]
    curves = any(len(row["curve"]) > 1 for row in rows)
    height = _HEIGHT + _ROW * (len(rows) + len(found["baselines"]))
    places = [folder / "contest.svg", folder / "contest.png"]
    with mpl.rc_context(_SETTINGS):
        panels = 2 if curves else 1
        figure = Figure(figsize=(_WIDTH * panels, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(1, panels, squeeze=False)[0]
        _dots(axes[0], found)
        if curves:
            _curves(axes[1], found)
        figure.savefig(places[0], metadata={"Date": None})
        figure.savefig(places[1], dpi=_PNG_DPI)
    return places


def _dots(axes: Axes, found: Mapping[str, Any]) -> None:
    """Draws a row for each sampler: its seeds, and their mean with its interval."""
    names = [row["sampler"] for row in found["samplers"]]
    for place, row in enumerate(found["samplers"]):
        colour = f"C{place % 10}"
        means = [one["mean"] for one in row["by_seed"] if one["mean"] is not None]
        axes.plot(means, [place] * len(means), "o", color=colour, alpha=0.45, markersize=5)
        if row["mean"] is None:
            continue
        low, high = row["interval"]["low"], row["interval"]["high"]
        if low is not None and high is not None:
            axes.plot([low, high], [place, place], color=colour, linewidth=1.5)
        axes.plot([row["mean"]], [place], "D", color=colour, markersize=7)
    for place, row in enumerate(found["baselines"], start=len(names)):
        names.append(row["name"])
        if row["mean"] is not None:
            axes.plot([row["mean"]], [place], "s", color="0.4", markersize=6)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(f"mean on untouched instructions, {found['level']:.0%} interval")
    axes.set_title(f"{found['generations']} generations, {len(found['seeds'])} seeds")
    axes.grid(axis="x", alpha=0.3)


def _curves(axes: Axes, found: Mapping[str, Any]) -> None:
    """Draws what would have been handed over earlier; a curve starts where every seed has a prompt."""
    for place, row in enumerate(found["samplers"]):
        seeds = len(row["by_seed"])
        points = [point for point in row["curve"] if seeds and point["seeds"] == seeds]
        axes.plot(
            [point["share"] * found["generations"] for point in points],
            [point["mean"] for point in points],
            "o-",
            color=f"C{place % 10}",
            label=row["sampler"],
            markersize=4,
        )
    axes.set_xlabel("budget used, generations")
    axes.set_ylabel("mean on untouched instructions")
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend()
