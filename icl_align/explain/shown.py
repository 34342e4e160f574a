"""An explanation as plain text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from icl_align.passport.plain import printable
from icl_align.show import interval_text, new_table, number, printed

_QUERY = 50
_LOSSES = 3


def explanation_text(found: Mapping[str, Any]) -> str:
    """What the verb `explain` prints."""
    lines = [
        (
            f"On {found['instructions']} of {found['of']} {found['split']} instructions "
            f"({found['level']:.0%} intervals):"
        ),
        "",
        _exemplars(found),
    ]
    lines += [*_orders(found), *_curve(found), *_factorial(found), *_phrasings(found)]
    if found["importances"]:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in found["importances"].items())
        lines += [f"among the prompts tried mattered: {shares}"]
    if found["tags"]:
        lines += ["", _tags(found)]
    for row in found["regressions"][:_LOSSES]:
        query = printable(" ".join(row["query"].split()))[:_QUERY]
        lines.append(
            f"loses {-row['difference']:.3f} to {found['baseline']} on {row['id']}: {query}"
        )
    paid = found["generations"]
    lines.append(f"generations: {paid['paid']} paid, {paid['cached']} from the ledger")
    if found["missing"]:
        lines.append(
            f"no verdict:  {found['missing']} answers were not scored; they count in no mean"
        )
    return "\n".join(lines)


def _interval(value: Mapping[str, Any] | None) -> str:
    return interval_text(value) if value else "-"


def _exemplars(found: Mapping[str, Any]) -> str:
    part = found["contributions"]
    table = new_table("exemplar", f"Shapley ({part['method']})", "with minus without it", "query")
    for row, exemplar in zip(part["rows"], found["exemplars"], strict=True):
        query = printable(" ".join(exemplar["query"].split()))
        table.add_row(
            printable(f"{row['position']} {exemplar['id']}"),
            _interval(row["shapley"]),
            _interval(row["left_out"]),
            query[:_QUERY],
        )
    return printed(table) if part["rows"] else "the winner has no exemplars\n"


def _orders(found: Mapping[str, Any]) -> list[str]:
    part = found["orders"]
    if not part:
        return []
    return [
        f"its order minus {len(part['others'])} others: {_interval(part['winner_minus_others'])}"
    ]


def _curve(found: Mapping[str, Any]) -> list[str]:
    if not found["k"]:
        return []
    means = " ".join(number(row["first"] and row["first"]["mean"]) for row in found["curves"])
    return [f"its first 0 to {found['k']} exemplars: {means}"]


def _factorial(found: Mapping[str, Any]) -> list[str]:
    part = found["factorial"]
    names = ("system", "exemplars", "both", "interaction")
    return (
        [f"{name} minus neither: {_interval(part[name])}" for name in names[:3]]
        + [f"system x exemplars: {_interval(part['interaction'])}"]
        if part
        else []
    )


def _phrasings(found: Mapping[str, Any]) -> list[str]:
    return [
        f"instructions {name}, loss: {_interval(value)}"
        for name, value in found["phrasings"].items()
    ]


def _tags(found: Mapping[str, Any]) -> str:
    table = new_table("tag", "n", "winner", found["baseline"], "difference")
    for row in found["tags"]:
        table.add_row(
            printable(row["tag"]),
            str(row["difference"]["n"]),
            number(row["winner"]),
            number(row["baseline"]),
            _interval(row["difference"]),
        )
    return printed(table)
