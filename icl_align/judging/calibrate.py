"""Measures each judge's scale on the dev instructions, before a sweep."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from icl_align.assemble import build_baselines, build_scorer, build_space, load_splits
from icl_align.config import Experiment
from icl_align.errors import UserError
from icl_align.evaluate import EngineEvaluator
from icl_align.prompt import Prompt
from icl_align.scorers.calibration import Calibration, calibrated
from icl_align.search.choices import Choices


def some_prompts(experiment: Experiment, count: int) -> list[Prompt]:
    """Gives the baselines, and random prompts of the space up to `count` in all."""
    space = build_space(experiment)
    choices = Choices(space)
    rng = np.random.default_rng([experiment.seed, 7])
    found = {prompt.digest: prompt for prompt in build_baselines(experiment).values()}
    for _ in range(50 * count):
        if len(found) >= count:
            break
        prompt = space.build(choices.write(choices.random(rng)))
        found.setdefault(prompt.digest, prompt)
    return list(found.values())[:count]


def calibrate(
    experiment: Experiment,
    evaluator: EngineEvaluator,
    *,
    terms: Sequence[str] = (),
    prompts: int = 4,
    limit: int | None = None,
    length: bool = True,
    on_progress: Callable[[float, str], None] = lambda *_: None,
    on_failure: Callable[[str], None] = lambda _: None,
) -> dict[str, Calibration]:
    """Scores some prompts' responses to the dev instructions, and says on which scale each term grades.

    Args:
        experiment: Whose terms, without the calibrations they may have.
        evaluator: Its engine answers; its ledger remembers answers and scores.
        terms: Which ones; all where empty.
        prompts: How many prompts answer: the hand-written ones first, then random ones.
        limit: At most so many dev instructions.
        length: Whether to take the taste for length off.
        on_progress: Told the share that is scored, in [0, 1], and what is being scored.
        on_failure: Told of each term whose scores say nothing; it is left out.

    Raises:
        UserError: no such term, or the scores of none say anything.
    """
    unknown = [name for name in terms if name not in experiment.objective]
    if unknown:
        raise UserError(
            f"the objective has no term {unknown[0]!r}, only {', '.join(experiment.objective)}"
        )
    examples = load_splits(experiment)["dev"][:limit]
    asked = some_prompts(experiment, prompts)
    names = terms or sorted(experiment.objective)
    on_progress(0.0, f"{len(asked)} prompts answer")
    answers = evaluator.respond([(prompt, examples) for prompt in asked])
    found: dict[str, Calibration] = {}
    failed: list[str] = []
    for place, name in enumerate(names):
        table = experiment.objective[name]
        scorer = build_scorer(table.scorer or name, table.options, f"objective.{name}")
        grader = EngineEvaluator(evaluator.engine, scorer, evaluator.ledger)
        scores = []
        for number, column in enumerate(answers):
            share = (place + number / len(answers)) / len(names)
            on_progress(share, f"{name}, prompt {number + 1} of {len(answers)}")
            scores.append(grader.grade(examples, column))
        try:
            found[name] = calibrated(scorer, scores, answers, length=length)
        except UserError as error:
            failed.append(f"{name}: {error}")
            on_failure(f"the term {name!r} stays as it is: {error}")
    if not found:
        raise UserError(f"no term can be calibrated; {failed[0]}")
    on_progress(1.0, "done")
    return found
