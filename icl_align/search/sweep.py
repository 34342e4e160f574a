"""The loop of a search: a sampler proposes, an evaluator measures, the study remembers."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from icl_align.engines import ContextOverflowError
from icl_align.errors import UserError
from icl_align.evaluate import Accounted, Evaluation, Evaluator, Usage, evaluate, example_ids
from icl_align.ledger import content_digest, example_digest, shown
from icl_align.prompt import Prompt
from icl_align.search.samplers import SamplerFactory, tpe, trial_seed
from icl_align.search.study import (
    DEFAULT_STUDY,
    RECORD_VERSION,
    TRIAL_ATTR,
    TrialRecord,
    exclusive,
    opened_study,
    record_of,
)
from icl_align.space import Space
from icl_align.types import Example, Score

_RUN_ATTR = "run"
_WARM_ATTR = "warm_start"


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep has found so far.

    Attributes:
        trials: All trials of the study, in order.
        seed: The seed it runs with, also when none was given.
        interrupted: True when it was stopped from the keyboard before its end.
    """

    trials: tuple[TrialRecord, ...]
    seed: int
    interrupted: bool = False

    @property
    def best(self) -> TrialRecord | None:
        """The complete trial with the highest mean, the earliest among equals; None without one."""
        complete = [trial for trial in self.trials if trial.mean is not None]
        return max(complete, key=lambda trial: trial.mean or 0.0, default=None)


def run_sweep(
    space: Space,
    examples: Sequence[Example],
    evaluator: Evaluator,
    *,
    url: str,
    trials: int,
    seed: int | None = 0,
    sampler: SamplerFactory = tpe,
    warm_start: Sequence[Prompt] = (),
    study_name: str = DEFAULT_STUDY,
    on_trial: Callable[[TrialRecord], None] | None = None,
) -> Sweep:
    """Starts a sweep or continues it, until its study holds `trials` trials.

    A trial that was cut off is taken up first, with the parameters it would have had, so a run
    that was killed and continued gives the same study as an unbroken one. A prompt that was
    measured before is not measured again. A trial without any verdict is recorded as failed, never
    as 0. An interrupt from the keyboard ends the sweep early with what there is.

    Args:
        space: What may vary.
        examples: The development examples.
        evaluator: Measures a prompt on examples. One that is `Accounted` also has its costs
            recorded.
        url: The run's database, shared with the ledger.
        trials: How many trials the study shall hold in all, earlier ones included.
        seed: Seed of the study; None draws one, or takes up that of the study to be continued.
        sampler: Makes the sampler of a trial from its seed.
        warm_start: Prompts of the space to be measured first.
        study_name: Name of the study in the database.
        on_trial: Told of each trial as it ends.

    Raises:
        UserError: a warm start outside the space, a run that was started otherwise or is in use by
            another process, no examples, or a database that cannot be used.
    """
    if not examples:
        raise UserError("a sweep needs at least one development example, got none")
    points = [space.point(prompt) for prompt in warm_start]
    identity = {
        "space": space.digest,
        "examples": _examples_digest(examples),
        "sampler": _name_of(sampler),
        "warm start": content_digest([prompt.digest for prompt in warm_start]),
        **(evaluator.identity if isinstance(evaluator, Accounted) else {}),
    }
    with exclusive(url), opened_study(url, study_name, create=True) as study:
        seed = _claim(study, shown(url), seed, identity)
        _enqueue(study, points)
        interrupted = False
        try:
            while (cut_off := _first(study, TrialState.RUNNING)) or _started(study) < trials:
                trial = _next_trial(study, cut_off, sampler, seed)
                point = _suggest(trial, space)
                record = _measure(study, trial, space.build(point), examples, evaluator)
                if on_trial:
                    on_trial(record)
        except KeyboardInterrupt:
            interrupted = True
        return Sweep(tuple(record_of(trial) for trial in study.get_trials()), seed, interrupted)


def _claim(study: optuna.Study, place: str, seed: int | None, identity: Mapping[str, str]) -> int:
    """Marks a new study as ours, refuses one that was started otherwise, and gives its seed."""
    stored = study.user_attrs.get(_RUN_ATTR)
    if stored is None:
        if study.get_trials(deepcopy=False):
            raise UserError(
                f"the study {study.study_name!r} in {place} was not made by icl_align; "
                "use another study name or a new run"
            )
        seed = secrets.randbelow(2**31) if seed is None else seed
        run = {"version": RECORD_VERSION, "seed": seed, "identity": dict(identity)}
        study.set_user_attr(_RUN_ATTR, run)
        return seed
    if stored["version"] != RECORD_VERSION:
        raise UserError(
            f"this icl_align reads run version {RECORD_VERSION}, but {place} has version "
            f"{stored['version']}; use the version of icl_align that wrote it, or a new run"
        )
    before: dict[str, Any] = {"seed": stored["seed"], **stored["identity"]}
    now: dict[str, Any] = {"seed": stored["seed"] if seed is None else seed, **identity}
    for name in dict.fromkeys([*before, *now]):
        if before.get(name) != now.get(name):
            raise UserError(
                f"the run in {place} was started with another {name} "
                f"({str(before.get(name))[:16]}, now "
                f"{str(now.get(name))[:16]}); use the same, or start a new run elsewhere"
            )
    return int(stored["seed"])


def _enqueue(study: optuna.Study, points: Sequence[Mapping[str, Any]]) -> None:
    """Queues the warm starts that are not in the study yet."""
    there = {trial.user_attrs.get(_WARM_ATTR) for trial in study.get_trials(deepcopy=False)}
    for number, point in enumerate(points):
        if number not in there:
            study.enqueue_trial(dict(point), user_attrs={_WARM_ATTR: number})


def _next_trial(
    study: optuna.Study, cut_off: FrozenTrial | None, sampler: SamplerFactory, seed: int
) -> Trial:
    """Gives the trial to measure next, its sampler seeded by its number."""
    waiting = _first(study, TrialState.WAITING)
    coming = cut_off or waiting
    number = coming.number if coming else len(study.get_trials(deepcopy=False))
    study.sampler = sampler(seed=trial_seed(seed, number))
    # Optuna has no public way to take up a running trial; this is how Study.ask makes its own.
    trial = Trial(study, cut_off._trial_id) if cut_off else study.ask()
    if trial.number != number:
        raise RuntimeError(f"expected trial {number}, the study gave {trial.number}")
    return trial


def _suggest(trial: Trial, space: Space) -> dict[str, Any]:
    """Draws all dimensions of a trial.

    A trial killed between two dimensions has some recorded. They are drawn again all the same:
    otherwise the random stream would be behind by that many draws, and the others would come out
    differently.
    """
    recorded = trial.params
    frozen = trial._cached_frozen_trial
    frozen.params, frozen.distributions = {}, {}
    drawn = {
        name: trial._suggest(name, distribution)
        for name, distribution in space.distributions().items()
    }
    return drawn | recorded


def _measure(
    study: optuna.Study,
    trial: Trial,
    prompt: Prompt,
    examples: Sequence[Example],
    evaluator: Evaluator,
) -> TrialRecord:
    """Measures a prompt, unless that was done before, and tells the study."""
    if TRIAL_ATTR not in trial.user_attrs:  # else it was killed between measuring and telling
        before = evaluator.usage if isinstance(evaluator, Accounted) else Usage()
        start = time.perf_counter()
        twin = _twin(study, prompt)
        evaluation = _evaluate_rest(prompt, examples, evaluator, twin.evaluation if twin else None)
        record = TrialRecord(
            number=trial.number,
            state="running",
            params=trial.params,
            evaluation=evaluation,
            usage=evaluator.usage - before if isinstance(evaluator, Accounted) else Usage(),
            seconds=time.perf_counter() - start,
            note=f"same prompt as trial {twin.number}" if twin else "",
        )
        trial.set_user_attr(TRIAL_ATTR, record.to_json())
    mean = trial.user_attrs[TRIAL_ATTR]["mean"]
    state = TrialState.FAIL if mean is None else TrialState.COMPLETE
    return record_of(study.tell(trial, mean, state))


def _evaluate_rest(
    prompt: Prompt, examples: Sequence[Example], evaluator: Evaluator, earlier: Evaluation | None
) -> Evaluation:
    """Evaluates a prompt on the examples on which an earlier evaluation has no verdict."""
    ids = example_ids(examples)
    known: dict[str, Score] = {}
    if earlier:
        pairs = zip(earlier.ids, earlier.scores, strict=True)
        known = {name: score for name, score in pairs if score.value is not None}
    rest = [example for name, example in zip(ids, examples, strict=True) if name not in known]
    if rest:
        try:
            new = evaluate(prompt, rest, evaluator)
            known |= dict(zip(new.ids, new.scores, strict=True))
        except ContextOverflowError as error:  # this point cannot be used; the others still can
            known |= {name: Score(None, note=str(error)) for name in ids if name not in known}
    return Evaluation(prompt, ids, tuple(known[name] for name in ids))


def _twin(study: optuna.Study, prompt: Prompt) -> TrialRecord | None:
    """Finds the last complete trial of the same prompt."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    same = [trial for trial in complete if trial.user_attrs[TRIAL_ATTR]["digest"] == prompt.digest]
    return record_of(same[-1]) if same else None


def _first(study: optuna.Study, state: TrialState) -> FrozenTrial | None:
    return next(iter(study.get_trials(deepcopy=False, states=(state,))), None)


def _started(study: optuna.Study) -> int:
    trials = study.get_trials(deepcopy=False)
    return sum(trial.state != TrialState.WAITING for trial in trials)


def _examples_digest(examples: Sequence[Example]) -> str:
    ids = example_ids(examples)
    return content_digest(
        [[name, example_digest(e)] for name, e in zip(ids, examples, strict=True)]
    )


def _name_of(sampler: SamplerFactory) -> str:
    return str(getattr(sampler, "__qualname__", type(sampler).__qualname__))
