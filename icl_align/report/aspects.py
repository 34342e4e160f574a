"""The aspects of the scores, winner and baseline side by side."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from icl_align.report.grid import Place
from icl_align.report.plots import plain
from icl_align.report.svg import FIRST, GRID, SECOND, drawn
from icl_align.types import Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_RADAR = range(3, 13)
"""How many aspects make a radar that can be read; others are dots on lines."""
_UPRIGHT = 0.1
_SPLITS = ("test", "confirm", "dev")


@dataclass(frozen=True, slots=True)
class Sides:
    """Means of aspects on the instructions of one split that both prompts are scored on.

    Attributes:
        split: The split; "" where there is no such instruction.
        rows: For each aspect "aspect", "winner", "baseline" and "n".
    """

    split: str
    rows: list[dict[str, Any]]


def paired(winner: Mapping[Place, Score], baseline: Mapping[Place, Score]) -> Sides:
    """Compares two prompts on the split that had the least part in choosing the winner."""
    both = winner.keys() & baseline.keys()
    for split in _SPLITS:
        places = sorted(place for place in both if place[0] == split)
        values: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
        for place in places:
            mine, its = winner[place].aspects, baseline[place].aspects
            for aspect in mine.keys() & its.keys():
                values[aspect][0].append(mine[aspect])
                values[aspect][1].append(its[aspect])
        if values:
            return Sides(
                split,
                [
                    {
                        "aspect": aspect,
                        "winner": statistics.fmean(mine),
                        "baseline": statistics.fmean(its),
                        "n": len(mine),
                    }
                    for aspect, (mine, its) in sorted(values.items())
                ],
            )
    return Sides("", [])


def aspects(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    """Draws them: a radar, or dots on lines where a radar would say nothing or be too full."""
    if not rows:
        return ""
    if len(rows) in _RADAR:
        return drawn("aspects", 3.6, lambda axes: _radar(axes, rows, name), polar=True)
    return drawn("aspects", 1.0 + 0.24 * len(rows), lambda axes: _dots(axes, rows, name))


def _radar(axes: Axes, rows: Sequence[Mapping[str, Any]], name: str) -> None:
    turns = [2 * math.pi * place / len(rows) for place in range(len(rows))]
    for key, colour, mark, label in _sides(name):
        values = [row[key] for row in rows]
        axes.plot([*turns, 0.0], [*values, values[0]], mark, ls="-", color=colour, ms=4, lw=1.5,
                  label=label)  # fmt: skip
        axes.fill(turns, values, color=colour, alpha=0.12, lw=0)
    axes.set_xticks(turns, [plain(row["aspect"]) for row in rows])
    for text, turn in zip(axes.get_xticklabels(), turns, strict=True):
        side = math.cos(turn)
        upright = abs(side) < _UPRIGHT
        text.set_horizontalalignment("center" if upright else "left" if side > 0 else "right")
    axes.tick_params(axis="x", pad=4)
    axes.set_ylim(0, 1)
    axes.set_yticks([0.25, 0.5, 0.75, 1.0], ["", "0.5", "", "1"])
    axes.grid(color=GRID, lw=0.8)
    axes.spines["polar"].set_visible(False)
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.legend(fontsize=8, loc="outside upper left")


def _dots(axes: Axes, rows: Sequence[Mapping[str, Any]], name: str) -> None:
    spots = range(len(rows))
    for place, row in enumerate(rows):
        axes.plot([row["baseline"], row["winner"]], [place] * 2, color=GRID, lw=2, zorder=1)
    for key, colour, mark, label in _sides(name):
        axes.plot([row[key] for row in rows], spots, mark, color=colour, ms=5, label=label)
    axes.set_yticks(spots, [plain(row["aspect"]) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(-0.03, 1.03)
    axes.set_xlabel("mean")
    axes.grid(alpha=0.5)
    axes.set_axisbelow(True)
    axes.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)


def _sides(name: str) -> tuple[tuple[str, str, str, str], ...]:
    return (("baseline", SECOND, "s", plain(name)), ("winner", FIRST, "o", "winner"))
