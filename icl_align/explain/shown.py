"""An explanation as plain text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from icl_align.explain.spare import spared
from icl_align.explain.wording import RULE
from icl_align.passport.plain import printable
from icl_align.show import new_table, number, printed
from icl_align.signs import interval, turned

_QUERY = 50
_LOSSES = 3
_NAMES = 6


def explanation_text(found: Mapping[str, Any]) -> str:
    """What the verb `explain` prints."""
    lines = [*_head(found), "", _exemplars(found)]
    lines += [*spared(found), *_orders(found), *_curve(found), *_factorial(found)]
    lines += ["", *_paraphrases(found), *_phrasings(found), *_beyond(found)]
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


def _head(found: Mapping[str, Any]) -> list[str]:
    """What was measured, and how good the winner is there."""
    where = f"{found['instructions']} of {found['of']} {found['split']} instructions"
    lines = [f"On {where} ({found['level']:.0%} intervals):"]
    if found["mean"]:
        low, high = (number(found["mean"][end]) for end in ("low", "high"))
        lines.append(f"winner: {number(found['mean']['mean'])} [{low}, {high}]")
    if found.get("difference"):
        lines[-1] += f", minus {found['baseline']}: {interval(found['difference'])}"
    lines.append("in all differences + is better, - is worse; each interval by itself, not jointly")
    if found["split"] == "dev":
        lines.append("it was chosen by these instructions: they flatter it")
    if not found["confirmed"]:
        lines.append("it is the best so far, not proved: icl-align confirm")
    return lines


def _exemplars(found: Mapping[str, Any]) -> str:
    part = found["contributions"]
    table = new_table("exemplar", f"Shapley ({part['method']})", "with minus without it", "query")
    for row, exemplar in zip(part["rows"], found["exemplars"], strict=True):
        query = printable(" ".join(exemplar["query"].split()))
        table.add_row(
            printable(f"{row['position']} {exemplar['id']}"),
            interval(row["shapley"]),
            interval(row["left_out"]),
            query[:_QUERY],
        )
    return printed(table) if part["rows"] else "the winner has no exemplars\n"


def _orders(found: Mapping[str, Any]) -> list[str]:
    part = found["orders"]
    if not part:
        return []
    others = interval(turned(part["winner_minus_others"]))
    return [f"{len(part['others'])} other orders, minus the winner: {others}"]


def _curve(found: Mapping[str, Any]) -> list[str]:
    if not found["k"]:
        return []
    means = " ".join(number(row["first"] and row["first"]["mean"]) for row in found["curves"])
    return [f"its first 0 to {found['k']} exemplars: {means}"]


def _factorial(found: Mapping[str, Any]) -> list[str]:
    part = found["factorial"]
    names = {"system": "its system text alone", "exemplars": "its exemplars alone", "both": "both"}
    return (
        [f"{said} minus neither: {interval(part[name])}" for name, said in names.items()]
        + [f"what both do beyond the sum: {interval(part['interaction'])}"]
        if part
        else []
    )


def _paraphrases(found: Mapping[str, Any]) -> list[str]:
    """The system text in other words, and what is lost by it."""
    part = found["paraphrases"]
    if part is None:
        return ["it has no system text that could be put in other words"]
    lines = []
    if part["rows"]:
        table = new_table("system text", "minus the winner", "by", "text")
        for row in part["rows"]:
            text = "" if row["by"] == RULE else printable(" ".join(row["text"].split()))
            name, by = printable(row["name"]), printable(row["by"])
            table.add_row(name, interval(row["difference"]), by, text[:_QUERY])
        spread = f", sd {number(part['sd'])}, worst: {printable(part['worst'] or '-')}"
        lines += [
            printed(table),
            f"system text in other words, minus the winner: {interval(turned(part['loss']))}{spread}",
        ]
    lines.append(f"system text left out, minus the winner: {interval(turned(part['left_out']))}")
    reasons = {
        "same": "the text itself or one of the others",
        "unmeasured": "beyond --budget",
        "too_long": "too long for the model's context",
        "unread": "no readable reply of the writer",
    }
    missed = [f"{part[key]} {said}" for key, said in reasons.items() if part[key]]
    return [*lines, f"paraphrases not measured: {'; '.join(missed)}"] if missed else lines


def _phrasings(found: Mapping[str, Any]) -> list[str]:
    return [
        f"instructions {printable(name)}, minus the winner: {interval(turned(value))}"
        for name, value in found["phrasings"].items()
    ]


def _beyond(found: Mapping[str, Any]) -> list[str]:
    """What the budget does not reach, and which one does."""
    part = found.get("beyond")
    if not part:
        return []
    names = ", ".join(repr(printable(name)) for name in part["names"][:_NAMES])
    more = len(part["names"]) - _NAMES
    names += f" and {more} more" if more > 0 else ""
    measures = "measures it" if len(part["names"]) == 1 else "measures them"
    return [f"left out: {names}; --budget {part['budget']} {measures}"]


def _tags(found: Mapping[str, Any]) -> str:
    table = new_table("tag", f"winner minus {found['baseline']}", "n", "winner", found["baseline"])
    for row in found["tags"]:
        table.add_row(
            printable(row["tag"]),
            interval(row["difference"]),
            str(row["difference"]["n"]),
            number(row["winner"]),
            number(row["baseline"]),
        )
    return printed(table)
