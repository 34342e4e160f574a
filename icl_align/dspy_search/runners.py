"""The four optimisers, each with a schedule that its budget pays for. Written against DSPy 3.4.1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from icl_align.dspy_search.verdicts import Grader
from icl_align.errors import UserError
from icl_align.search.baselines.dspy_search import mipro_cost
from icl_align.search.baselines.mipro import FULL_STEPS, MINIBATCH

if TYPE_CHECKING:
    from icl_align.space import Space

THREADS = 16
_SETS = 6
_REFLECTED = 3
_ACCEPTED = 0.5
"""Least score of an answer of the model's that is taken up as a demo."""


@dataclass(frozen=True)
class Run:
    """One run: its student and data as DSPy sees them, and what a step may cost."""

    space: Space
    student: Any
    train: list[Any]
    val: list[Any]
    budget: int
    seed: int
    grader: Grader
    writer: Any

    @property
    def systems(self) -> tuple[str, ...]:
        """The space's system texts."""
        return self.space.systems


def _bootstrap(run: Run) -> Any:
    import dspy

    optimiser = dspy.BootstrapFewShot(
        metric=run.grader.accepts,
        metric_threshold=_ACCEPTED,
        max_bootstrapped_demos=run.space.k_max,
        max_labeled_demos=run.space.k_max,
        max_errors=1,
    )
    return optimiser.compile(run.student, trainset=run.train[: run.budget])


def _mipro(run: Run) -> Any:
    import dspy

    full, k = len(run.val), run.space.k_max
    sets = min(_SETS, max(2, run.budget // (4 * full)))
    train = run.train[: max(1, run.budget // (4 * sets))]
    minibatch, trials = min(MINIBATCH, full), 0
    left = run.budget - sets * len(train)
    while mipro_cost(trials + 1, full, minibatch) <= left:
        trials += 1
    if not trials:
        raise UserError(f"MIPROv2 needs more generations than {run.budget + full}")
    optimiser = dspy.MIPROv2(
        metric=run.grader.metric,
        prompt_model=run.writer,
        auto=None,
        num_candidates=max(sets, len(run.systems)),
        max_bootstrapped_demos=k,
        max_labeled_demos=k,
        num_threads=THREADS,
        max_errors=1,
        metric_threshold=_ACCEPTED,
        seed=run.seed + 1,  # it takes 0 for none
    )
    optimiser.num_fewshot_candidates = sets
    optimiser.num_instruct_candidates = len(run.systems)
    return optimiser.compile(
        run.student,
        trainset=train,
        valset=run.val,
        num_trials=trials,
        minibatch=minibatch < full,
        minibatch_size=minibatch,
        minibatch_full_eval_steps=FULL_STEPS,
        program_aware_proposer=False,
        data_aware_proposer=False,
        tip_aware_proposer=False,
        fewshot_aware_proposer=False,
    )


def _copro(run: Run) -> Any:
    import dspy

    programs = run.budget // len(run.val)
    breadth = min(len(run.systems) + 1, max(2, programs // 2), programs)
    optimiser = dspy.COPRO(
        prompt_model=run.writer,
        metric=run.grader.metric,
        breadth=breadth,
        depth=max(1, programs // breadth),
    )
    return optimiser.compile(
        run.student,
        trainset=run.val,
        eval_kwargs={"num_threads": THREADS, "display_progress": False},
    )


def _gepa(run: Run) -> Any:
    import dspy

    from icl_align.dspy_search.writer import propose_from

    full = len(run.val)
    given = run.writer.engine
    proposer = propose_from(given) if hasattr(given, "next_text") else None
    optimiser = dspy.GEPA(
        metric=run.grader.feedback,
        max_metric_calls=max(full, run.budget - full - 2 * _REFLECTED),  # it ends after a round
        reflection_minibatch_size=_REFLECTED,
        reflection_lm=None if proposer else run.writer,
        instruction_proposer=proposer,
        num_threads=THREADS,
        seed=run.seed,
        use_merge=False,
    )
    return optimiser.compile(run.student, trainset=run.val, valset=run.val)


RUNNERS: dict[str, Callable[[Run], Any]] = {
    "mipro": _mipro,
    "gepa": _gepa,
    "copro": _copro,
    "bootstrap": _bootstrap,
}
