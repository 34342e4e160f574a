"""What the search benchmark found, as a Markdown table and as plots."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Result = Mapping[str, Any]
Group = tuple[str, int, int, int]
"""Shape, pool, budget, batch."""
ALL = "all"
"""The shape that stands for all shapes together, those aside where nothing can be closed."""
HEAD = (
    "shape",
    "pool",
    "budget",
    "batch",
    "sampler",
    "runs",
    "closed",
    "less the first's",
    "better",
    "optimism",
    "ms/trial",
    "repeated",
)


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over runs.

    Attributes:
        value: The mean.
        error: Its standard error; None with fewer than two runs.
        n: How many runs.
    """

    value: float
    error: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean | None:
        """Gives the mean of values; None without any."""
        if not values:
            return None
        n = len(values)
        error = statistics.stdev(values) / math.sqrt(n) if n > 1 else None
        return cls(statistics.fmean(values), error, n)

    def told(self, sign: str = "") -> str:
        """Gives it as text."""
        error = "" if self.error is None else f" +- {self.error:.3f}"
        return f"{self.value:{sign}.3f}{error}"


def summary(results: Sequence[Result], samplers: Sequence[str]) -> list[dict[str, Any]]:
    """Sums results up, a row for each group and sampler.

    "difference" is to the first sampler, paired by landscape; "better" says in how many of the pairs a
    sampler closed more than the first one.
    """
    found = []
    for group, members in _grouped(results).items():
        for sampler in samplers:
            mine = {_world(one): one for one in members if one["sampler"] == sampler}
            if not mine:
                continue
            first = {_world(one): one for one in members if one["sampler"] == samplers[0]}
            pairs = [
                (mine[place]["closed"], first[place]["closed"])
                for place in mine
                if place in first and mine[place]["closed"] is not None
            ]
            differences = [a - b for a, b in pairs] if sampler != samplers[0] else []
            runs = list(mine.values())
            found.append(
                {
                    **dict(zip(HEAD, (*group, sampler, len(runs)), strict=False)),
                    "closed": Mean.of([a for a, _ in pairs] or _known(runs, "closed")),
                    "difference": Mean.of(differences),
                    "better": sum(d > 0 for d in differences),
                    "optimism": Mean.of(_known(runs, "optimism")),
                    "own_seconds": statistics.fmean(_known(runs, "own_seconds")),
                    "repeated": sum(run["repeated"] for run in runs),
                }
            )
    return found


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Writes a summary as a Markdown table."""
    lines = [f"| {' | '.join(HEAD)} |", "|" + "---|" * len(HEAD)]
    for row in rows:
        difference = row["difference"]
        cells = [
            *(str(row[name]) for name in HEAD[:6]),
            row["closed"].told() if row["closed"] else "-",
            difference.told("+") if difference else "-",
            f"{row['better']}/{difference.n}" if difference else "-",
            row["optimism"].told("+") if row["optimism"] else "-",
            f"{1000 * row['own_seconds']:.1f}",
            str(row["repeated"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Writes rows of one form as a Markdown table; shares of runs among them stand with their errors.

    A share is told by the name of its column ending in "%"; "n" is how many runs it is of.
    """
    lines = [f"| {' | '.join(rows[0])} |", "|" + "---|" * len(rows[0])] if rows else []
    for row in rows:
        cells = []
        for name, value in row.items():
            if isinstance(value, Mean):
                cells.append(value.told("+"))
            elif name.endswith("%"):
                error = math.sqrt(value * (1 - value) / row["n"])
                cells.append(f"{100 * value:.1f} +- {100 * error:.1f}")
            else:
                cells.append(f"{value:.3f}" if isinstance(value, float) else str(value))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def plots(results: Sequence[Result], samplers: Sequence[str], stem: Path) -> list[Path]:
    """Draws what was closed, the optimism and the regret curves.

    Args:
        results: As `run_cell` gives them.
        samplers: In the order of the legend.
        stem: The files' common beginning.

    Returns:
        The files; none where there is nothing to draw.
    """
    rows = [row for row in summary(results, samplers) if row["shape"] != ALL]
    found = [
        _points(rows, samplers, "closed", Path(f"{stem}-closed.png")),
        _points(rows, samplers, "optimism", Path(f"{stem}-optimism.png")),
        _curves(results, samplers, Path(f"{stem}-regret.png")),
    ]
    return [path for path in found if path is not None]


def _points(
    rows: Sequence[Mapping[str, Any]], samplers: Sequence[str], what: str, path: Path
) -> Path | None:
    """Draws a mean with its standard error for each shape and sampler, a panel for each budget."""
    from matplotlib.figure import Figure

    rows = [row for row in rows if row[what]]
    if not rows:
        return None
    panels = list(dict.fromkeys((row["pool"], row["budget"], row["batch"]) for row in rows))
    shapes = list(dict.fromkeys(row["shape"] for row in rows))
    figure = Figure(figsize=(1.2 * len(shapes) + 3, 2.8 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), squeeze=False, sharex=True, sharey=True)[:, 0]
    for axis, panel in zip(axes, panels, strict=True):
        for number, sampler in enumerate(samplers):
            shift = 0.7 * ((number + 0.5) / len(samplers) - 0.5)
            mine = [
                (shapes.index(row["shape"]) + shift, row[what])
                for row in rows
                if row["sampler"] == sampler and (row["pool"], row["budget"], row["batch"]) == panel
            ]
            axis.errorbar(
                [x for x, _ in mine],
                [mean.value for _, mean in mine],
                yerr=[mean.error or 0.0 for _, mean in mine],
                fmt="o",
                markersize=4,
                color=f"C{number}",
                label=sampler,
            )
        axis.axhline(0, color="0.7", linewidth=0.8)
        axis.set_title(_titled(*panel), fontsize=9)
        axis.set_ylabel({"closed": "share closed"}.get(what, what))
        axis.set_xticks(range(len(shapes)), shapes, rotation=20)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    figure.savefig(path, dpi=130)
    return path


def _curves(results: Sequence[Result], samplers: Sequence[str], path: Path) -> Path | None:
    """Draws mean regrets over the budget, a panel for each shape (row) and group of sizes (column)."""
    from matplotlib.figure import Figure

    known = [one for one in results if any(value is not None for value in one["regret"])]
    if not known:
        return None
    columns = list(dict.fromkeys((one["pool"], one["budget"], one["batch"]) for one in known))
    shapes = list(dict.fromkeys(one["shape"] for one in known))
    figure = Figure(figsize=(3 * len(columns) + 2, 2.4 * len(shapes)), layout="constrained")
    axes = figure.subplots(len(shapes), len(columns), squeeze=False, sharey=True)
    for line, shape in zip(axes, shapes, strict=True):
        for axis, column in zip(line, columns, strict=True):
            for number, sampler in enumerate(samplers):
                curves = [
                    one["regret"]
                    for one in known
                    if (one["shape"], one["sampler"]) == (shape, sampler)
                    and (one["pool"], one["budget"], one["batch"]) == column
                ]
                xs, means = _mean_curve(curves, column[1])
                axis.errorbar(
                    xs,
                    [mean.value for mean in means],
                    yerr=[mean.error or 0.0 for mean in means],
                    color=f"C{number}",
                    linewidth=1.2,
                    elinewidth=0.6,
                    label=sampler,
                )
            axis.set_title(f"{shape}, {_titled(*column)}", fontsize=8)
        line[0].set_ylabel("regret")
    for axis in axes[-1]:
        axis.set_xlabel("prompts on examples")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    figure.savefig(path, dpi=130)
    return path


def _mean_curve(
    curves: Sequence[Sequence[float | None]], budget: int
) -> tuple[list[float], list[Mean]]:
    """Gives means over runs where all runs have a value."""
    xs, means = [], []
    for number, column in enumerate(zip(*curves, strict=True), start=1):
        values = [value for value in column if value is not None]
        mean = Mean.of(values) if len(values) == len(column) else None
        if mean is not None:
            xs.append(budget * number / len(curves[0]))
            means.append(mean)
    return xs, means


def _grouped(results: Sequence[Result]) -> dict[Group, list[Result]]:
    """Puts results of one shape and size together, then those of one size and all shapes."""
    found: dict[Group, list[Result]] = {}
    for one in results:
        group = (one["shape"], one["pool"], one["budget"], one["batch"])
        found.setdefault(group, []).append(one)
    if len({one["shape"] for one in results if one["closed"] is not None}) > 1:
        for one in results:
            if one["closed"] is not None:
                group = (ALL, one["pool"], one["budget"], one["batch"])
                found.setdefault(group, []).append(one)
    return found


def _world(one: Result) -> tuple[str, int]:
    return one["shape"], one["seed"]


def _known(runs: Sequence[Result], name: str) -> list[float]:
    return [run[name] for run in runs if run[name] is not None]


def _titled(pool: int, budget: int, batch: int) -> str:
    more = f", {batch} in flight" if batch > 1 else ""
    return f"pool {pool}, budget {budget}{more}"
