"""The suite for spaces has teeth: each broken space is refused for its own reason."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from icl_align.errors import UserError
from icl_align.prompt import FORMATS, Prompt
from icl_align.space import Space
from icl_align.testing import check_space
from icl_align.types import Decoding, Example


def made(kind: type[Space] = Space, **changes: Any) -> Space:
    """A space of a class with every dimension open, changed where a test says so."""
    settings: dict[str, Any] = {
        "systems": ("Be kind.", "Be brief."),
        "pool": tuple(Example(f"Question {i}?", f"Answer {i}.", id=f"e{i}") for i in range(6)),
        "k_min": 1,
        "k_max": 3,
        "formats": (FORMATS["block"], FORMATS["colon"]),
        "temperatures": (0.0, 0.7),
        "repetition_penalties": (1.0, 1.2),
        "decoding": Decoding(max_tokens=32),
    }
    return kind(**(settings | changes))


class Restless(Space):
    """Gives its dimensions in another order each time."""

    turns: ClassVar[Any] = itertools.count()

    def distributions(self) -> dict[str, BaseDistribution]:
        found = list(super().distributions().items())
        return dict(found[::-1] if next(self.turns) % 2 else found)


class Salted(Space):
    """Has another digest each time."""

    turns: ClassVar[Any] = itertools.count()

    @property
    def digest(self) -> str:
        return f"{super().digest}{next(self.turns)}"


class Wide(Space):
    """Offers a K that it cannot build."""

    def distributions(self) -> dict[str, BaseDistribution]:
        return super().distributions() | {"k": IntDistribution(self.k_min, self.k_max + 1)}


class Continuous(Space):
    """Has a dimension that is no choice."""

    def distributions(self) -> dict[str, BaseDistribution]:
        return super().distributions() | {"temperature": FloatDistribution(0.0, 1.0)}


class Doubling(Space):
    """Puts the first exemplar in twice."""

    def build(self, point: Mapping[str, Any]) -> Prompt:
        prompt = super().build(point)
        return replace(prompt, exemplars=(prompt.exemplars[0], *prompt.exemplars[:-1]))


class Short(Space):
    """Leaves out the last exemplar."""

    def build(self, point: Mapping[str, Any]) -> Prompt:
        prompt = super().build(point)
        return replace(prompt, exemplars=prompt.exemplars[:-1])


class Moody(Space):
    """Builds another prompt each time."""

    turns: ClassVar[Any] = itertools.count()

    def build(self, point: Mapping[str, Any]) -> Prompt:
        return replace(super().build(point), system=f"Be {next(self.turns)}.")


class Homeless(Space):
    """Does not find its own prompts."""

    def point(self, prompt: Prompt) -> dict[str, Any]:
        raise UserError("the prompt is not in the space: nothing is")


class Talkative(Space):
    """Finds a point of more than its dimensions."""

    def point(self, prompt: Prompt) -> dict[str, Any]:
        return super().point(prompt) | {"top_k": 3}


class Far(Space):
    """Finds a point outside."""

    def point(self, prompt: Prompt) -> dict[str, Any]:
        return super().point(prompt) | {"slot_3": 17}


class Shuffling(Space):
    """Finds the exemplars in another order."""

    def point(self, prompt: Prompt) -> dict[str, Any]:
        return super().point(replace(prompt, exemplars=prompt.exemplars[::-1]))


class Sorting(Space):
    """Forgets the order of the exemplars."""

    def build(self, point: Mapping[str, Any]) -> Prompt:
        prompt = super().build(point)
        return replace(prompt, exemplars=tuple(sorted(prompt.exemplars, key=lambda e: e.query)))


class Peeking(Space):
    """Lets a slot beyond K matter: it turns two exemplars round."""

    def build(self, point: Mapping[str, Any]) -> Prompt:
        prompt = super().build(point)
        turned = point["k"] == 2 and point["slot_3"] == point["slot_1"]
        return replace(prompt, exemplars=prompt.exemplars[::-1]) if turned else prompt


class Lenient(Space):
    """Takes the nearest system text for one it does not have."""

    def point(self, prompt: Prompt) -> dict[str, Any]:
        known = prompt.system if prompt.system in self.systems else self.systems[0]
        return super().point(replace(prompt, system=known))


class Careless(Space):
    """Does not look at what decoding the space fixes."""

    def point(self, prompt: Prompt) -> dict[str, Any]:
        tokens = self.decoding.max_tokens
        return super().point(replace(prompt, decoding=replace(prompt.decoding, max_tokens=tokens)))


class Rude(Space):
    """Refuses with a bug's error."""

    def point(self, prompt: Prompt) -> dict[str, Any]:
        try:
            return super().point(prompt)
        except UserError as error:
            raise KeyError(str(error)) from error


class Silent(Space):
    """Refuses without a word."""

    def point(self, prompt: Prompt) -> dict[str, Any]:
        try:
            return super().point(prompt)
        except UserError as error:
            raise UserError("") from error


BROKEN: dict[type[Space], str] = {
    Restless: "the dimensions must be the same each time, in a fixed order",
    Salted: "equal spaces must have equal digests",
    Wide: "every point of the distributions must build",
    Continuous: "categories and whole numbers",
    Doubling: "the exemplars of a prompt must be distinct",
    Short: "a prompt must have K exemplars, it has 0 where K is 1",
    Moody: "the same point must always give the same prompt",
    Homeless: "a prompt of the space must have a point: .* nothing is",
    Talkative: "must have the dimensions of the space",
    Far: "point must lie inside the distributions: 'slot_3' is 17",
    Shuffling: "the point of a prompt must build it again",
    Sorting: "different choices must give different prompts",
    Peeking: "what a point leaves open must not matter",
    Lenient: "another system text has the point",
    Careless: "another bound of tokens has the point",
    Rude: "must be refused with a UserError that says why, .* raised KeyError",
    Silent: "was refused without a word",
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"k_min": 0},
        {"k_min": 0, "k_max": 0, "pool": ()},
        {"k_min": 6, "k_max": 6},
        {
            "k_max": 1,
            "systems": ("",),
            "formats": (FORMATS["inline"],),
            "temperatures": (0.3,),
            "repetition_penalties": (1.1,),
        },
    ],
    ids=["open", "K from 0", "K of 0", "whole pool", "one choice each"],
)
def test_a_space_that_keeps_the_contract_passes(changes: dict[str, Any]) -> None:
    """The suite passes on spaces with everything open, and with hardly anything."""
    check_space(made(**changes))
    check_space(made(**changes), seed=None)


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_a_broken_space_is_refused_for_its_own_reason(kind: type[Space]) -> None:
    """Each broken promise is named."""
    with pytest.raises(AssertionError, match=BROKEN[kind]):
        check_space(made(kind))
