"""What a sweep would have one use: its prompts in the sampler's order, with what is believed of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.samplers import BaseSampler

from icl_align.evaluation import Evaluation
from icl_align.prompt import Prompt
from icl_align.search.proposing import Estimate, ProposingSampler
from icl_align.search.study import TrialRecord
from icl_align.space import Space

_RANKING_ATTR = "ranking"


@dataclass(frozen=True, slots=True)
class Ranked:
    """A measured prompt, and what is believed of it.

    Attributes:
        number: The last trial that measured it.
        evaluation: All its scores.
        estimate: Its expected mean over the development examples, shrunk to what the other prompts say
            where the sampler has a model; the plain mean of its verdicts otherwise.
        sd: The estimate's standard deviation; None without a model.
        complete: Whether it was measured on all development examples.
        length: Tokens of the prompt without a query; a guess where the engine could not count.
        allowed: Whether it is believed to keep the sweep's constraint.
    """

    number: int
    evaluation: Evaluation
    estimate: float
    sd: float | None
    complete: bool
    length: int = 0
    allowed: bool = True

    @property
    def prompt(self) -> Prompt:
        """The prompt."""
        return self.evaluation.prompt

    @property
    def mean(self) -> float | None:
        """The plain mean of its verdicts."""
        return self.evaluation.mean

    def to_json(self) -> dict[str, Any]:
        """Gives the numbers."""
        return {
            "trial": self.number,
            "estimate": self.estimate,
            "sd": self.sd,
            "mean": self.mean,
            "n": self.evaluation.n,
            "missing": self.evaluation.missing,
            "complete": self.complete,
            "length": self.length,
            "allowed": self.allowed,
            "digest": self.prompt.digest,
        }


def rank(
    study: optuna.Study,
    records: Sequence[TrialRecord],
    sampler: BaseSampler,
    space: Space,
) -> tuple[Ranked, ...]:
    """Ranks the measured prompts of a study: as the sampler does, or by their means.

    With a part of the records it gives the ranking as it was when there were no others.

    Where the sampler has no say, prompts measured on all examples stand before those on some, and of
    these the ones on more before the ones on fewer: a partial mean is not compared with a whole one.
    """
    latest: dict[str, TrialRecord] = {}
    for record in records:
        if record.state in ("complete", "partial") and record.evaluation is not None:
            before = latest.get(record.evaluation.prompt.digest)
            if before is None or _verdicts(record) >= _verdicts(before):
                latest[record.evaluation.prompt.digest] = record
    if isinstance(sampler, ProposingSampler):
        told = {record.number for record in records}
        history = [row for row in sampler.history(study) if row.number in told]
        estimates = sampler.recommend(history)
        return ranked(latest, estimates, sampler, space)
    plain = [
        _ranked(record, record.evaluation.mean, None)
        for record in latest.values()
        if record.evaluation
    ]
    plain.sort(
        key=lambda item: (
            0 if item.complete else 1,
            0 if item.complete else -item.evaluation.n,
            -item.estimate,
            item.number,
        )
    )
    return tuple(plain)


def publish(study: optuna.Study, ranking: Sequence[Ranked], records: Sequence[TrialRecord]) -> None:
    """Writes a ranking into its study, for whoever reads it."""
    rows = [[item.number, item.estimate, item.sd, item.allowed] for item in ranking]
    study.set_user_attr(_RANKING_ATTR, {"trials": _told(records), "rows": rows})


def published(study: optuna.Study, records: Sequence[TrialRecord]) -> tuple[Ranked, ...] | None:
    """Reads the ranking that a study has published; None if trials have been told since."""
    stored = study.user_attrs.get(_RANKING_ATTR)
    if stored is None or stored["trials"] != _told(records):
        return None
    by_number = {record.number: record for record in records}
    return tuple(
        _ranked(by_number[number], mean, sd, allowed=allowed)
        for number, mean, sd, allowed in stored["rows"]
    )


def _told(records: Sequence[TrialRecord]) -> int:
    return sum(record.state not in ("running", "waiting") for record in records)


def ranked(
    latest: dict[str, TrialRecord],
    estimates: Sequence[Estimate],
    sampler: ProposingSampler,
    space: Space,
) -> tuple[Ranked, ...]:
    """Puts measured prompts into the order of a sampler's estimates."""
    found = []
    for estimate in estimates:
        prompt = space.build(sampler.choices.write(estimate.choice))
        record = latest.get(prompt.digest)
        if record is not None:
            found.append(_ranked(record, estimate.mean, estimate.sd, allowed=estimate.allowed))
    return tuple(found)


def front(ranking: Sequence[Ranked]) -> list[Ranked]:
    """Gives the Pareto front of quality and length, the best first.

    On it is a prompt that is allowed, and better by its estimate than every allowed prompt that is not
    longer. Prompts measured on all examples are compared only with one another, if there are any.
    """
    whole = [item for item in ranking if item.allowed and item.complete]
    found: list[Ranked] = []
    for item in sorted(
        whole or [item for item in ranking if item.allowed],
        key=lambda item: (item.length, -item.estimate, item.number),
    ):
        if not found or item.estimate > found[-1].estimate:
            found.append(item)
    return found[::-1]


def _ranked(
    record: TrialRecord, mean: float | None, sd: float | None, *, allowed: bool = True
) -> Ranked:
    assert record.evaluation is not None
    complete = record.state == "complete"
    return Ranked(
        record.number, record.evaluation, mean or 0.0, sd, complete, record.length, allowed
    )


def _verdicts(record: TrialRecord) -> int:
    return record.evaluation.n if record.evaluation else 0
