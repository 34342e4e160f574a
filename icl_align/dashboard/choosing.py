"""Which prompts people compare, and on what: those whose answers to the same instructions the ledger has."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from icl_align.assemble import build_baselines, load_splits
from icl_align.dashboard.alike import cards, telling
from icl_align.dashboard.proved import proved
from icl_align.errors import UserError
from icl_align.evaluation import example_ids
from icl_align.ledger import Ledger, response_key
from icl_align.prompt import Prompt
from icl_align.run import Run
from icl_align.types import Example

_FEWEST = 2


@dataclass(frozen=True, slots=True)
class Contender:
    """A prompt that people compare.

    Attributes:
        digest: Its digest.
        trial: The trial of the run that measured it last.
        role: "winner", the main baseline's name, or "".
    """

    digest: str
    trial: int
    role: str


@dataclass(frozen=True, slots=True)
class Card:
    """What people see of prompts that answer alike; mostly of one.

    Attributes:
        contenders: The prompts, by trial.
        rows: Instructions and the answers, the same instructions on all cards of a round.
    """

    contenders: tuple[Contender, ...]
    rows: tuple[tuple[Example, str], ...]


class Choice:
    """Chooses the contenders of a round and the instructions that they are compared on."""

    def __init__(self, run: Run, engine: str, used: Sequence[str]) -> None:
        """Reads the ranking and the development instructions.

        Args:
            run: The run.
            engine: The fingerprint of the engine that answered.
            used: Ids of instructions of earlier rounds, which are taken only where others are lacking.

        Raises:
            UserError: a file of the run cannot be read.
        """
        self._ranking = run.ranking()
        self._baseline = next(iter(build_baselines(run.experiment).items()), None)
        examples = load_splits(run.experiment)["dev"]
        self._examples = dict(zip(example_ids(examples), examples, strict=True))
        self._run, self._engine, self._used = run, engine, used
        winner = proved(run.folder)
        best = self._ranking[0].prompt.digest if self._ranking else ""
        self._winner = best if winner is None else winner.digest

    def of(self, prompts: int, instructions: int, *, seed: int) -> tuple[Card, ...]:
        """Gives the cards of a round in a drawn order.

        Raises:
            UserError: too few prompts have answers to so many common instructions, or all answer alike.
        """
        ledger = Ledger(self._run.url)
        try:
            taken, common = self._taken(ledger, prompts, instructions)
            random.Random(seed).shuffle(taken)
            answers = [self._answers(ledger, prompt) for _, prompt in taken]
        finally:
            ledger.close()
        fresh = [name for name in common if name not in self._used]
        if len(fresh) < instructions or len(cards(fresh, answers)) < _FEWEST:
            fresh = common
        names = telling(fresh, answers, instructions, seed=seed)
        found = [
            Card(
                tuple(sorted((taken[place][0] for place in places), key=lambda one: one.trial)),
                tuple((self._examples[name], answers[places[0]][name]) for name in names),
            )
            for places in cards(names, answers)
        ]
        if len(found) < _FEWEST:
            raise UserError(
                f"all {len(taken)} prompts answer alike on the {len(common)} development instructions "
                "that they have in common, so there is nothing to compare; choose more prompts "
                f"(--top {2 * prompts} or so), or let the search go on"
            )
        return tuple(found)

    def _taken(
        self, ledger: Ledger, prompts: int, instructions: int
    ) -> tuple[list[tuple[Contender, Prompt]], list[str]]:
        """Goes down the ranking, the main baseline first, as long as enough instructions are common."""
        name, main = self._baseline or ("", None)
        rival = [one for one in self._ranking if main and one.prompt.digest == main.digest]
        others = [one for one in self._ranking if one not in rival]
        taken: list[tuple[Contender, Prompt]] = []
        common = list(self._examples)
        for item in [*rival, *others]:
            if len(taken) >= prompts + len(rival):
                break
            answered = self._answers(ledger, item.prompt)
            left = [one for one in common if one in answered]
            if len(left) < instructions:
                continue
            won = item.prompt.digest == self._winner
            role = name if item in rival else "winner" if won else ""
            taken.append((Contender(item.prompt.digest, item.number, role), item.prompt))
            common = left
        if len(taken) < _FEWEST:
            raise UserError(
                f"people can compare {_FEWEST} prompts or more, but {len(taken)} have answers to "
                f"{instructions} common development instructions; let the search go on, or choose "
                "fewer --instructions"
            )
        return taken, common

    def _answers(self, ledger: Ledger, prompt: Prompt) -> dict[str, str]:
        """The answers of a prompt to development instructions that the ledger has, as scorers saw them."""
        keys = {
            name: response_key(self._engine, prompt.render(example), prompt.stop, prompt.decoding)
            for name, example in self._examples.items()
        }
        found = ledger.responses(keys.values())
        return {name: prompt.parse(found[key].text) for name, key in keys.items() if key in found}
