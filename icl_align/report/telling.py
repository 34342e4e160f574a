"""What a report says of what was collected: headline, reasons, changes, cost, judges, commands."""

from __future__ import annotations

import difflib
import shlex
from typing import Any

from icl_align.assemble import build_budget
from icl_align.errors import UserError
from icl_align.explain.spare import spared
from icl_align.passport import load_passport
from icl_align.prompt import Prompt
from icl_align.report.collect import Collected
from icl_align.report.toml import experiment_toml
from icl_align.run import Run
from icl_align.signs import signed
from icl_align.types import Usage

GLOSS = {
    "shapley": "A Shapley value is what an exemplar adds on average over all ways in which the "
    "exemplars can join; the values add up to what all do together.",
    "importances": "PED-ANOVA asks how much the best prompts tried differ from the others in a "
    "dimension; the shares add up to 100 %.",
    "passport": "No passport named: nothing here says how far this judge agrees with "
    "people; icl-align judge validate makes one.",
}
"""What the page says of terms that not everybody knows."""


def headline(found: Collected) -> tuple[str, str]:
    """Says what won, by how much and how sure, and whether that is good news: "good", "bad", "open"."""
    if found.proof is None:
        best = found.ranking[0]
        sd = "" if best.sd is None else f" \u00b1 {best.sd:.3f}"
        return (
            (
                f"Not proved yet: the best prompt so far is believed to score "
                f"{best.estimate:.3f}{sd} on the instructions it was searched on"
            ),
            "open",
        )
    tuned, rival, gap = (found.proof[name] for name in ("tuned", "baseline", "difference"))
    sign = "more" if gap["mean"] >= 0 else "less"
    low, high = gap["low"], gap["high"]
    sure = "open"
    if low is not None and high is not None:
        sure = "good" if low > 0 else "bad" if high < 0 else "open"
    ends = "unknown" if low is None or high is None else f"{signed(low)} to {signed(high)}"
    return (
        (
            f"The winner scores {tuned['mean']:.3f} on {tuned['n']} untouched instructions, "
            f"{abs(gap['mean']):.3f} {sign} than {rival['name']} "
            f"({gap['level']:.0%} interval of the difference: {ends})"
        ),
        sure,
    )


def because(why: dict[str, Any] | None) -> str:
    """Says in a line what an explanation has found; "" where there is none."""
    if why is None:
        return ""
    worth = [
        (row["shapley"]["mean"], row["position"])
        for row in why["contributions"]["rows"]
        if row["shapley"]
    ]
    said = []
    if worth:
        most, position = max(worth)
        total = sum(value for value, _ in worth)
        said.append(
            f"{'With its system text, its' if why.get('system') else 'Its'} {_exemplars(len(worth))} "
            f"worth {signed(total)} together, number {position} the most ({signed(most)})."
        )
    said += spared(why)
    worse = [row for row in why["tags"] if (row["difference"]["high"] or 0.0) < 0]
    if worse:
        names = ", ".join(
            f"{row['tag']} ({signed(row['difference']['mean'])})" for row in worse[:3]
        )
        said.append(f"It is worse than {why['baseline']} on: {names}.")
    return " ".join(said)


def _exemplars(count: int) -> str:
    return "exemplar is" if count == 1 else f"{count} exemplars are"


def since_proof(found: Collected) -> int:
    """How many trials have ended since the winner was proved; 0 without a proof."""
    known = found.pack.evidence.get("trials")
    told = sum(trial.state not in ("running", "waiting") for trial in found.trials)
    return max(0, told - known) if found.proof is not None and isinstance(known, int) else 0


def changes(before: Prompt, after: Prompt) -> list[tuple[str, str]]:
    """What was taken out ("-"), put in ("+") or kept (" ") between two prompts' texts, line by line."""
    lines = difflib.ndiff(before.to_text().split("\n"), after.to_text().split("\n"))
    return [(line[0], line[2:]) for line in lines if line[0] in "-+ "]


def cost(found: Collected) -> dict[str, Any]:
    """What the search has cost, and with the confirmation in all."""
    budget = build_budget(found.run.experiment)
    usage = sum((trial.usage for trial in found.trials), Usage())
    whole = found.proof["generations"] if found.proof else None
    return {
        "spent": budget.spent(found.trials).to_json(),
        "priced": any((budget.prices.prompt, budget.prices.reused, budget.prices.generated)),
        "paid": usage.paid,
        "cached": usage.cached,
        "tokens": usage.to_json(),
        "paid_in_all": whole["paid"] if whole else None,
        "explained": found.explanation.get("asked") if found.explanation else None,
    }


def judges(run: Run) -> list[dict[str, str]]:
    """The objective's terms, with what their passports say where they name one."""
    found = []
    for name, term in sorted(run.experiment.objective.items()):
        told, verdict = "no passport named", ""
        if term.passport is not None:
            try:
                passport = load_passport(term.passport)
                verdict = "passes" if passport.passes else "fails"
                missed = [c["rule"] for c in passport.checks if c["verdict"] == "missed"]
                told = f"{passport.judge['name']}: {verdict}" + (
                    f"; missed: {', '.join(missed)}" if missed else ""
                )
            except UserError as error:
                told, verdict = str(error), "fails"
        scorer = term.scorer or name
        found.append(
            {"term": name, "scorer": scorer, "weight": f"{term.weight:g}", "told": told,
             "verdict": verdict}
        )  # fmt: skip
    return found


def reproduce(found: Collected) -> tuple[str, str]:
    """The commands that run it again, and the experiment file that they need."""
    commands = ["icl-align run experiment.toml --out again"]
    if found.proof is not None:
        commands.append("icl-align confirm again")
    if found.explanation is not None:
        given = found.explanation.get("given", {})
        words = "".join(f" --{name} {shlex.quote(text)}" for name, text in given.items())
        commands.append(f"icl-align explain again --budget {found.explanation['budget']}{words}")
    commands.append("icl-align report again --out report.html")
    return "\n".join(commands), experiment_toml(found.run.experiment)
