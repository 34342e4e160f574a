"""What judges say, as people read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from icl_align.show import new_table, number, printed
from icl_align.signs import interval


def comparison_table(found: Mapping[str, Any]) -> str:
    """Who wins how often, between files of answers."""
    lines = [f"{found['instructions']} instructions, judged by {found['judge']}"]
    if found["left_out"]:
        lines[0] += f"; {found['left_out']} that not all files answer are left out"
    if "ranked" in found:
        table = new_table("answers", "strength", "interval", "win rate", "matches")
        for row in found["ranked"]:
            low, high = number(row["low"]), number(row["high"])
            table.add_row(
                row["system"],
                number(row["value"]),
                f"[{low}, {high}]",
                number(row["win_rate"]),
                str(row["matches"]),
            )
        return "\n".join([*lines, "", printed(table)]).rstrip("\n")
    wins = found["win_rate"]
    lines.append(
        f"{found['first']} wins {100 * wins['mean']:.1f} % against {found['second']} "
        f"[{100 * wins['low']:.1f}, {100 * wins['high']:.1f}]; ties {wins['ties']}, no verdict "
        f"{wins['missing']}"
    )
    even = found["length_controlled"]
    if even:
        interval = even["interval"] or {"low": None, "high": None}
        ends = ", ".join(
            "-" if interval[end] is None else f"{interval[end]:.1f}" for end in ("low", "high")
        )
        lines.append(f"at equal length {even['lc_win_rate']:.1f} % [{ends}]")
        lines += [f"warning: {warning}" for warning in even["warnings"]]
    if found["depends_on_order"] is not None:
        lines.append(
            f"{100 * found['depends_on_order']:.1f} % of the verdicts depend on the order; they are ties"
        )
    return "\n".join(lines)


def calibration_table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """On which scale each judge grades."""
    table = new_table("term", "mean", "spread", "per length unit", "unit (characters)", "responses")
    for name, row in rows.items():
        table.add_row(
            name,
            number(row["mean"]),
            number(row["spread"]),
            f"{row['length_slope']:+.3f}",
            f"{row['length_unit']:.0f}",
            str(row["n"]),
        )
    return printed(table).rstrip("\n")


def refine_table(found: Mapping[str, Any]) -> str:
    """What choosing and mending answers gains."""
    table = new_table("scored by", "first answer", "kept answer", "gain", "no verdict")
    for row in found["gains"]:
        gain = row["gain"]
        table.add_row(
            row["judge"] + (" (it chose)" if row["chosen_by_it"] else ""),
            number(row["first"]),
            number(row["kept"]),
            interval(gain),
            str(row["missing"]),
        )
    cost = (
        f"{found['generations']} generations, {found['judged']} judged responses: "
        f"{found['samples']} samples each, {found['rounds']} rounds of mending."
    )
    lines = [printed(table), cost]
    if len(found["gains"]) == 1:
        lines.append(
            "The judge that chose also scored: where it errs it praises its own errors. "
            "An honest view needs --check with another judge."
        )
    return "\n".join(lines)
