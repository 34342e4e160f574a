"""What stands against the judges of a sweep: no passport, another judge's, or one that fails."""

from __future__ import annotations

from icl_align.config import Experiment
from icl_align.errors import UserError
from icl_align.passport.judges import judge_fingerprint
from icl_align.passport.record import check_passport, load_passport
from icl_align.scorers.objective import Objective

JUDGES = ("judge", "pairwise", "questions", "reference", "reward")
"""Scorers that rest on a model's opinion; the others are rules that can be read."""


def concerns(experiment: Experiment, objective: Objective) -> list[str]:
    """Gives the reasons not to rely on an objective's judges, each with the remedy; none if all is well.

    Args:
        experiment: Says where the passports are.
        objective: Made of it.
    """
    found = []
    for term in objective.terms:
        table = experiment.objective[term.name]
        needs = (table.scorer or term.name) in JUDGES or "model" in table.options
        if table.passport is None:
            if needs:
                found.append(
                    f"the judge of [objective.{term.name}] has no passport: nobody knows how far it agrees "
                    "with people; make one with icl-align judge validate, and name it as passport = "
                    '"FOLDER/passport.json"'
                )
            continue
        reasons = check_passport(load_passport(table.passport), judge_fingerprint(term.scorer))
        found += [f"[objective.{term.name}]: {reason}" for reason in reasons]
    return found


def require(found: list[str]) -> None:
    """Refuses a sweep with concerns.

    Raises:
        UserError: naming them.
    """
    if found:
        raise UserError("; ".join(found))
