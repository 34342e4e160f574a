"""What a study's trials say beyond their ranking: system by exemplar, and which dimensions matter."""

from __future__ import annotations

import statistics
import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from icl_align.errors import UserError
from icl_align.prompt import Prompt
from icl_align.search.study import TrialRecord
from icl_align.space import Space
from icl_align.types import Example

_SYSTEMS = 6
_FEWEST = 4
"""Prompts below which nothing is said about importances."""


def centred_means(trials: Sequence[TrialRecord]) -> list[tuple[Prompt, float]]:
    """Gives each prompt's mean score above what the other prompts' say of the same instructions.

    Trials measure different instructions; without this, hard ones would speak against their prompts.
    """
    latest: dict[str, TrialRecord] = {}
    for trial in trials:
        if trial.evaluation is not None and trial.evaluation.n:
            latest[trial.evaluation.prompt.digest] = trial
    by_example: dict[str, list[float]] = defaultdict(list)
    evaluations = [t.evaluation for t in latest.values() if t.evaluation is not None]
    for evaluation in evaluations:
        for name, score in zip(evaluation.ids, evaluation.scores, strict=True):
            if score.value is not None:
                by_example[name].append(score.value)
    usual = {name: statistics.fmean(values) for name, values in by_example.items()}
    return [
        (
            one.prompt,
            statistics.fmean(
                score.value - usual[name]
                for name, score in zip(one.ids, one.scores, strict=True)
                if score.value is not None
            ),
        )
        for one in evaluations
    ]


def interaction(prompt: Prompt, trials: Sequence[TrialRecord]) -> list[dict[str, Any]]:
    """What the winner's exemplars went with, by system text: prompts that have one, minus those without.

    An observation: the search chose what to try. Systems with the most prompts, the winner's first.
    """
    rows = centred_means(trials)
    counts = Counter(one.system for one, _ in rows)
    systems = sorted(counts, key=lambda text: (text != prompt.system, -counts[text], text))
    return [
        {
            "system": system,
            "prompts": counts[system],
            "exemplars": [
                _difference([row for row in rows if row[0].system == system], exemplar)
                for exemplar in prompt.exemplars
            ],
        }
        for system in systems[:_SYSTEMS]
    ]


def _difference(rows: Sequence[tuple[Prompt, float]], exemplar: Example) -> dict[str, Any]:
    text = (exemplar.query, exemplar.answer)
    sides: tuple[list[float], list[float]] = ([], [])
    for prompt, value in rows:
        sides[text in [(e.query, e.answer) for e in prompt.exemplars]].append(value)
    without, with_it = sides
    there = bool(with_it and without)
    return {
        "difference": statistics.fmean(with_it) - statistics.fmean(without) if there else None,
        "with": len(with_it),
        "without": len(without),
    }


def importances(space: Space, trials: Sequence[TrialRecord]) -> Mapping[str, float] | None:
    """Gives Optuna's importance of each dimension (PED-ANOVA, 2304.10255); None with too few prompts.

    Over the centred means of `centred_means`, so that trials on different instructions can be compared.
    They say what mattered among the prompts tried, and add up to 1; the slots of exemplars count together.
    """
    import optuna

    distributions, rows = space.distributions(), []
    for prompt, value in centred_means(trials):
        try:
            rows.append((space.point(prompt), value))
        except UserError:  # it was measured, but the space has no such point
            continue
    values = [value for _, value in rows]
    if not distributions or len(rows) < _FEWEST or max(values) - min(values) <= 0:
        return None
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(
            sampler=optuna.samplers.RandomSampler(seed=0), direction="maximize"
        )
        study.add_trials(
            [
                optuna.trial.create_trial(params=point, distributions=distributions, value=value)
                for point, value in rows
            ]
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            evaluator = optuna.importance.PedAnovaImportanceEvaluator()
            given = optuna.importance.get_param_importances(study, evaluator=evaluator)
    finally:
        optuna.logging.set_verbosity(verbosity)
    found: dict[str, float] = {}
    for name, value in given.items():
        group = "exemplars" if name.startswith("slot_") else name
        found[group] = found.get(group, 0.0) + float(value)
    return dict(sorted(found.items(), key=lambda item: -item[1]))
