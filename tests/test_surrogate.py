"""Promises of icl_align.search.surrogate and climb: tables are the process, and climbs find their tops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from icl_align.prompt import FORMATS
from icl_align.search.choices import Choice, Choices
from icl_align.search.climb import Blend, Moves, choice_at, climb, neighbours
from icl_align.search.surrogate import (
    PARTS,
    START,
    Design,
    Model,
    Posterior,
    features_of,
    fit_variances,
    pool_of,
)
from icl_align.space import Space
from icl_align.types import Example

SPACE = Space(
    systems=("a", "b", "c"),
    pool=tuple(Example(f"q{i}", f"a{i}") for i in range(9)),
    k_min=0,
    k_max=3,
    formats=(FORMATS["block"], FORMATS["colon"]),
    temperatures=(0.0, 0.5, 1.0),
    repetition_penalties=(1.0, 1.2),
)
CHOICES = Choices(SPACE)
_RNG = np.random.default_rng(0)
EMBEDDINGS = _RNG.normal(size=(9, 5))
EMBEDDINGS /= np.linalg.norm(EMBEDDINGS, axis=1, keepdims=True)
POOL = pool_of(SPACE, EMBEDDINGS)
MOVES = Moves(0, 3, 3, 2, np.arange(9))


def rows(n: int, seed: int = 0) -> tuple[list[Choice], list[int]]:
    """Random prompts on random blocks, one of them twice."""
    rng = np.random.default_rng(seed)
    choices = [CHOICES.random(rng) for _ in range(n)]
    choices[-1] = choices[0]
    return choices, [int(block) for block in rng.integers(-1, 4, n)]


def posterior(n: int = 30, seed: int = 0) -> Posterior:
    """A surrogate given random values."""
    choices, blocks = rows(n, seed)
    values = np.random.default_rng([seed, 1]).normal(0.5, 0.1, n)
    model = Model(POOL)
    return Posterior(model, choices, blocks, values, np.full(n, 4.0), START, 0.5, 0.1)


def test_tables_are_the_posterior_mean() -> None:
    """What the tables add up to is what the kernel says, to rounding."""
    made = posterior()
    means, sds = made.moments()
    tables = made.mean()
    assert np.allclose([tables.value(choice) for choice in made.known], means, atol=1e-12)
    assert (sds > 0).all()
    assert len(made.known) < 30


def test_draws_have_the_posterior_moments() -> None:
    """Drawn functions scatter around the posterior mean by the posterior's standard deviation."""
    made = posterior()
    means, sds = made.moments()
    rng = np.random.default_rng(3)
    drawn = np.array(
        [[tables.value(c) for c in made.known] for tables in (made.draw(rng) for _ in range(2000))]
    )
    assert (np.abs(drawn.mean(0) - means) < 5 * sds / 2000**0.5).all()
    assert np.allclose(drawn.std(0) / sds, 1, atol=0.08)
    covariance = np.cov(drawn.T)
    assert np.linalg.eigvalsh(covariance).min() > -1e-9


def test_a_draw_of_a_new_prompt_is_as_uncertain_as_the_process() -> None:
    """Tables of a draw hold for prompts that were never measured, all parts of the kernel included."""
    made = posterior(12)
    new = Choice((8, 3, 5), 1, 1, 2, 1)
    both = Posterior(
        made.model,
        [*made.choices, new],
        [*made.blocks.tolist(), -1],
        np.append(made.y * 0.1 + 0.5, 0.5),
        np.append(np.full(12, 4.0), 1e-9),  # a row without weight: it adds nothing but its name
        START,
        0.5,
        0.1,
    )
    means, sds = both.moments()
    at = both.known.index(new)
    own = START["own"] * 0.1**2
    rng = np.random.default_rng(4)
    design = Design.of([new], POOL)
    drawn = np.array([float(made.draw(rng).values(design)[0]) for _ in range(3000)])
    assert drawn.mean() == pytest.approx(means[at], abs=4 * sds[at] / 3000**0.5)
    assert drawn.var() == pytest.approx(sds[at] ** 2 - own, rel=0.12)


def test_the_fit_tells_noise_from_signal() -> None:
    """Values that follow one exemplar leave less noise than values that follow nothing."""
    choices, _ = rows(150)
    blocks = [-1] * 150
    rng = np.random.default_rng(5)
    weights = np.ones(150)
    signal = np.array([sum((i in c.exemplars) * (i - 4) for i in range(9)) for c in choices])
    signal = (signal - signal.mean()) / signal.std()
    model = Model(POOL)
    clear, density = fit_variances(model, choices, blocks, signal, weights, common=1.0)
    shuffled = rng.permutation(signal)
    lost, worse = fit_variances(model, choices, blocks, shuffled, weights, common=1.0)
    assert clear["noise"] < 0.2 * lost["noise"]
    assert clear["single"] > 3 * lost["single"]
    bound, _ = fit_variances(model, choices, blocks, shuffled, weights, common=0.01)
    assert bound["single"] == pytest.approx(START["single"], rel=0.05)
    assert density > worse
    assert set(clear) == {*PARTS, "block", "block_exemplar", "constant", "noise"}


def test_the_fits_gradient_is_right() -> None:
    """The optimum that is reached cannot be improved by changing any one variance."""
    choices, blocks = rows(60)
    values = np.random.default_rng(6).normal(size=60)
    model, weights = Model(POOL), np.full(60, 4.0)
    _, best = fit_variances(model, choices, blocks, values, weights, steps=200)
    _, short = fit_variances(model, choices, blocks, values, weights, steps=3)
    assert best >= short
    _, again = fit_variances(model, choices, blocks, values, weights, steps=400)
    assert again == pytest.approx(best, abs=1e-3)


def test_neighbours_are_all_single_edits() -> None:
    """Every prompt one edit away is there, and only those."""
    choice = Choice((2, 7), 1, 0, 2, 1)
    around = neighbours(choice, POOL, MOVES)
    found = {choice_at(around, row, 2) for row in range(len(around.count))}
    others = [i for i in range(9) if i not in choice.exemplars]
    lists = {(i, 7) for i in others} | {(2, i) for i in others} | {(7, 2), (2,), (7,)}
    lists |= {tuple(np.insert([2, 7], p, i).tolist()) for i in others for p in range(3)}
    expected = {Choice(ids, 1, 0, 2, 1) for ids in lists}
    expected |= {Choice((2, 7), s, 0, 2, 1) for s in range(3)}
    expected |= {Choice((2, 7), 1, f, 2, 1) for f in range(2)}
    expected |= {Choice((2, 7), 1, 0, t, p) for t in range(3) for p in range(2)}
    assert found == expected


def test_a_climb_finds_the_top() -> None:
    """From several starts a long climb reaches the best of all prompts, found by trying each one."""
    tables = posterior(40, seed=2).mean()
    everything = [
        Choice(ids, s, f, t, p)
        for k in range(4)
        for ids in itertools.permutations(range(9), k)
        for s, f, t, p in itertools.product(range(3), range(2), range(3), range(2))
    ]
    values = tables.values(Design.of(everything, POOL))
    best = everything[int(values.argmax())]
    rng = np.random.default_rng(7)
    starts = [CHOICES.random(rng) for _ in range(8)]
    found = climb(tables, starts, MOVES, steps=30)
    assert found[0][1] == best
    second = climb(tables, starts, MOVES, steps=30, banned={best})
    assert second[0][1] != best
    assert second[0][0] <= found[0][0]


def test_a_climb_takes_no_more_steps_than_it_may() -> None:
    """With one step everything found is one edit from a start; what is banned is not given."""
    tables = posterior(40, seed=3).mean()
    start = Choice((1, 2, 3), 0, 0, 0, 0)
    around = neighbours(start, POOL, MOVES)
    near = {choice_at(around, row, 2) for row in range(len(around.count))}
    ((_, found),) = climb(tables, [start], MOVES, steps=1)
    assert found in near | {start}
    assert climb(tables, [start], MOVES, steps=1, banned=near | {start}) == []


def test_a_blend_counts_length_and_the_constraint() -> None:
    """Length costs what it says, and a prompt below the level falls behind all that keep it."""
    quality, aspect = posterior(40, seed=4).mean(), posterior(40, seed=5).mean()
    rng = np.random.default_rng(8)
    choices = [CHOICES.random(rng) for _ in range(200)]
    design = Design.of(choices, POOL)
    tolls, system_tolls = np.arange(9.0) * 0.01, np.array([0.0, 0.1, 0.2])
    plain = Blend(quality, tolls, system_tolls)
    cost = [sum(0.01 * i for i in c.exemplars) + 0.1 * c.system for c in choices]
    assert np.allclose(quality.values(design) - plain.values(design), cost)
    level = float(np.median(aspect.values(design)))
    bound = Blend(quality, tolls * 0, system_tolls * 0, aspect, level)
    short = np.maximum(0, level - aspect.values(design))
    assert np.allclose(quality.values(design) - bound.values(design), 10 * short)
    assert bound.value(choices[0]) == pytest.approx(
        quality.value(choices[0]) - 10 * max(0, level - aspect.value(choices[0]))
    )


def test_features_keep_likeness() -> None:
    """Like texts have like features; without embeddings nothing is alike."""
    vectors = np.array([[1.0, 0.0], [0.999, 0.0447], [0.0, 1.0], [-1.0, 0.0]])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    features, likeness = features_of(vectors)
    gram = features @ features.T
    assert gram[0, 1] > 0.9 * gram[0, 0] > 0
    assert gram[0, 3] < 0
    assert likeness[0, 0] == 0 and likeness[0, 1] > 0.99
    assert not pool_of(SPACE, None).likeness.any()
