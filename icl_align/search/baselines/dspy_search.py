"""DSPy's own optimisers on an evaluator of ours: MIPROv2, and BootstrapFewShotWithRandomSearch.

Written against DSPy 3.4.1. Where DSPy leaves a choice, it is made in its favour:

* its proposer gives the space's system texts, one after the other, and takes no generation;
* bootstrapping a demo takes none either: every exemplar is as good as its own answer;
* a prompt and an example that come again are not measured again.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np

from icl_align.errors import UserError
from icl_align.evaluate import Evaluator
from icl_align.prompt import Prompt
from icl_align.search.baselines.dspy_model import Model, choice_of, metric, name
from icl_align.search.baselines.mipro import FULL_STEPS, MINIBATCH, sizes
from icl_align.space import Space
from icl_align.types import Example

_FIRST_SETS = 3
_EXTENSIONS = 8


def dspy_search(
    kind: Literal["mipro", "random"],
    space: Space,
    examples: Sequence[Example],
    evaluator: Evaluator,
    *,
    evaluations: int,
    seed: int,
) -> tuple[Prompt, float]:
    """Runs one of DSPy's optimisers until its schedule ends, which is within the budget.

    Both pick sets of exemplars from the pool, with up to K_max; "mipro" also picks the system text,
    "random" keeps the first one. Format and decoding stay what the space names first. Where K may not
    be 0, prompts without exemplars are measured as DSPy does, but not given as the result.

    Args:
        kind: "mipro" is `MIPROv2`, "random" is `BootstrapFewShotWithRandomSearch`.
        space: What may vary.
        examples: The development examples. A full evaluation takes a 15th of the budget, or all of
            them where these are fewer.
        evaluator: Measures a prompt on one example at a time; its own account says what was used.
        evaluations: The budget, in (prompt, example) pairs.
        seed: Seed of the examples of a full evaluation, of the pool's order, and of MIPROv2.

    Returns:
        The best prompt, and the score that DSPy reports for it, in [0, 1] and rounded to 4 places.

    Raises:
        UserError: nothing to pick from, no examples, a budget for less than two evaluations of a
            prompt, or no prompt found that is in the space.
        BaseException: whatever the evaluator raised first.
    """
    if space.k_max == 0 or not examples:
        raise UserError(
            "DSPy picks exemplars for examples: it needs a pool, K above 0, and examples"
        )
    full, sets = sizes(len(examples), evaluations)
    least = full * (_FIRST_SETS if kind == "random" else 2)
    if evaluations < least:
        raise UserError(f"DSPy needs at least {least} evaluations here, got {evaluations}")
    import dspy

    rng = np.random.default_rng([seed, 0xD59])
    valset = [_example("example", i, "") for i in rng.permutation(len(examples))[:full]]
    trainset = [_example("exemplar", i, "an answer") for i in rng.permutation(len(space.pool))]
    model = Model(space, examples, evaluator)
    student = dspy.Predict(dspy.Signature("question -> response", name("system", 0)))
    try:
        with quiet(), dspy.context(lm=dspy.LM("icl_align/search", engine=model, cache=False)):
            if kind == "mipro":
                found = _mipro(space, student, trainset, valset, evaluations, sets, seed, model)
            else:
                found = _random(space, student, trainset, valset, evaluations)
    except Exception:
        if model.failure is None:
            raise
    if model.failure is not None:
        raise model.failure
    for candidate in found.candidate_programs:
        choice = choice_of(candidate["program"])
        if len(choice.exemplars) >= space.k_min:
            return model.space.build(model.choices.write(choice)), candidate["score"] / 100
    raise UserError(
        "DSPy found no prompt with as many exemplars as K must be; give it a larger budget"
    )


def _mipro(
    space: Space,
    student: Any,
    trainset: list[Any],
    valset: list[Any],
    evaluations: int,
    sets: int,
    seed: int,
    model: Model,
) -> Any:
    """Compiles with MIPROv2, with as many trials as the budget pays for.

    Its trials often repeat a prompt, which costs nothing. What that saved pays for more trials: it is
    run again from the start, where all it did before is known, with a schedule that is as much longer.
    """
    import dspy

    full, systems = len(valset), len(space.systems)
    minibatch = min(MINIBATCH, full)
    trials, found = 0, None
    for _ in range(_EXTENSIONS):
        more = 0
        while mipro_cost(trials + more + 1, full, minibatch) <= (
            evaluations - model.used + mipro_cost(trials, full, minibatch)
        ):
            more += 1
        if not more:
            break
        trials += more
        model.begin()
        optimiser = dspy.MIPROv2(
            metric=metric,
            auto=None,
            num_candidates=max(sets, systems),  # it proposes no more instructions than sets
            max_bootstrapped_demos=space.k_max,
            max_labeled_demos=space.k_max,
            num_threads=1,
            max_errors=1,
            seed=seed + 1,  # it takes 0 for none
        )
        optimiser.num_instruct_candidates = systems
        found = optimiser.compile(
            student,
            trainset=trainset,
            valset=valset,
            num_trials=trials,
            minibatch=minibatch < full,
            minibatch_size=minibatch,
            minibatch_full_eval_steps=FULL_STEPS,
            program_aware_proposer=False,
            data_aware_proposer=False,
            tip_aware_proposer=False,
            fewshot_aware_proposer=False,
        )
    return found


def mipro_cost(trials: int, full: int, minibatch: int) -> int:
    """Counts the evaluations of MIPROv2: the default fully, trials, and the best of each 5 fully."""
    if trials == 0:
        return 0
    if minibatch >= full:
        return full * (1 + trials)
    return full + trials * minibatch + -(-trials // FULL_STEPS) * full


def _random(
    space: Space, student: Any, trainset: list[Any], valset: list[Any], evaluations: int
) -> Any:
    """Compiles with BootstrapFewShotWithRandomSearch, with as many sets as the budget pays for."""
    import dspy

    optimiser = dspy.BootstrapFewShotWithRandomSearch(
        metric=metric,
        max_bootstrapped_demos=space.k_max,
        max_labeled_demos=space.k_max,
        num_candidate_programs=evaluations // len(valset) - _FIRST_SETS,
        num_threads=1,
        max_errors=1,
    )
    return optimiser.compile(student, trainset=trainset, valset=valset)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps DSPy's prints and progress bars off the terminal, and Optuna's log as it was."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sink = io.StringIO()
    try:
        with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def _example(kind: str, number: int, response: str) -> Any:
    import dspy

    return dspy.Example(question=name(kind, number), response=response).with_inputs("question")
