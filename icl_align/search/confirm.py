"""The proof of a sweep's winner: chosen without the test examples, then measured on them once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from icl_align.errors import UserError
from icl_align.evaluate import Accounted, Evaluation, Evaluator, Usage, compare, evaluate
from icl_align.prompt import Prompt
from icl_align.search.study import TrialRecord
from icl_align.stats import Interval
from icl_align.types import Example


@dataclass(frozen=True, slots=True)
class Finalist:
    """One of the best prompts of a sweep.

    Attributes:
        trial: Its trial's number.
        dev: Its scores on the development examples; optimistic, since it was picked by them.
        fresh: Its scores on the confirm examples; None where these were kept for the proof.
    """

    trial: int
    dev: Evaluation
    fresh: Evaluation | None

    @property
    def pooled_mean(self) -> float:
        """The mean over all development and confirm verdicts, by which the winner is chosen."""
        values = [*self.dev.values, *(self.fresh.values if self.fresh else [])]
        return math.fsum(values) / len(values)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The winner against one baseline, on the proof examples.

    Attributes:
        name: The baseline's name.
        baseline: Its scores.
        difference: Winner minus baseline, paired, with its interval. Several baselines are several
            claims: each interval holds at its level by itself.
    """

    name: str
    baseline: Evaluation
    difference: Interval


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A winner, proved on examples that had no part in choosing it.

    Attributes:
        winner: The chosen finalist.
        tuned: Its scores on the proof examples.
        comparisons: Against each baseline, the main one first.
        finalists: All finalists, best first.
        proof: Which examples the proof used.
        usage: What the confirmation has cost.
    """

    winner: Finalist
    tuned: Evaluation
    comparisons: tuple[Comparison, ...]
    finalists: tuple[Finalist, ...]
    proof: Literal["test", "confirm"]
    usage: Usage

    @property
    def prompt(self) -> Prompt:
        """The winning prompt."""
        return self.tuned.prompt

    def to_json(self) -> dict[str, Any]:
        """Gives the numbers, with the main baseline's under "baseline" and "difference"."""
        main = self.comparisons[0]
        return {
            "baseline": {"name": main.name, **_numbers(main.baseline)},
            "tuned": {"trial": self.winner.trial, **_numbers(self.tuned)},
            "difference": main.difference.to_json(),
            "others": [
                {
                    "name": other.name,
                    **_numbers(other.baseline),
                    "difference": other.difference.to_json(),
                }
                for other in self.comparisons[1:]
            ],
            "finalists": [
                {
                    "trial": finalist.trial,
                    "digest": finalist.dev.prompt.digest,
                    "dev": _numbers(finalist.dev),
                    "confirm": _numbers(finalist.fresh) if finalist.fresh else None,
                    "pooled_mean": finalist.pooled_mean,
                }
                for finalist in self.finalists
            ],
            "proof": self.proof,
            "generations": {"paid": self.usage.paid, "cached": self.usage.cached},
        }


def confirm(
    trials: Sequence[TrialRecord],
    evaluator: Evaluator,
    *,
    confirm_examples: Sequence[Example],
    test_examples: Sequence[Example],
    baselines: Mapping[str, Prompt],
    finalists: int = 4,
    level: float = 0.95,
    seed: int | None = 0,
) -> Confirmation:
    """Chooses the winner of a sweep and proves it.

    The rule: the best `finalists` distinct prompts by development mean are measured on the confirm
    examples; the winner is the one with the highest mean over its development and confirm verdicts
    together. Only then the winner and the baselines are measured on the test examples. With
    confirm or test examples only, the winner is the best by development mean, and these examples
    are its proof.

    Args:
        trials: The sweep's trials.
        evaluator: As in the sweep.
        confirm_examples: Examples untouched by the sweep, for the choice.
        test_examples: Examples untouched by sweep and choice, for the proof.
        baselines: Prompts to compare with, by name, the main one first.
        finalists: How many prompts are measured again, >= 1.
        level: Coverage of each interval.
        seed: Seed of the bootstrap.

    Raises:
        UserError: no baseline, no complete trial, no examples, or confirm and test examples
            overlap.
    """
    if not baselines:
        raise UserError("a winner is proved against baselines, got none; name at least one prompt")
    if finalists < 1:
        raise UserError(f"finalists must be at least 1, got {finalists}")
    proof_examples = test_examples or confirm_examples
    if not proof_examples:
        raise UserError(
            "a winner is proved on untouched examples, got neither confirm nor test examples"
        )
    choosing = confirm_examples if test_examples else ()
    _refuse_overlap(choosing, proof_examples)
    before = evaluator.usage if isinstance(evaluator, Accounted) else Usage()
    best = _best(trials, finalists)
    ranked = sorted(
        (
            Finalist(number, dev, evaluate(dev.prompt, choosing, evaluator) if choosing else None)
            for number, dev in best
        ),
        key=lambda finalist: (-finalist.pooled_mean, finalist.trial),
    )
    winner = ranked[0]
    tuned = evaluate(winner.dev.prompt, proof_examples, evaluator)
    comparisons = []
    for name, prompt in baselines.items():
        measured = evaluate(prompt, proof_examples, evaluator)
        difference = compare(tuned, measured, level=level, seed=seed)
        comparisons.append(Comparison(name, measured, difference))
    return Confirmation(
        winner,
        tuned,
        tuple(comparisons),
        tuple(ranked),
        "test" if test_examples else "confirm",
        evaluator.usage - before if isinstance(evaluator, Accounted) else Usage(),
    )


def _best(trials: Sequence[TrialRecord], count: int) -> list[tuple[int, Evaluation]]:
    """Gives the best distinct prompts by development mean, the earlier trial first among equals."""
    measured = [
        (trial.mean, trial.number, trial.evaluation)
        for trial in trials
        if trial.mean is not None and trial.evaluation is not None
    ]
    distinct: dict[str, tuple[int, Evaluation]] = {}
    for _, number, evaluation in sorted(measured, key=lambda item: (-item[0], item[1])):
        distinct.setdefault(evaluation.prompt.digest, (number, evaluation))
    if not distinct:
        raise UserError(
            f"there is nothing to confirm: none of the {len(trials)} trials is complete; "
            "run the sweep first"
        )
    return list(distinct.values())[:count]


def _refuse_overlap(confirm_examples: Sequence[Example], test_examples: Sequence[Example]) -> None:
    seen = {(example.turns, example.query) for example in confirm_examples}
    for example in test_examples:
        if (example.turns, example.query) in seen:
            raise UserError(
                f"test examples must have no part in the choice, but {example.query[:60]!r} "
                "is also a "
                "confirm example; split them apart"
            )


def _numbers(evaluation: Evaluation) -> dict[str, Any]:
    return {"mean": evaluation.mean, "n": evaluation.n, "missing": evaluation.missing}
