"""Whether a shorter prompt may do: exemplars without which nothing is lost, and fewer that score as high."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from icl_align.signs import interval


def spared(found: Mapping[str, Any]) -> list[str]:
    """Says what an explanation shows against the winner's own length, in sentences; none where nothing.

    Args:
        found: The explanation; one of an earlier version has no differences along the K curve.
    """
    rows = [row for row in found["contributions"]["rows"] if row["left_out"]]
    nothing = [row["position"] for row in rows if round(row["left_out"]["mean"], 6) <= 0]
    unsure = [row["position"] for row in rows if _ends(row["left_out"], "low") <= 0]
    said = []
    if nothing:
        said = [f"Leaving out {_one_of(nothing)} loses nothing: a shorter prompt may do."]
    elif unsure:
        said = [
            f"Leaving out {_one_of(unsure)} is not shown to lose anything: a shorter prompt may do."
        ]
    return [*said, *_fewer(found)]


def _fewer(found: Mapping[str, Any]) -> list[str]:
    """The fewest exemplars of the K curve that are not shown to be worse; one less is told above."""
    for row in found["curves"][:-1]:
        for name in ("first", "last"):
            gap = row.get("minus_winner", {}).get(name)
            if gap and _ends(gap, "high") >= 0 and row["k"] < found["k"] - 1:
                which = f"its {name} {row['k']} exemplars alone" if row["k"] else "no exemplars"
                if row["k"] == 1:
                    which = f"its {name} exemplar alone"
                return [f"With {which} it is not shown to be worse: {interval(gap)}."]
    return []


def _ends(value: Mapping[str, Any], end: str) -> float:
    """An end of an interval; the mean where there is too little for an interval."""
    return round(float(value["mean"] if value[end] is None else value[end]), 6)


def _one_of(positions: Sequence[int]) -> str:
    *most, last = map(str, positions)
    return f"exemplar {', '.join(most)} or {last}" if most else f"exemplar {last}"
