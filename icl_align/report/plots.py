"""The figures of a report: how the search went, who was stopped when, what length buys, and aspects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from icl_align.report.clean import shown
from icl_align.report.svg import FIRST, INK, NARROW, QUIET, SECOND, drawn
from icl_align.search.ranking import Ranked, front
from icl_align.search.study import TrialRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST = 2000
"""Points of a figure; of more, evenly chosen ones are drawn."""


def history(trials: Sequence[TrialRecord]) -> str:
    """Mean scores by trial, and the best one so far among those measured on all instructions."""
    told = [t for t in trials if t.evaluation is not None and t.evaluation.mean is not None]
    some, whole = _split(told)
    best: list[float] = []
    for trial in whole:
        best.append(max([*best[-1:], _mean(trial)]))

    def draw(axes: Axes) -> None:
        if part := _thinned(some):
            axes.plot([t.number for t in part], [_mean(t) for t in part], ".", color=QUIET, ms=4,
                      alpha=0.6, label="on some instructions")  # fmt: skip
        if part := _thinned(whole):
            axes.plot([t.number for t in part], [_mean(t) for t in part], "o", color=FIRST, ms=4,
                      label="on all instructions")  # fmt: skip
            axes.step([t.number for t in whole], best, where="post", color=SECOND, lw=1.5,
                      label="best so far, on all")  # fmt: skip
        _finish(axes, "trial", "mean score, dev")

    return drawn("history", 2.7, draw) if told else ""


def racing(trials: Sequence[TrialRecord]) -> str:
    """On how many instructions each trial's prompt had been measured when the trial ended."""
    told = [t for t in trials if t.evaluation is not None]
    some, whole = _split(told)

    def draw(axes: Axes) -> None:
        for rows, colour, mark, label in (
            (some, QUIET, "v", "stopped, or measured on a part"),
            (whole, FIRST, "o", "measured on all"),
        ):
            if part := _thinned(rows):
                measured = [len(t.evaluation.ids) for t in part if t.evaluation]
                axes.plot([t.number for t in part], measured, mark, color=colour, ms=4, label=label)
        axes.set_ylim(bottom=0)
        _finish(axes, "trial", "instructions measured")

    return drawn("racing", 2.3, draw) if told else ""


def pareto(ranking: Sequence[Ranked]) -> str:
    """Estimates by length, and the front: prompts that no shorter one equals."""
    best = front(ranking)

    def draw(axes: Axes) -> None:
        part = _thinned(ranking)
        axes.plot([r.length for r in part], [r.estimate for r in part], ".", color=QUIET, ms=4,
                  label="measured prompts")  # fmt: skip
        if line := sorted(best, key=lambda item: item.length):
            axes.plot([r.length for r in line], [r.estimate for r in line], "o-", color=FIRST,
                      ms=4, lw=1, label="front")  # fmt: skip
        _finish(axes, "tokens of the prompt", "estimated mean, dev")

    return drawn("pareto", 2.7, draw) if ranking else ""


def differences(proof: Mapping[str, Any]) -> str:
    """The winner minus each baseline, with its interval."""
    rivals = [
        (proof["baseline"]["name"], proof["difference"]),
        *((other["name"], other["difference"]) for other in proof["others"]),
    ]

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=INK, lw=1)
        for place, (_, gap) in enumerate(rivals):
            if gap["low"] is not None and gap["high"] is not None:
                axes.plot([gap["low"], gap["high"]], [place] * 2, color=FIRST, lw=2)
            axes.plot(gap["mean"], place, "o", color=FIRST, ms=6)
        axes.set_yticks(range(len(rivals)), [plain(name) for name, _ in rivals])
        axes.set_ylim(len(rivals) - 0.5, -0.5)
        _finish(axes, "winner minus it", "")

    return drawn("differences", 0.8 + 0.27 * len(rivals), draw, width=NARROW)


def curve(found: Mapping[str, Any]) -> str:
    """The K curves of an explanation."""
    rows = found["curves"]

    def draw(axes: Axes) -> None:
        for name, colour, shift in (("first", FIRST, -0.04), ("last", SECOND, 0.04)):
            points = [(row["k"] + shift, row[name]) for row in rows if row[name]]
            if not points:
                continue
            for k, figure in points:
                if figure["low"] is not None:
                    axes.plot([k, k], [figure["low"], figure["high"]], color=colour, lw=1)
            axes.plot([k for k, _ in points], [figure["mean"] for _, figure in points], "o-",
                      color=colour, ms=4, label=f"the winner's {name} K")  # fmt: skip
        axes.set_xticks([row["k"] for row in rows])
        _finish(axes, "K exemplars", f"mean score, {found['split']}")

    return drawn("curve", 2.3, draw, width=NARROW)


def _split(trials: Sequence[TrialRecord]) -> tuple[list[TrialRecord], list[TrialRecord]]:
    return (
        [t for t in trials if t.state != "complete"],
        [t for t in trials if t.state == "complete"],
    )


def _mean(trial: TrialRecord) -> float:
    mean = trial.evaluation.mean if trial.evaluation else None
    return 0.0 if mean is None else mean


def _thinned(rows: Sequence[Any]) -> list[Any]:
    return list(rows[:: max(1, -(-len(rows) // _MOST))])


def plain(text: str) -> str:
    """A name without what matplotlib reads as mathematics."""
    return shown(text, 60).replace("$", r"\$")


def _finish(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.5)
    axes.set_axisbelow(True)
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(
            handles,
            labels,
            fontsize=8,
            labelcolor=INK,
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=3,
        )
