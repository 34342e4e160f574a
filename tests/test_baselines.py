"""Promises of icl_align.search.baselines, on a landscape whose best prompt is known."""

from __future__ import annotations

import hashlib
import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import optuna
import pytest

from icl_align.errors import UserError
from icl_align.prompt import FORMATS, Prompt
from icl_align.search.baselines import (
    METHODS,
    Evolution,
    GreedyForward,
    Method,
    MiproSets,
    SuccessiveHalving,
    dspy_search,
)
from icl_align.search.baselines.evolution import prompt_effects
from icl_align.search.baselines.halving import cost
from icl_align.search.baselines.method import Table
from icl_align.search.baselines.mipro import sizes
from icl_align.search.baselines.variation import WEIGHTS, cross, edit, mutate
from icl_align.search.choices import Choice, Choices
from icl_align.search.proposing import BLOCK, Row
from icl_align.space import Space
from icl_align.types import Example, Score

SPACE = Space(
    systems=("Be kind.", "Be brief.", "Be loud."),
    pool=tuple(Example(f"Exemplar {i}?", f"Answer {i}.") for i in range(12)),
    k_min=0,
    k_max=3,
    formats=(FORMATS["block"], FORMATS["colon"]),
    temperatures=(0.0, 0.5),
)
EXAMPLES = [Example(f"Question {i}?", id=f"q{i}") for i in range(60)]
IDS = [example.id for example in EXAMPLES]
WORTH = np.random.default_rng(7).normal(0, 0.06, len(SPACE.pool))
SYSTEMS = (0.0, 0.06, -0.06)
NAMES = tuple(METHODS)
SEARCH_SEEDS = range(4)
BUDGET = 1200


def truth(choice: Choice) -> float:
    """What a prompt is worth over all examples, but for their difficulty: a sum over its parts."""
    return float(
        0.5
        + SYSTEMS[choice.system]
        + sum(WORTH[index] for index in choice.exemplars)
        - 0.04 * choice.format
        - 0.04 * choice.temperature
    )


class Landscape:
    """An evaluator with that truth, examples of different difficulty, and noise; counts its work."""

    def __init__(self, seed: int = 0) -> None:
        self.seed, self.used = seed, Counter[tuple[Choice, str]]()
        self.choices = Choices(SPACE)

    def __call__(self, prompt: Prompt, examples: Sequence[Example]) -> list[Score]:
        choice = self.choices.read(SPACE.point(prompt))
        self.used.update((choice, example.id) for example in examples)
        return [Score(self.value(choice, example.id)) for example in examples]

    def value(self, choice: Choice, name: str) -> float:
        noise = self._normal(f"{choice}{name}") * 0.1 + self._normal(name) * 0.1
        return min(1.0, max(0.0, truth(choice) + noise))

    def _normal(self, text: str) -> float:
        digest = hashlib.sha256(f"{self.seed}{text}".encode()).digest()
        return float(np.random.default_rng(list(digest)).normal())


def method(name: str, seed: int = 0, space: Space = SPACE, evaluations: int = BUDGET) -> Method:
    return METHODS[name](space, ids=IDS, seed=seed, evaluations=evaluations)


def a_study() -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(direction="maximize")


def ask(study: optuna.Study, sampler: Method) -> tuple[optuna.Trial, Choice, int]:
    study.sampler = sampler
    trial = study.ask(sampler.distributions())
    return trial, sampler.choices.read(trial.params), int(trial.params[BLOCK])


def drive(
    sampler: Method,
    trials: int,
    *,
    study: optuna.Study | None = None,
    seed: int = 0,
    batch: int = 1,
    fails: int = 0,
) -> tuple[optuna.Study, list[tuple[Choice, int]]]:
    """Asks for trials by the batch and tells the truth with noise; each `fails`-th has no verdict."""
    study = study or a_study()
    land = Landscape(seed)
    asked = []
    for _ in range(0, trials, batch):
        for trial, choice, block in [ask(study, sampler) for _ in range(batch)]:
            asked.append((choice, block))
            values = [land.value(choice, name) for name in sampler.cut.ids[block]]
            failed = fails and trial.number % fails == fails - 1
            study.tell(trial, float("inf") if failed else statistics.fmean(values))
    return study, asked


def random_mean(space: Space = SPACE) -> float:
    rng, choices = np.random.default_rng(0), Choices(space)
    return statistics.fmean(truth(choices.random(rng)) for _ in range(4000))


def best_of_all() -> float:
    return 0.5 + max(SYSTEMS) + float(np.sort(WORTH)[::-1][: SPACE.k_max].clip(min=0).sum())


@pytest.mark.parametrize("name", NAMES)
def test_a_method_finds_better_than_random(name: str) -> None:
    """With 1200 evaluations every method closes a good part of the way from random to the best."""
    closed = []
    for seed in SEARCH_SEEDS:
        sampler = method(name, seed)
        study, _ = drive(sampler, sampler.budget, seed=seed)
        winner = sampler.recommend(sampler.history(study))[0]
        low = random_mean()
        closed.append((truth(winner.choice) - low) / (best_of_all() - low))
        assert winner.sd is None
        assert winner.n >= len(sampler.cut.ids[0])
    assert statistics.fmean(closed) > 0.3


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_asks_the_same(name: str) -> None:
    """Two runs with a seed ask the same; another seed asks otherwise."""
    runs = [drive(method(name, seed), 60)[1] for seed in (0, 0, 1)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("cut", [1, 37, 90])
def test_a_fresh_object_goes_on_where_another_stopped(name: str, cut: int) -> None:
    """A method keeps nothing in itself: a new one on the same study asks what the old one would have."""
    whole, asked = drive(method(name), 120)
    study, before = drive(method(name), cut)
    _, after = drive(method(name), 120 - cut, study=study)
    assert before + after == asked
    assert method(name).recommend(method(name).history(study)) == method(name).recommend(
        method(name).history(whole)
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fails", [0, 5])
def test_no_prompt_is_measured_twice_on_a_block(name: str, fails: int) -> None:
    """Also not in batches, where the others are not told yet, and with trials without a verdict."""
    sampler = method(name, evaluations=600)
    _, asked = drive(sampler, 240, batch=4, fails=fails)  # past its budget
    assert len(set(asked)) == len(asked) == 240


@pytest.mark.parametrize("name", NAMES)
def test_batches_cost_a_method_little(name: str) -> None:
    """With four at a time the winner is still better than random."""
    found = []
    for seed in SEARCH_SEEDS:
        sampler = method(name, seed)
        study, _ = drive(sampler, sampler.budget, seed=seed, batch=4)
        found.append(truth(sampler.recommend(sampler.history(study))[0].choice))
    assert statistics.fmean(found) > random_mean() + 0.05


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "space",
    [
        replace(SPACE, k_min=2),
        replace(SPACE, k_min=3, systems=("One.",), temperatures=(0.0,)),
        replace(SPACE, k_max=0, pool=(), systems=SPACE.systems),
        replace(SPACE, k_max=1, pool=SPACE.pool[:1], systems=("One.",)),
    ],
)
@pytest.mark.parametrize("ids", [IDS[:3], IDS])
def test_small_and_narrow_spaces(name: str, space: Space, ids: Sequence[str]) -> None:
    """K that must be something, no exemplars at all, one block only: every point is in the space."""
    sampler = METHODS[name](space, ids=ids, seed=0, evaluations=200)
    study = a_study()
    study.sampler = sampler
    for _ in range(40):
        trial = study.ask(sampler.distributions())
        point = {key: value for key, value in trial.params.items() if key != BLOCK}
        assert space.k_min <= len(space.build(point).exemplars) <= space.k_max
        study.tell(trial, 0.5)
    assert sampler.recommend(sampler.history(study))


@pytest.mark.parametrize("name", NAMES)
def test_a_method_tells_what_it_needs(name: str) -> None:
    """No budget, or no examples, is refused."""
    with pytest.raises(UserError, match="at least 1 evaluation, got 0"):
        method(name, evaluations=0)
    with pytest.raises(UserError, match="at least one example, got none"):
        METHODS[name](SPACE, ids=[], seed=0, evaluations=10)


def told(sampler: Method, values: dict[tuple[Choice, int], float]) -> list[Row]:
    return [
        Row(number, choice, block, value, len(sampler.cut.ids[block]))
        for number, ((choice, block), value) in enumerate(values.items())
    ]


def test_greedy_adds_the_best_until_none_gains() -> None:
    """It tries all exemplars after those it has, on one minibatch, and keeps what gained."""
    sampler = GreedyForward(SPACE, ids=IDS, seed=0, evaluations=3 * 12 * 16)
    assert sampler.minibatch == 2
    _, asked = drive(sampler, 2 * (1 + 12 + 11))
    assert {block for _, block in asked} == {0, 1}
    assert asked[:2] == [(Choice(()), 0), (Choice(()), 1)]
    assert sorted({choice.exemplars for choice, _ in asked[2:26]}) == [(i,) for i in range(12)]
    kept = {choice.exemplars[0] for choice, _ in asked[26:]}
    assert len(kept) == 1
    assert {choice.system for choice, _ in asked} == {0}
    values = {(Choice(()), block): 0.5 for block in (0, 1)}
    values |= {(Choice((i,)), block): 0.4 for i in range(12) for block in (0, 1)}
    history = told(sampler, values)
    assert sampler.recommend(history)[0].choice == Choice(())
    choice, block = sampler.propose(history, np.random.default_rng(0))
    assert (choice, block) == (Choice(()), 2), "what is left of the budget goes to the winner"


def test_greedy_extends_a_hand_written_prompt() -> None:
    """From a given prompt, its system text, format and decoding stay."""
    start = Choice((4, 2), system=2, format=1, temperature=1)
    prompt = SPACE.build(Choices(SPACE).write(start))
    sampler = GreedyForward(SPACE, ids=IDS, seed=0, evaluations=300, start=prompt)
    asked = [choice for choice, _ in drive(sampler, 11)[1]]
    assert asked[0] == start
    assert {choice.exemplars[:2] for choice in asked} == {(4, 2)}
    assert {replace(choice, exemplars=()) for choice in asked} == {replace(start, exemplars=())}


def test_halving_spends_its_budget_on_rungs() -> None:
    """Half of the prompts go on to twice the blocks, and the first numbers of them fit the budget."""
    sampler = SuccessiveHalving(SPACE, ids=IDS, seed=3, evaluations=600)
    assert cost(len(sampler.arms), 7) <= sampler.budget < cost(len(sampler.arms) + 1, 7)
    assert cost(8, 4) == 8 + 4 * 1 + 2 * 2
    study, asked = drive(sampler, cost(len(sampler.arms), 7))
    first, arms = dict(asked[: len(sampler.arms)]), len(sampler.arms)
    assert set(first.values()) == {0} and set(first) == set(sampler.arms)
    second = asked[arms : arms + math.ceil(arms / 2)]
    assert {block for _, block in second} == {1}
    table = Table(sampler.history(study))
    worst = sorted(sampler.arms, key=lambda c: table.mean(c, [0]) or 0)[: arms // 2]
    assert not {choice for choice, _ in second} & set(worst)
    winner = sampler.recommend(sampler.history(study))[0]
    assert winner.n == max(estimate.n for estimate in sampler.recommend(sampler.history(study)))


def test_evolution_goes_by_generations() -> None:
    """24 new, 8 again, 16 new, 8 again, and the children are of the survivors."""
    _, asked = drive(Evolution(SPACE, ids=IDS, seed=0, evaluations=BUDGET), 24 + 8 + 16 + 8)
    choices = [choice for choice, _ in asked]
    assert len(set(choices[:24])) == 24
    survivors = choices[24:32]
    assert set(survivors) <= set(choices[:24]) and len(set(survivors)) == 8
    assert not set(choices[32:48]) & set(choices[:32])
    assert len(set(choices[48:])) == 8 and set(choices[48:]) <= set(choices[:48])
    assert {block for _, block in asked[:24]} == {0} and {b for _, b in asked[32:48]} == {1}


def test_a_prompt_is_not_judged_by_its_blocks() -> None:
    """A prompt that was measured on hard blocks only is compared as if it had been on easy ones."""
    a, b, c = (Choice((i,)) for i in range(3))
    hard = {(a, 0): 0.9, (b, 0): 0.8, (b, 1): 0.3, (c, 1): 0.5}
    effects = prompt_effects(Table([Row(i, *k, v, 8) for i, (k, v) in enumerate(hard.items())]))
    assert sorted(effects, key=lambda choice: -effects[choice]) == [c, a, b]
    assert effects[c] - effects[b] == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("kind", WEIGHTS)
def test_every_edit_gives_another_prompt_of_the_space(kind: str) -> None:
    """An edit changes what it says, and only that."""
    choices, rng = Choices(SPACE), np.random.default_rng(1)
    old = Choice((3, 1), 1, 1, 1)
    allowed = "temperature" if kind == "penalty" else kind
    for _ in range(30):
        new = edit(choices, old, allowed, rng)
        assert new != old
        assert choices.read(choices.write(new)) == new
        kept = {"exemplars"} if allowed in choices.sizes else set(choices.sizes)
        assert all(getattr(new, name) == getattr(old, name) for name in kept)


def test_children_are_in_the_space() -> None:
    """Mutants and children have K within bounds, and no exemplar twice."""
    space = replace(SPACE, k_min=1)
    choices, rng = Choices(space), np.random.default_rng(2)
    seen = set()
    for _ in range(300):
        a, b = choices.random(rng), choices.random(rng)
        for child in (cross(choices, a, b, rng), mutate(choices, a, rng)):
            assert choices.read(choices.write(child)) == child
            seen.add(len(child.exemplars))
    assert seen == {1, 2, 3}
    lone = replace(SPACE, k_max=0, pool=(), systems=("One.",), formats=SPACE.formats[:1])
    only = Choice(())
    assert mutate(Choices(replace(lone, temperatures=(0.0,))), only, rng) == only


def test_mipro_keeps_its_schedule() -> None:
    """The default fully, five minibatches, the best of them fully, and so on, over fixed sets."""
    ids = [f"q{i}" for i in range(120)]
    sampler = MiproSets(SPACE, ids=ids, seed=1, evaluations=BUDGET)  # repeats nothing early
    study, asked = drive(sampler, sampler.budget)
    full, part = sampler.full, sampler.minibatch
    assert (full, part) == (10, 4)
    assert asked[:full] == [
        (Choice(()), block) for block in dict.fromkeys(b for _, b in asked[:full])
    ]
    steps = [asked[full + i * part : full + (i + 1) * part] for i in range(5)]
    assert all(len({choice for choice, _ in step}) == 1 for step in steps)
    means = {
        step[0][0]: Table(sampler.history(study)[: full + 5 * part]).mean(step[0][0])
        for step in steps
    }
    best = max(means, key=lambda choice: means[choice] or 0)
    sixth = asked[full + 5 * part :][: full - part]
    assert {choice for choice, _ in sixth} == {best}
    assert {block for choice, block in asked[: full + 5 * part] + sixth if choice == best} == set(
        range(full)
    )
    assert asked[full + 5 * part + len(sixth)][0] != best
    assert {choice.exemplars for choice, _ in asked} <= set(sampler.sets)
    assert {(choice.format, choice.temperature) for choice, _ in asked} == {(0, 0)}
    history = sampler.history(study)
    winner = sampler.recommend(history)[0]
    whole = {estimate.choice for estimate in sampler.recommend(history) if estimate.n == 80}
    full_means = {choice: Table(history).mean(choice) or 0 for choice in whole}
    assert full_means[winner.choice] == max(full_means.values())
    assert len(whole) >= 3
    assert sizes(300, 1500) == (100, 12) and sizes(300, 500) == (35, 6)


@pytest.mark.parametrize("kind", ["mipro", "random"])
def test_dspy_searches_on_our_evaluator(kind: Literal["mipro", "random"]) -> None:
    """It gives one of our prompts, with the score that our evaluator gives it, within the budget."""
    found = []
    for seed in (0, 1):
        land = Landscape(seed)
        prompt, score = dspy_search(kind, SPACE, EXAMPLES, land, evaluations=600, seed=seed)
        choice = Choices(SPACE).read(SPACE.point(prompt))
        assert max(land.used.values()) == 1
        assert 400 < land.used.total() <= 600
        measured = [land.value(choice, name) for prompt, name in land.used if prompt == choice]
        assert len(measured) == sizes(len(EXAMPLES), 600)[0]
        assert score == pytest.approx(statistics.fmean(measured), abs=1e-4)
        if seed == 0:
            again = dspy_search(kind, SPACE, EXAMPLES, Landscape(), evaluations=600, seed=0)
            assert again == (prompt, score)
        systems = {choice.system for choice, _ in land.used}
        assert systems == ({0, 1, 2} if kind == "mipro" else {0})
        found.append(truth(choice))
    assert statistics.fmean(found) > random_mean() + 0.03


def test_dspy_is_not_shielded_from_errors() -> None:
    """An evaluator's error comes out, and nothing is measured after it."""

    class Breaks(Landscape):
        def __call__(self, prompt: Prompt, examples: Sequence[Example]) -> list[Score]:
            if self.used.total() == 50:
                raise OSError("the server is gone")
            return super().__call__(prompt, examples)

    kinds: Sequence[Literal["mipro", "random"]] = ("mipro", "random")
    for kind in kinds:
        land = Breaks()
        with pytest.raises(OSError, match="the server is gone"):
            dspy_search(kind, SPACE, EXAMPLES, land, evaluations=600, seed=0)
        assert land.used.total() == 50


def test_dspy_gives_only_prompts_of_the_space() -> None:
    """Where K must be at least 2, a prompt without exemplars is measured, but not the result."""
    seen: list[int] = []

    def zero_shot_is_best(prompt: Prompt, examples: Sequence[Example]) -> list[Score]:
        seen.append(len(prompt.exemplars))
        return [Score(1.0 - 0.1 * len(prompt.exemplars))] * len(examples)

    narrow = replace(SPACE, k_min=2)
    prompt, score = dspy_search(
        "random", narrow, EXAMPLES, zero_shot_is_best, evaluations=300, seed=0
    )
    assert 0 in seen
    assert narrow.point(prompt)
    assert score == pytest.approx(1.0 - 0.1 * len(prompt.exemplars))


@pytest.mark.parametrize(
    ("changes", "budget", "message"),
    [
        ({}, 60, "at least 70 evaluations here, got 60"),
        ({"k_max": 0}, 600, "it needs a pool, K above 0"),
    ],
)
def test_dspy_tells_what_it_needs(changes: dict[str, Any], budget: int, message: str) -> None:
    """Too small a budget, and a space without exemplars, are refused."""
    with pytest.raises(UserError, match=message):
        dspy_search(
            "mipro", replace(SPACE, **changes), EXAMPLES, Landscape(), evaluations=budget, seed=0
        )
