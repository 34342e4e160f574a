"""The proof of a sweep's winner: chosen without the test examples, then measured on them once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from icl_align.engines import ContextOverflowError
from icl_align.errors import UserError
from icl_align.evaluate import Accounted, Evaluator, evaluate
from icl_align.evaluation import Evaluation, compare, example_ids
from icl_align.prompt import Prompt
from icl_align.search.ranking import Ranked
from icl_align.stats import Interval
from icl_align.types import Example, Usage

_SHARED = 0.75
"""What pairing leaves of a difference's standard deviation: measured on 59 models' annotations."""


@dataclass(frozen=True, slots=True)
class Finalist:
    """One of the best prompts of a sweep.

    Attributes:
        trial: Its trial's number.
        dev: Its scores on all development examples; optimistic, since it was picked by them.
        estimate: What the search believes of its mean there.
        sd: The standard deviation of that; None where the search has no model.
        fresh: Its scores on the confirm examples; None where these were kept for the proof.
    """

    trial: int
    dev: Evaluation
    estimate: float
    sd: float | None
    fresh: Evaluation | None

    @property
    def pooled_mean(self) -> float:
        """What the winner is chosen by: the search's belief and the confirm verdicts together.

        The two means are weighted by their precisions; without a belief they are pooled verdict by
        verdict. The difficulty of the two sets of examples is the same for all finalists.
        """
        fresh = self.fresh.mean if self.fresh else None
        if self.fresh is None or fresh is None:
            return self.estimate
        error = self.fresh.standard_error
        if self.sd is None or not self.sd or not error:
            values = [*self.dev.values, *self.fresh.values]
            return math.fsum(values) / len(values)
        belief, news = self.sd**-2, (error * _SHARED) ** -2
        return (belief * self.estimate + news * fresh) / (belief + news)


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
                    "estimate": finalist.estimate,
                    "sd": finalist.sd,
                    "pooled_mean": finalist.pooled_mean,
                }
                for finalist in self.finalists
            ],
            "proof": self.proof,
            "generations": {"paid": self.usage.paid, "cached": self.usage.cached},
        }


def confirm(
    ranking: Sequence[Ranked],
    evaluator: Evaluator,
    *,
    dev_examples: Sequence[Example],
    confirm_examples: Sequence[Example],
    test_examples: Sequence[Example],
    baselines: Mapping[str, Prompt],
    finalists: int = 4,
    level: float = 0.95,
    seed: int | None = 0,
    on_progress: Callable[[float, str], None] | None = None,
) -> Confirmation:
    """Chooses the winner of a sweep and proves it.

    The rule: the first `finalists` prompts of the ranking are measured on all development examples
    that they have not seen, and on the confirm examples; the winner is the one for which both
    together speak most (`Finalist.pooled_mean`). Only then the winner and the baselines are measured
    on the test examples: these had no part in the choice, so the interval holds although the winner is
    the best of many. With confirm or test examples only, the winner is the first of the ranking, and
    these examples are its proof.

    Args:
        ranking: The sweep's prompts, the one to use first.
        evaluator: As in the sweep.
        dev_examples: The sweep's examples.
        confirm_examples: Examples untouched by the sweep, for the choice.
        test_examples: Examples untouched by sweep and choice, for the proof.
        baselines: Prompts to compare with, by name, the main one first.
        finalists: How many prompts are measured again, >= 1.
        level: Coverage of each interval.
        seed: Seed of the bootstrap.
        on_progress: Told the share that is done, in [0, 1], and what is being measured.

    Raises:
        UserError: no baseline, one that is too long for the model, no measured prompt, no examples, or
            confirm and test examples overlap.
    """
    if not baselines:
        raise UserError("a winner is proved against baselines, got none; name at least one prompt")
    if finalists < 1:
        raise UserError(f"finalists must be at least 1, got {finalists}")
    if not ranking:
        raise UserError("there is nothing to confirm: no prompt has a verdict; run the sweep first")
    proof_examples = test_examples or confirm_examples
    if not proof_examples:
        raise UserError(
            "a winner is proved on untouched examples, got neither confirm nor test examples"
        )
    choosing = confirm_examples if test_examples else ()
    _refuse_overlap(choosing, proof_examples)
    before = evaluator.usage if isinstance(evaluator, Accounted) else Usage()
    steps = _Steps(2 * len(ranking[:finalists]) + 1 + len(baselines), on_progress)
    ranked = choose(ranking[:finalists], evaluator, dev_examples, choosing, steps.begin)
    winner = ranked[0]
    steps.begin("the winner on untouched instructions")
    tuned = evaluate(winner.dev.prompt, proof_examples, evaluator)
    comparisons = []
    for name, prompt in baselines.items():
        steps.begin(f"{name} on untouched instructions")
        try:
            measured = evaluate(prompt, proof_examples, evaluator)
        except ContextOverflowError as error:
            raise UserError(f"the baseline {name!r} cannot be measured: {error}") from error
        difference = compare(tuned, measured, level=level, seed=seed)
        comparisons.append(Comparison(name, measured, difference))
    steps.end()
    return Confirmation(
        winner,
        tuned,
        tuple(comparisons),
        tuple(ranked),
        "test" if test_examples else "confirm",
        evaluator.usage - before if isinstance(evaluator, Accounted) else Usage(),
    )


def choose(
    ranking: Sequence[Ranked],
    evaluator: Evaluator,
    dev_examples: Sequence[Example],
    confirm_examples: Sequence[Example],
    on_step: Callable[[str], None] | None = None,
) -> list[Finalist]:
    """Measures finalists on what they have not seen, and gives them best first.

    Without confirm examples their order stays as it was. One that is not allowed stands after those
    that are. `on_step` is told twice for each finalist what is measured next.
    """
    found = []
    for place, item in enumerate(ranking, 1):
        told = on_step or (lambda _: None)
        told(f"finalist {place} of {len(ranking)} on dev")
        dev = _whole(item.evaluation, dev_examples, evaluator)
        told(f"finalist {place} of {len(ranking)} on confirm")
        fresh = evaluate(item.prompt, confirm_examples, evaluator) if confirm_examples else None
        found.append(Finalist(item.number, dev, item.estimate, item.sd, fresh))
    if not confirm_examples:
        return found
    broken = {item.number for item in ranking if not item.allowed}
    return sorted(found, key=lambda one: (one.trial in broken, -one.pooled_mean, one.trial))


@dataclass
class _Steps:
    """Steps of a known number, told as they begin."""

    total: int
    tell: Callable[[float, str], None] | None
    begun: int = 0

    def begin(self, what: str) -> None:
        if self.tell:
            self.tell(self.begun / self.total, what)
        self.begun += 1

    def end(self) -> None:
        if self.tell:
            self.tell(1.0, "done")


def _whole(evaluation: Evaluation, examples: Sequence[Example], evaluator: Evaluator) -> Evaluation:
    """Completes an evaluation on the examples that it has no verdict on."""
    known = {
        name: score
        for name, score in zip(evaluation.ids, evaluation.scores, strict=True)
        if score.value is not None
    }
    ids = example_ids(examples)
    rest = [example for name, example in zip(ids, examples, strict=True) if name not in known]
    if rest:
        new = evaluate(evaluation.prompt, rest, evaluator)
        known |= dict(zip(new.ids, new.scores, strict=True))
    return Evaluation(evaluation.prompt, ids, tuple(known[name] for name in ids))


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
