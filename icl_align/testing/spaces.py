"""What every space promises: points and prompts are two names of one thing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from icl_align.errors import UserError
from icl_align.prompt import Prompt
from icl_align.search.choices import Choice, Choices
from icl_align.space import Space
from icl_align.types import Example

_POINTS = 200
_SHOWN = 200

Point = Mapping[str, Any]
"""A value for each dimension."""


def check_space(space: Space, *, seed: int | None = 0) -> None:
    """Checks what every space promises, on random points and those at its ends.

    Args:
        space: The space.
        seed: Seed of the points.

    Raises:
        AssertionError: naming the promise that was broken.
    """
    dimensions = space.distributions()
    assert list(space.distributions().items()) == list(dimensions.items()), (
        "the dimensions must be the same each time, in a fixed order"
    )
    assert space.digest == replace(space).digest, "equal spaces must have equal digests"
    choices = Choices(space)
    prompts: dict[str, Choice] = {}
    for point in _points(dimensions, np.random.default_rng(seed)):
        prompt = _check_point(space, point)
        choice = choices.read(point)
        canonical = choices.write(choice)
        assert space.build(canonical).digest == prompt.digest, (
            f"what a point leaves open must not matter, but {_short(point)} and {canonical} give "
            "different prompts"
        )
        assert prompts.setdefault(prompt.digest, choice) == choice, (
            f"different choices must give different prompts, but {prompts[prompt.digest]} and "
            f"{choice} give the same"
        )
    assert list(space.distributions().items()) == list(dimensions.items()), (
        "the dimensions must not change with use"
    )
    for what, outside in _outside(space, prompt):
        _check_refused(space, what, outside)


def _check_point(space: Space, point: Point) -> Prompt:
    """Builds a point and finds it again."""
    try:
        prompt = space.build(point)
    except Exception as error:
        raise AssertionError(
            f"every point of the distributions must build, {_short(point)} does not: {error!r}"
        ) from error
    k = point.get("k", space.k_max)
    texts = {(item.turns, item.query, item.answer) for item in prompt.exemplars}
    assert len(texts) == len(prompt.exemplars), (
        f"the exemplars of a prompt must be distinct, those of {_short(point)} are not"
    )
    assert len(texts) == k, f"a prompt must have K exemplars, it has {len(texts)} where K is {k}"
    again = space.build({name: point[name] for name in reversed(list(point))})
    assert again.digest == prompt.digest, (
        f"the same point must always give the same prompt, {_short(point)} does not"
    )
    try:
        found = space.point(prompt)
    except UserError as error:
        raise AssertionError(f"a prompt of the space must have a point: {error}") from error
    dimensions = space.distributions()
    assert list(found) == list(dimensions), (
        f"a prompt's point must have the dimensions of the space, it has {list(found)}"
    )
    for name, dimension in dimensions.items():
        assert found[name] in _values(dimension), (
            f"a prompt's point must lie inside the distributions: {name!r} is {found[name]!r}"
        )
    assert space.build(found).digest == prompt.digest, (
        f"the point of a prompt must build it again: {_short(point)} became {_short(found)}"
    )
    return prompt


def _points(
    dimensions: Mapping[str, BaseDistribution], rng: np.random.Generator
) -> Iterator[dict[str, Any]]:
    """All first values, all last ones, then random points."""
    values = {name: _values(dimension) for name, dimension in dimensions.items()}
    yield {name: allowed[0] for name, allowed in values.items()}
    yield {name: allowed[-1] for name, allowed in values.items()}
    for _ in range(_POINTS):
        yield {name: allowed[int(rng.integers(len(allowed)))] for name, allowed in values.items()}


def _values(dimension: BaseDistribution) -> list[Any]:
    if isinstance(dimension, CategoricalDistribution):
        return list(dimension.choices)
    assert isinstance(dimension, IntDistribution), (
        f"the dimensions of a space are categories and whole numbers, not {dimension}"
    )
    return list(range(dimension.low, dimension.high + 1, dimension.step))


def _outside(space: Space, prompt: Prompt) -> Iterator[tuple[str, Prompt]]:
    """Prompts that differ from one of the space in one thing that it does not have."""
    foreign = Example("A query that no pool holds \u2020?", "An answer that no pool holds \u2021.")
    if prompt.exemplars:
        yield (
            "an exemplar of no pool",
            replace(prompt, exemplars=(foreign, *prompt.exemplars[1:])),
        )
        first = prompt.exemplars[0]
        changed = replace(first, answer=f"{first.answer} \u2020")
        yield "a changed answer", replace(prompt, exemplars=(changed, *prompt.exemplars[1:]))
    more = (*prompt.exemplars, *[foreign] * (space.k_max + 1 - len(prompt.exemplars)))
    yield "too many exemplars", replace(prompt, exemplars=more)
    if space.k_min:
        yield "too few exemplars", replace(prompt, exemplars=prompt.exemplars[: space.k_min - 1])
    yield "another system text", replace(prompt, system=f"{prompt.system} \u2020")
    form = replace(prompt.format, name="none of these", query_open="\u2020")
    yield "another format", replace(prompt, format=form)
    same = replace(prompt.format, query_open=f"\u2020{prompt.format.query_open}")
    yield "another format of the same name", replace(prompt, format=same)
    hotter = replace(prompt.decoding, temperature=max(space.temperatures) + 0.123)
    yield "another temperature", replace(prompt, decoding=hotter)
    stricter = replace(prompt.decoding, repetition_penalty=max(space.repetition_penalties) + 0.123)
    yield "another repetition penalty", replace(prompt, decoding=stricter)
    longer = replace(prompt.decoding, max_tokens=prompt.decoding.max_tokens + 1)
    yield "another bound of tokens", replace(prompt, decoding=longer)


def _check_refused(space: Space, what: str, prompt: Prompt) -> None:
    rule = "a prompt outside must be refused with a UserError that says why"
    said = None
    try:
        point = space.point(prompt)
    except UserError as error:
        said = str(error)
    except Exception as error:
        raise AssertionError(f"{rule}, {what} raised {error!r}") from error
    assert said is not None, f"{rule}, {what} has the point {_short(point)}"
    assert said.strip(), f"{rule}, {what} was refused without a word"


def _short(point: Point) -> str:
    text = str(dict(point))
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
