"""Who takes part in a contest, with what budget, and how far it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from icl_align.config import Experiment
from icl_align.errors import UserError
from icl_align.search.samplers import load_sampler

DSPY: Mapping[str, Literal["mipro", "random"]] = {"dspy-mipro": "mipro", "dspy-random": "random"}
"""Entrants that hold their loop themselves."""


@dataclass(frozen=True)
class Rules:
    """Who takes part in a contest, and with what budget.

    Attributes:
        samplers: Names as `load_sampler` takes them, or of `DSPY`; the others are compared with the
            first.
        generations: The budget of each run: prompts measured on examples.
        seeds: How many seeds, from 0; each sampler runs once with each.
        points: After each of how many equal parts of the budget it is asked what would be handed over.
        warm_start: Whether the experiment's baselines are measured first, by all that can: not by
            DSPy.
    """

    samplers: tuple[str, ...]
    generations: int
    seeds: int = 5
    points: int = 1
    warm_start: bool = False

    def __post_init__(self) -> None:
        """Checks what can be checked before anything is paid.

        Raises:
            UserError: no samplers, one twice or unknown, or a number below 1.
        """
        if not self.samplers:
            raise UserError("a contest needs samplers: give their names with --samplers a,b,c")
        for name in self.samplers:
            if self.samplers.count(name) > 1:
                raise UserError(f"a sampler enters a contest once, but {name!r} is named twice")
            if name not in DSPY:
                load_sampler(name)
        for name in ("seeds", "generations", "points"):
            if getattr(self, name) < 1:
                raise UserError(
                    f"{name} of a contest must be at least 1, got {getattr(self, name)}"
                )


def rules_of(
    experiment: Experiment,
    samplers: str,
    *,
    generations: int | None = None,
    seeds: int = 5,
    points: int = 1,
    warm_start: bool = False,
) -> Rules:
    """Gives the rules of a contest on an experiment, with its generations unless others are given.

    Args:
        experiment: The experiment.
        samplers: Names with commas between them.
        generations: The budget of each run.
        seeds: How many seeds.
        points: As in `Rules`.
        warm_start: As in `Rules`.

    Raises:
        UserError: there is no budget of generations, or as `Rules`.
    """
    budget = experiment.search.generations if generations is None else generations
    if budget is None:
        raise UserError(
            "a contest gives every sampler the same budget of generations, but [search] has none; "
            "add generations there, or give --generations"
        )
    names = tuple(name.strip() for name in samplers.split(",") if name.strip())
    return Rules(names, budget, seeds, points, warm_start)


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a contest is.

    Attributes:
        entrant: Who is searching.
        done: Entrants that have ended.
        total: Entrants in all.
        share: Share of all their budgets that is used up, in [0, 1].
    """

    entrant: str
    done: int
    total: int
    share: float
