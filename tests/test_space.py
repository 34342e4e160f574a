"""Promises of icl_align.space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_align.errors import UserError
from icl_align.prompt import FORMATS, Layout
from icl_align.space import Space
from icl_align.types import Decoding, Example

IRREGULAR = (Layout("Q\n", "\n", "A\n", "\n", "\n\n\n"), Layout("Q\n", "\n", "A\n", "\n", ""))
POOL = tuple(Example(f"Question {i}?", f"Answer {i}.", id=f"e{i}") for i in range(6))


def space(**changes: Any) -> Space:
    """A space with every dimension open, changed where a test says so."""
    base = Space(
        systems=("Be kind.", "Be brief."),
        pool=POOL,
        k_min=0,
        k_max=4,
        formats=(FORMATS["block"], FORMATS["colon"]),
        temperatures=(0.0, 0.7),
        repetition_penalties=(1.0, 1.2),
        decoding=Decoding(max_tokens=32),
    )
    return replace(base, **changes)


def points(of: Space) -> st.SearchStrategy[dict[str, Any]]:
    """Points as any sampler may propose them."""

    def choices(dimension: optuna.distributions.BaseDistribution) -> Sequence[Any]:
        if isinstance(dimension, optuna.distributions.CategoricalDistribution):
            return dimension.choices
        assert isinstance(dimension, optuna.distributions.IntDistribution)
        return range(dimension.low, dimension.high + 1)

    dimensions = of.distributions()
    return st.fixed_dictionaries(
        {name: st.sampled_from(choices(dimension)) for name, dimension in dimensions.items()}
    )


@settings(max_examples=200, deadline=None)
@given(points(space()))
def test_every_point_is_a_prompt_of_k_distinct_exemplars(point: dict[str, Any]) -> None:
    """Whatever the slots say, there are exactly K distinct exemplars, and always the same ones."""
    prompt = space().build(point)
    assert len({exemplar.query for exemplar in prompt.exemplars}) == point["k"]
    assert len(prompt.exemplars) == point["k"]
    assert prompt.digest == space().build(dict(reversed(point.items()))).digest
    assert prompt.decoding.temperature == point["temperature"]
    assert prompt.decoding.max_tokens == 32


@settings(max_examples=200, deadline=None)
@given(points(space()))
def test_point_finds_the_way_back(point: dict[str, Any]) -> None:
    """A prompt built from a point has a point that builds it again, whatever ids it carries."""
    prompt = space().build(point)
    nameless = replace(prompt, exemplars=tuple(replace(item, id="") for item in prompt.exemplars))
    assert space().build(space().point(nameless)).digest == prompt.digest


def test_repeated_slot_takes_the_next_free_exemplar() -> None:
    """A slot that repeats moves on in pool order, around the end."""
    prompt = space(k_min=4).build(
        {
            "system": 0,
            "slot_1": 5,
            "slot_2": 5,
            "slot_3": 0,
            "slot_4": 5,
            "format": "block",
            "temperature": 0.0,
            "repetition_penalty": 1.0,
        }
    )
    assert [exemplar.id for exemplar in prompt.exemplars] == ["e5", "e0", "e1", "e2"]


def test_unused_slots_do_not_matter() -> None:
    """Slots beyond K leave the prompt as it is."""
    point = {
        "system": 0,
        "slot_1": 1,
        "slot_2": 2,
        "slot_3": 3,
        "slot_4": 4,
        "format": "colon",
        "temperature": 0.0,
        "repetition_penalty": 1.0,
        "k": 1,
    }
    assert space().build(point).digest == space().build(point | {"slot_2": 0, "slot_4": 1}).digest


def test_single_choices_are_no_dimension() -> None:
    """What cannot vary is not proposed, and the prompt has it all the same."""
    fixed = space(
        systems=("Be kind.",),
        k_min=2,
        k_max=2,
        formats=(FORMATS["inline"],),
        temperatures=(0.3,),
        repetition_penalties=(1.1,),
    )
    assert sorted(fixed.distributions()) == ["slot_1", "slot_2"]
    prompt = fixed.build({"slot_1": 3, "slot_2": 1})
    assert (prompt.system, prompt.format.name) == ("Be kind.", "inline")
    assert prompt.decoding == Decoding(temperature=0.3, repetition_penalty=1.1, max_tokens=32)
    assert fixed.point(prompt) == {"slot_1": 3, "slot_2": 1}


def test_optuna_can_sample_it() -> None:
    """Optuna accepts the dimensions without a warning and proposes buildable points."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    point = study.ask(space().distributions()).params
    assert space().point(space().build(point))["k"] == point["k"]


def test_digest_changes_with_the_meaning_of_points() -> None:
    """Reordering the pool or changing the decoding is another space; its source's name is not."""
    digests = {
        space().digest,
        space(pool=POOL[::-1]).digest,
        space(decoding=Decoding(max_tokens=33)).digest,
        space(k_max=3).digest,
        space(formats=(FORMATS["block"],)).digest,
    }
    assert len(digests) == 5
    assert space(source="elsewhere.jsonl").digest == space().digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"pool": POOL[:1], "source": "pool.jsonl"},
            r"^K may be up to 4 but the pool holds 1 exemplar \(pool\.jsonl\)$",
        ),
        ({"pool": POOL[:3]}, "pool holds 3 exemplars"),
        ({"pool": ()}, "K may be up to 4 but the pool is empty"),
        ({"systems": ()}, "at least one of systems"),
        ({"formats": ()}, "at least one of formats"),
        ({"k_min": 5}, "got 5 to 4"),
        ({"k_min": -1}, "got -1 to 4"),
        (
            {"pool": (*POOL, replace(POOL[2], id="again"))},
            r"'Question 2\?' is at positions 3 and 7",
        ),
        ({"pool": (*POOL, Example("Unanswered?"))}, r"'Unanswered\?' has no answer"),
        ({"systems": ("a", "b", "a")}, "'a' is at positions 1 and 3"),
        ({"temperatures": (0.0, -1.0)}, "temperature must be >= 0, got -1.0"),
        ({"repetition_penalties": ()}, "at least one of repetition_penalties"),
    ],
)
def test_refuses_an_impossible_space(changes: dict[str, Any], message: str) -> None:
    """Each mistake is named with what was given."""
    with pytest.raises(UserError, match=message):
        space(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"system": "Be loud."}, r"not in the space: system 'Be loud\.'"),
        ({"exemplars": (Example("New?", "Yes."),)}, r"exemplar 1 \('New\?'\) is not in the pool"),
        ({"exemplars": POOL[:5]}, "K = 5 is not in K from 0 to 4"),
        ({"format": FORMATS["headings"]}, "format 'headings'"),
        ({"decoding": Decoding(temperature=0.5, max_tokens=32)}, r"temperature 0\.5"),
        ({"decoding": Decoding(max_tokens=99)}, r"decoding Decoding\(.*max_tokens=99"),
        ({"exemplars": (POOL[0], POOL[0])}, "as a whole"),
        ({"exemplars": POOL[:2], "layouts": IRREGULAR}, "irregular white space"),
    ],
)
def test_names_what_is_outside(changes: dict[str, Any], message: str) -> None:
    """A prompt that no point gives is refused with the part that does not fit."""
    prompt = space().build(
        dict.fromkeys(space().distributions(), 0)
        | {"format": "block", "temperature": 0.0, "repetition_penalty": 1.0}
    )
    with pytest.raises(UserError, match=message):
        space().point(replace(prompt, **changes))


def test_refuses_a_point_of_another_space() -> None:
    """A point with a dimension missing or out of range is no prompt."""
    with pytest.raises(ValueError, match="needs 'system'"):
        space().build({})
    narrow = space(systems=("a",), formats=(FORMATS["block"],), k_min=4, temperatures=(0.0,))
    point = {f"slot_{i}": i for i in range(1, 5)} | {"repetition_penalty": 1.0}
    with pytest.raises(ValueError, match="'slot_1' must be in .* got 6"):
        narrow.build(point | {"slot_1": 6})
