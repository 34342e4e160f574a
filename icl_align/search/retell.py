"""Tells a study again with other scores: what was generated stays, what it is worth changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import optuna
from optuna.trial import TrialState

from icl_align.errors import UserError
from icl_align.evaluate import EngineEvaluator
from icl_align.evaluation import Evaluation, example_ids
from icl_align.ledger import shown
from icl_align.search.identity import RUN_ATTR
from icl_align.search.proposing import TRIAL_ATTR
from icl_align.search.study import DEFAULT_STUDY, TrialRecord, exclusive, opened_study, record_of
from icl_align.types import Example, Score


def engine_of(url: str, study_name: str = DEFAULT_STUDY) -> str:
    """Gives the fingerprint of the engine that a study's responses came from.

    Raises:
        UserError: there is no such study, or it does not say.
    """
    with opened_study(url, study_name, create=False) as study:
        identity = study.user_attrs.get(RUN_ATTR, {}).get("identity", {})
    if "engine" not in identity:
        raise UserError(f"the run in {shown(url)} does not say which engine it used")
    return str(identity["engine"])


def retell(
    source: str,
    target: str,
    evaluator: EngineEvaluator,
    examples: Sequence[Example],
    *,
    study_name: str = DEFAULT_STUDY,
    on_progress: Callable[[float, str], None] | None = None,
) -> list[tuple[TrialRecord, TrialRecord]]:
    """Writes a study's finished trials into a new one, with the scores that an evaluator gives now.

    Args:
        source: Database of the study.
        target: Database of the new one.
        evaluator: Grades the responses; its engine is asked for those that its ledger does not have.
        examples: The development examples of the study.
        study_name: Its name, and the new one's.
        on_progress: Told the share that is graded, in [0, 1], and what that is.

    Returns:
        Each trial as it was and as it is now.

    Raises:
        UserError: the new database holds trials already, or the examples are not the study's.
    """
    with exclusive(target), opened_study(target, study_name, create=True) as new:
        _refuse_trials(new, target)  # before any judge is asked
    with opened_study(source, study_name, create=False) as study:
        attrs, trials = study.user_attrs, study.get_trials()
    done = [t for t in trials if t.state.is_finished() and TRIAL_ATTR in t.user_attrs]
    before = [record_of(trial) for trial in done]
    by_id = dict(zip(example_ids(examples), examples, strict=True))
    scores = _graded(before, by_id, evaluator, on_progress)
    after = []
    for record in before:
        assert record.evaluation is not None
        known = scores[record.evaluation.prompt.digest]
        ids = record.evaluation.ids
        graded = Evaluation(record.evaluation.prompt, ids, tuple(known[name] for name in ids))
        after.append(replace(record, evaluation=graded))
    with exclusive(target), opened_study(target, study_name, create=True) as new:
        _refuse_trials(new, target)
        run = attrs[RUN_ATTR]
        identity = {**run["identity"], **evaluator.identity}
        new.set_user_attr(RUN_ATTR, {**run, "identity": identity})
        for trial, record in zip(done, after, strict=True):
            new.add_trial(_again(trial, record, len(by_id)))
        told = [record_of(trial) for trial in new.get_trials()]
    return list(zip(before, told, strict=True))


def _refuse_trials(study: optuna.Study, url: str) -> None:
    if study.get_trials(deepcopy=False):
        raise UserError(f"{shown(url)} holds a run already; choose another --out")


def _graded(
    records: Sequence[TrialRecord],
    examples: dict[str, Example],
    evaluator: EngineEvaluator,
    on_progress: Callable[[float, str], None] | None,
) -> dict[str, dict[str, Score]]:
    """Grades each prompt once, on all the examples that any trial has measured it on."""
    wanted: dict[str, tuple[Any, dict[str, None]]] = {}
    for record in records:
        if record.evaluation is not None:
            prompt = record.evaluation.prompt
            wanted.setdefault(prompt.digest, (prompt, {}))[1].update(
                dict.fromkeys(record.evaluation.ids)
            )
    found: dict[str, dict[str, Score]] = {}
    for digest, (prompt, names) in wanted.items():
        unknown = next((name for name in names if name not in examples), None)
        if unknown is not None:
            raise UserError(f"the development examples hold no {unknown!r}; were they changed?")
        graded = evaluator(prompt, [examples[name] for name in names])
        found[digest] = dict(zip(names, graded, strict=True))
        if on_progress:
            on_progress(len(found) / len(wanted), f"{len(found):,} of {len(wanted):,} prompts")
    return found


def _again(
    trial: optuna.trial.FrozenTrial, record: TrialRecord, whole: int
) -> optuna.trial.FrozenTrial:
    """Makes the new study's trial; its number stays where all trials before it are told again too."""
    evaluation = record.evaluation
    assert evaluation is not None
    state, value = TrialState.PRUNED, None
    if evaluation.mean is None:
        state = TrialState.FAIL
    elif len(evaluation.ids) == whole:
        state, value = TrialState.COMPLETE, evaluation.mean
    return optuna.trial.create_trial(
        state=state,
        value=value,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs={**trial.user_attrs, TRIAL_ATTR: record.to_json()},
        system_attrs=trial.system_attrs,
    )
