"""A passport as one self-contained page: no scripts, no requests, all judged text escaped."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icl_align.passport.asking import Asked
from icl_align.passport.figures import verdict
from icl_align.passport.items import Pair
from icl_align.passport.length import MATCHED, length_ratio
from icl_align.passport.plain import printable
from icl_align.passport.record import Passport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EXAMPLES = 12
"""Disagreements shown."""
_SHOWN_CHARACTERS = 1200
_BINS = (1.0, MATCHED, 2.0, 4.0)
"""Where bins of length ratio begin."""
_BIN_NAMES = (f"up to {MATCHED:g}", "up to 2", "up to 4", "more")
_SETTINGS: dict[Any, Any] = {"svg.hashsalt": "icl_align", "svg.fonttype": "none", "font.size": 9}
_SIDES = {1: "first", 0: "tie", -1: "second", None: "no verdict"}
ROWS = (
    ("accuracy", "accuracy, a missing verdict is wrong"),
    ("accuracy_answered", "accuracy where there is a verdict"),
    ("accuracy_non_tie", "accuracy where people see no tie"),
    ("kappa", "Cohen's kappa"),
    ("kappa_weighted", "kappa, a tie half-way"),
    ("precision", "macro precision"),
    ("recall", "macro recall"),
    ("f1", "macro F1"),
)
"""Figures about pairs, as they are named for people."""
REFERENCES = (
    ("judge", "this judge"),
    ("longer", "longer wins"),
    ("shorter", "shorter wins"),
    ("annotator", "one annotator against another"),
)
"""Whose figures stand beside each other."""


def write_page(
    passport: Passport, pairs: Sequence[Pair], given: Sequence[Asked], place: Path
) -> None:
    """Writes a passport as HTML.

    Args:
        passport: What to show.
        pairs: What the judge was asked about.
        given: Its verdicts, one per pair; empty to show no examples.
        place: The file.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters |= {"figure": shown, "plain": printable}
    template = files("icl_align.passport").joinpath("page.html").read_text(encoding="utf-8")
    page = environment.from_string(template).render(
        p=passport.to_json(),
        rows=ROWS,
        references=REFERENCES,
        plot=_plot(passport.pairs, pairs, given) if passport.pairs else "",
        examples=_disagreements(pairs, given),
    )
    place.write_text(page, encoding="utf-8", errors="backslashreplace", newline="")


def shown(figure: Mapping[str, Any] | float | None, digits: int = 3) -> str:
    """Gives a figure with its interval, for people."""
    if figure is None:
        return "\u2013"
    if isinstance(figure, int | float):
        return f"{figure:.{digits}f}"
    low, high = (
        "?" if figure[end] is None else f"{figure[end]:.{digits}f}" for end in ("low", "high")
    )
    return f"{figure['mean']:.{digits}f} [{low}, {high}]"


def _disagreements(pairs: Sequence[Pair], given: Sequence[Asked]) -> list[dict[str, Any]]:
    """The first pairs, at most one per instruction, in which judge and people differ the most."""
    found: dict[str, tuple[int, Pair, Asked]] = {}
    for pair, asked in zip(pairs, given, strict=False):
        mine = verdict(asked.preference)
        if mine is not None and mine != pair.label and pair.query not in found:
            found[pair.query] = (abs(mine - pair.label), pair, asked)
    ranked = sorted(found.values(), key=lambda row: -row[0])[:EXAMPLES]
    return [
        {
            "id": pair.id,
            "query": _short(pair.query),
            "first": _short(pair.first),
            "second": _short(pair.second),
            "people": _SIDES[pair.label],
            "judge": _SIDES[verdict(asked.preference)],
            "note": _short(asked.preference.note),
        }
        for _, pair, asked in ranked
    ]


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + " \u2026"


def _plot(figures: Mapping[str, Any], pairs: Sequence[Pair], given: Sequence[Asked]) -> str:
    """Draws accuracy beside the references', and by difference in length; SVG as a data URL."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    target = io.BytesIO()
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(9, 2.6), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        _dots(left, figures)
        _by_length(right, pairs, given)
        figure.savefig(target, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(target.getvalue()).decode("ascii")


def _dots(axes: Axes, figures: Mapping[str, Any]) -> None:
    names: list[str] = []
    for key, name in REFERENCES:
        row = figures[key] and figures[key]["accuracy"]
        if not row:
            continue
        if row["low"] is not None and row["high"] is not None:
            axes.plot([row["low"], row["high"]], [len(names)] * 2, color="0.3")
        axes.plot([row["mean"]], [len(names)], "o" if key == "judge" else "s", color="0.1")
        names.append(name)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_xlabel("accuracy against people's verdict")
    axes.grid(axis="x", alpha=0.3)


def _by_length(axes: Axes, pairs: Sequence[Pair], given: Sequence[Asked]) -> None:
    """Bars: accuracy without ties, by the ratio of the two responses' lengths."""
    bins: list[list[float]] = [[] for _ in _BINS]
    for pair, asked in zip(pairs, given, strict=False):
        mine = verdict(asked.preference)
        if mine is not None and pair.label:
            place = sum(abs(length_ratio(pair)) > math.log(edge) for edge in _BINS[1:])
            bins[place].append((1 + mine * pair.label) / 2)
    for place, values in enumerate(bins):
        if values:
            mean = sum(values) / len(values)
            axes.bar([place], [mean], color="0.6")
            axes.annotate(str(len(values)), (place, mean), ha="center", va="bottom")
    axes.axhline(0.5, color="0.3", linewidth=0.8, linestyle=":")
    axes.set_xticks(range(len(_BINS)), _BIN_NAMES)
    axes.set_ylim(0, 1.12)
    axes.set_xlabel("one response longer by a factor of")
    axes.set_ylabel("accuracy, no ties")
