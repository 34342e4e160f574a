"""What the landscapes of the search benchmark promise, and the truth that is told about them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.landscapes import SHAPES, SPREAD, Landscape, Problem
from bench.worlds import Meter, clipped_mean, make_world, peer_file
from icl_align.search.choices import Choice, Choices

SMALL = Problem(pool=20, systems=4, k_max=3, dev=40)
REAL = [name for name in SHAPES if name != "null"]


def landscape(shape: str = "mixed", seed: int = 0) -> Landscape:
    return Landscape(SHAPES[shape], SMALL, seed)


def draws(land: Landscape, count: int = 1000) -> list[Choice]:
    rng = np.random.default_rng(3)
    return [land.choices.random(rng) for _ in range(count)]


# The landscapes.


def test_a_pair_always_has_the_same_score() -> None:
    """Asked alone, among others, in another order, or of an equal landscape; another seed is another one."""
    one, two = landscape(), landscape()
    prompt = one.space.build(one.choices.write(Choice((4, 1), 2, 1, 3, 1)))
    scores = one(prompt, one.examples)
    assert [two(prompt, [example])[0] for example in two.examples] == scores
    assert two(prompt, two.examples[::-1]) == scores[::-1]
    other = landscape(seed=1)
    assert other(prompt, other.examples) != scores
    assert all(score.value is not None and 0 <= score.value <= 1 for score in scores)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_oracle_is_no_worse_than_any_random_prompt(shape: str) -> None:
    """Its quality is that of the prompt it names."""
    land = landscape(shape)
    best, choice = land.oracle(starts=4)
    assert best == pytest.approx(land.quality([choice])[0], abs=1e-12)
    assert best >= land.quality(draws(land)).max() - 1e-12


@pytest.mark.parametrize("shape", REAL)
def test_random_prompts_are_spread_as_documented(shape: str) -> None:
    """The mean and the spread are those of prompts drawn anew; the spread is about SPREAD."""
    land = landscape(shape)
    qualities = land.quality(draws(land, 4000))
    assert qualities.mean() == pytest.approx(land.random_mean, abs=4 * SPREAD / 1000**0.5)
    assert qualities.std() == pytest.approx(land.random_sd, rel=0.1)
    assert 0.6 * SPREAD < land.random_sd < 1.4 * SPREAD


def test_null_is_flat() -> None:
    """All prompts are equal, and their scores still differ by difficulty and noise."""
    land = landscape("null")
    assert np.ptp(land.quality(draws(land))) == 0
    assert land.random_sd == 0
    one, two = (land.space.build(land.choices.write(choice)) for choice in draws(land, 2))
    assert land(one, land.examples) != land(two, land.examples)


def test_closed_is_0_for_random_prompts_and_1_for_the_best() -> None:
    """On average, and exactly."""
    land = landscape()
    best, choice = land.oracle()
    assert land.closed(choice, best) == pytest.approx(1)
    assert np.mean([land.closed(one, best) for one in draws(land)]) == pytest.approx(0, abs=0.05)


def test_fresh_examples_are_others() -> None:
    """Neither ids, nor texts, nor scores are those of the development examples."""
    land = landscape()
    dev, fresh = land.examples, land.fresh(40)
    assert not {e.id for e in dev} & {e.id for e in fresh}
    assert not {e.query for e in dev} & {e.query for e in fresh}
    prompt = land.space.build(land.choices.write(Choice((0,))))
    assert not {s.value for s in land(prompt, dev)} & {s.value for s in land(prompt, fresh)}


# The truth about them.


def test_clipped_means_are_those_of_clipped_draws() -> None:
    """Against a simulation; far from 0 and 1 nothing is clipped."""
    means = np.array([-0.1, 0.05, 0.5, 0.9])
    drawn = np.clip(means + 0.2 * np.random.default_rng(0).normal(size=(400_000, 1)), 0, 1)
    assert clipped_mean(means, 0.2) == pytest.approx(drawn.mean(0), abs=2e-3)
    assert clipped_mean(np.array([0.4]), 0.01)[0] == pytest.approx(0.4, abs=1e-12)
    assert clipped_mean(np.array([1.5]), 0.0)[0] == 1


@pytest.mark.parametrize("shape", ["mixed", "noisy", "heterogeneous"])
def test_what_is_expected_is_what_comes(shape: str) -> None:
    """Over many prompts the mean score is as expected: on the development examples, and on new ones."""
    world = make_world(shape, 20, 0)
    land = Landscape(SHAPES[shape], Problem(pool=20), 0)
    choices = draws(land, 300)
    dev, new = np.arange(100), np.arange(100, 3900)
    over = [world.scores(one, dev).mean() - world.expected(one) for one in choices]
    assert abs(np.mean(over)) < 4 * np.std(over) / len(over) ** 0.5
    late = [world.scores(one, new).mean() - world.population(one) for one in choices[:40]]
    error = SHAPES[shape].difficulty / len(new) ** 0.5  # common to all prompts
    assert abs(np.mean(late)) < 4 * error


def test_the_meter_counts_what_is_asked_again() -> None:
    """Pairs, not calls; a prompt without exemplars can be read, as DSPy asks for some."""
    world = make_world("additive", 20, 0)
    meter = Meter(world)
    space = replace(world.space, k_min=0)
    empty = space.build(Choices(space).write(Choice(())))
    scores = meter(empty, world.examples[:5])
    assert (meter.paid, meter.repeated, meter.prompts) == (5, 0, 1)
    assert meter(empty, world.examples[4:6])[0] == scores[4]
    assert (meter.paid, meter.repeated, meter.prompts) == (7, 1, 1)
    assert meter.read(empty).exemplars == ()
    assert meter.seconds > 0


@pytest.fixture
def peers() -> None:
    """Skips where the peers' landscape is not there."""
    try:
        peer_file()
    except ValueError as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("peers")
def test_the_peers_landscape_is_wrapped_as_it_is() -> None:
    """Its size, its random mean on record, its truth, and scores around it."""
    world = make_world("peer", 50, 0)
    assert (len(world.space.pool), len(world.space.systems), len(world.examples)) == (50, 20, 100)
    assert world.random_mean == pytest.approx(0.52, abs=0.03)
    choice = Choice((3, 11, 30), 7)
    scores = world.scores(choice, np.arange(100))
    assert scores.mean() == pytest.approx(world.expected(choice), abs=0.06)
    meter = Meter(world)
    prompt = world.space.build(
        {"system": 7, "slot_1": 3, "slot_2": 11, "slot_3": 30, "slot_4": 0, "k": 3}
    )
    assert [score.value for score in meter(prompt, world.examples)] == scores.tolist()
    with pytest.raises(ValueError, match="has 50 exemplars, not 300"):
        make_world("peer", 300, 0)


def test_an_unknown_shape_is_refused() -> None:
    """By name."""
    with pytest.raises(ValueError, match="got 'mixt'"):
        make_world("mixt", 20, 0)
