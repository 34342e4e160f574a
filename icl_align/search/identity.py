"""What makes two sweeps the same: what a study was started with, and must be continued with."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import optuna

from icl_align.errors import UserError
from icl_align.evaluate import Accounted, Evaluator
from icl_align.evaluation import example_ids
from icl_align.ledger import content_digest, example_digest
from icl_align.prompt import Prompt
from icl_align.search.goal import Goal
from icl_align.search.study import RECORD_VERSION
from icl_align.space import Space
from icl_align.types import Example

RUN_ATTR = "run"


def identity_of(
    space: Space,
    examples: Sequence[Example],
    evaluator: Evaluator,
    *,
    sampler: str,
    batch: int,
    embedder: str | None,
    goal: Goal,
    warm_start: Sequence[Prompt],
) -> dict[str, str]:
    """Gives what a sweep must be continued with, by names for people; see `run_sweep`."""
    return {
        "space": space.digest,
        "examples": _examples_digest(examples),
        "sampler": sampler,
        "batch": str(batch),
        "embedder": embedder or "usual",
        "goal": content_digest(asdict(goal)),
        "warm start": content_digest([prompt.digest for prompt in warm_start]),
        **(evaluator.identity if isinstance(evaluator, Accounted) else {}),
    }


def started_with(study: optuna.Study) -> tuple[int, int | None]:
    """Gives the seed of a study of ours, and the generations it was started for."""
    run = study.user_attrs[RUN_ATTR]
    return int(run["seed"]), run["generations"]


def claim(
    study: optuna.Study,
    place: str,
    seed: int | None,
    identity: Mapping[str, str],
    generations: int | None,
) -> tuple[int, int | None]:
    """Marks a new study as ours, refuses one that was started otherwise.

    Returns:
        Its seed, and the generations it was started for: what blocks are cut by stays as it was when
        the budget is raised.
    """
    stored = study.user_attrs.get(RUN_ATTR)
    if stored is None:
        if study.get_trials(deepcopy=False):
            raise UserError(
                f"the study {study.study_name!r} in {place} was not made by icl_align; "
                "use another study name or a new run"
            )
        seed = secrets.randbelow(2**31) if seed is None else seed
        run = {
            "version": RECORD_VERSION,
            "seed": seed,
            "identity": dict(identity),
            "generations": generations,
        }
        study.set_user_attr(RUN_ATTR, run)
        return seed, generations
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
    return int(stored["seed"]), stored["generations"]


def _examples_digest(examples: Sequence[Example]) -> str:
    ids = example_ids(examples)
    return content_digest(
        [[name, example_digest(e)] for name, e in zip(ids, examples, strict=True)]
    )
