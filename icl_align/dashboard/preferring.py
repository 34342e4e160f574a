"""Has people compare prompts by their answers, in a preference study of its own beside the run's study.

A round is one such study: a few prompts, blind, and the answers of each to the same few development
instructions, as the run's ledger has them. People choose the worst, again and again, until one is left.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import optuna
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage

from icl_align.dashboard.choosing import Card, Choice, Contender
from icl_align.dashboard.markdown import fenced
from icl_align.errors import UserError
from icl_align.evaluation import example_ids
from icl_align.report.clean import LONGEST
from icl_align.run import Run
from icl_align.search.identity import RUN_ATTR
from icl_align.types import Example

_ROUND = "icl_align:preferences"
"""The attribute that says whose answers a round's trials show; optuna-dashboard does not show it."""
_NAME = re.compile(r"preferences-(\d+)\Z")
_VERSION = 2
_EACH_ALONE = 1
"""The version in which every prompt had a card of its own."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A round of comparisons.

    Attributes:
        name: The study's name.
        study_id: Its id.
        cards: The prompts of each card, several where they answer alike; the place of a card is its
            trial's number in this study.
        instructions: Ids of the development instructions whose answers are shown.
        new: Whether it has just been made.
    """

    name: str
    study_id: int
    cards: tuple[tuple[Contender, ...], ...]
    instructions: tuple[str, ...]
    new: bool = False

    @property
    def contenders(self) -> tuple[Contender, ...]:
        """All prompts."""
        return tuple(one for card in self.cards for one in card)

    @property
    def alike(self) -> tuple[tuple[int, ...], ...]:
        """The trials of each card that stands for several prompts."""
        return tuple(tuple(one.trial for one in card) for card in self.cards if len(card) > 1)


def open_round(run: Run, study: optuna.Study, prompts: int, instructions: int) -> Asked:
    """Takes up the round that is not decided yet, or begins the next one with other instructions.

    Args:
        run: The run.
        study: Its study.
        prompts: How many of the best prompts take part, besides the main baseline.
        instructions: How many instructions they are compared on.

    Raises:
        UserError: too few prompts have answers to the same instructions, or all answer alike.
    """
    storage = study._storage  # noqa: SLF001 (with its cache; Optuna has no public way to it)
    before = rounds(storage)
    for asked in before:
        if undecided(storage, asked):
            return asked
    numbers = [
        int(found[1]) for one in storage.get_all_studies() if (found := _NAME.match(one.study_name))
    ]
    number = max(numbers, default=0) + 1
    engine = str(study.user_attrs.get(RUN_ATTR, {}).get("identity", {}).get("engine", ""))
    chosen = Choice(run, engine, [name for asked in before for name in asked.instructions])
    cards = chosen.of(prompts, instructions, seed=number)
    return _made(storage, f"preferences-{number}", cards)


def rounds(storage: BaseStorage) -> list[Asked]:
    """Gives the rounds of a database, in order; one that was cut off while it was made is left out."""
    found = []
    for one in storage.get_all_studies():
        told = one.system_attrs.get(_ROUND)
        if told is None or not _NAME.match(one.study_name):
            continue
        if told["version"] not in (_EACH_ALONE, _VERSION):
            raise UserError(
                f"{one.study_name} has version {told['version']}, this icl_align reads {_VERSION}"
            )
        alone = told["version"] == _EACH_ALONE
        rows = [[row] for row in told["contenders"]] if alone else told["cards"]
        cards = tuple(tuple(Contender(**row) for row in card) for card in rows)
        identity = storage.get_study_id_from_name(one.study_name)
        found.append(Asked(one.study_name, identity, cards, tuple(told["instructions"])))
    return sorted(found, key=lambda asked: int(asked.name.rpartition("-")[2]))


def asked_in(storage: BaseStorage, study_id: int) -> Asked | None:
    """Gives the round that a study is, if it is one."""
    return next((one for one in rounds(storage) if one.study_id == study_id), None)


def worse_pairs(storage: BaseStorage, asked: Asked) -> list[tuple[int, int]]:
    """Gives what people have said in a round, as places of cards: the better one, the worse one."""
    from optuna_dashboard.preferential import load_study

    study = load_study(study_name=asked.name, storage=storage, sampler=RandomSampler(seed=0))
    return [(a.number, b.number) for a, b in study.get_preferences(deepcopy=False)]


def standing(storage: BaseStorage, asked: Asked) -> set[int]:
    """Gives the cards of a round that are neither worse than another nor skipped."""
    from optuna_dashboard.preferential import load_study

    beaten = {worse for _, worse in worse_pairs(storage, asked)}
    study = load_study(study_name=asked.name, storage=storage, sampler=RandomSampler(seed=0))
    attributes = storage.get_study_system_attrs(asked.study_id)
    skipped = {
        trial.number
        for trial in study.get_trials(deepcopy=False)
        if f"preference:skip_trial:{trial._trial_id}" in attributes  # noqa: SLF001 (its key)
    }
    return set(range(len(asked.cards))) - beaten - skipped


def undecided(storage: BaseStorage, asked: Asked) -> bool:
    """Says whether more than one card of a round still stands."""
    return len(standing(storage, asked)) > 1


def _made(storage: BaseStorage, name: str, cards: Sequence[Card]) -> Asked:
    """Makes a round; it counts as one only when all of it is there."""
    from optuna_dashboard import register_preference_feedback_component, save_note
    from optuna_dashboard.preferential import create_study

    study = create_study(
        n_generate=len(cards),
        storage=storage,
        sampler=RandomSampler(seed=0),  # never asked: the trials have no parameters
        study_name=name,
    )
    register_preference_feedback_component(study, "note")
    for place, card in enumerate(cards):
        trial = study.ask()
        save_note(trial, _answers_note(place, card.rows))
    identity = storage.get_study_id_from_name(name)
    names = tuple(example_ids([example for example, _ in cards[0].rows]))
    told: dict[str, Any] = {
        "version": _VERSION,
        "cards": [[asdict(one) for one in card.contenders] for card in cards],
        "instructions": list(names),
    }
    storage.set_study_system_attr(identity, _ROUND, told)
    return Asked(name, identity, tuple(card.contenders for card in cards), names, new=True)


def _answers_note(place: int, rows: Sequence[tuple[Example, str]]) -> str:
    """What people see of a prompt: the instructions and its answers, and nothing of who it is."""
    parts = [f"### Answers of card {place} (the page says: trial {place})"]
    for number, (example, answer) in enumerate(rows, start=1):
        turns = "".join(f"{turn.query}\n\u2192 {turn.answer}\n" for turn in example.turns)
        parts += [
            f"**Instruction {number}**",
            fenced(turns + example.query, LONGEST),
            "**Answer**",
            fenced(answer or "(empty)", LONGEST),
        ]
    return "\n\n".join(parts)
