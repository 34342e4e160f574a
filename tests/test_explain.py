"""Promises of icl_align.explain."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from small_run import WORTH, asked, small_run

from icl_align import signs
from icl_align.assemble import build_space
from icl_align.errors import UserError
from icl_align.explain import EXPLANATION_FILE, explain, read_explanation
from icl_align.explain.games import bounded, exact_shapley, full, members, sampled_shapley, steps
from icl_align.explain.measure import reordered, subset
from icl_align.explain.plan import enough, make_plan
from icl_align.explain.shown import explanation_text
from icl_align.explain.spare import spared
from icl_align.explain.trials import importances
from icl_align.prompt import FORMATS, Prompt
from icl_align.prove import prove
from icl_align.run import Run, open_run
from icl_align.types import Example


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A proved run whose scores are sums of what its exemplars are worth."""
    made = small_run(tmp_path_factory.mktemp("explain"))
    prove(made)
    return made


Game = tuple[int, dict[int, NDArray[np.float64]]]
EXAMPLES = [Example(f"Question {i}?", id=f"q{i}") for i in range(30)]


@st.composite
def games(draw: st.DrawFn) -> Game:
    """A game of up to four players on two instructions."""
    k = draw(st.integers(1, 4))
    number = st.floats(0, 1, allow_nan=False)
    return k, {mask: np.array([draw(number), draw(number)]) for mask in range(1 << k)}


@given(games())
def test_exact_values_share_out_the_whole(game: Game) -> None:
    """Shapley values add up to all minus none, instruction by instruction."""
    k, values = game
    np.testing.assert_allclose(
        exact_shapley(values, k).sum(0), values[full(k)] - values[0], atol=1e-9
    )


@given(games())
def test_all_walks_give_the_exact_values(game: Game) -> None:
    """Sampling is unbiased: with every walk it is the definition."""
    k, values = game
    pairs = [(walk, walk[::-1]) for walk in itertools.permutations(range(k))]
    sampled = sampled_shapley(values, k, pairs)
    np.testing.assert_allclose(sampled.mean(1), exact_shapley(values, k), atol=1e-9)
    np.testing.assert_allclose(sampled.sum(0)[0], values[full(k)] - values[0], atol=1e-9)


def test_a_player_that_adds_nothing_is_worth_nothing_and_equals_are_equal() -> None:
    """Two that only help together share what they add; a third that never helps has none."""
    together = 0b011
    values = {mask: np.array([float(mask & together == together)]) for mask in range(8)}
    np.testing.assert_allclose(exact_shapley(values, 3)[:, 0], [0.5, 0.5, 0.0])


def test_a_missing_verdict_is_no_zero() -> None:
    """An instruction without a verdict somewhere is left out of the mean; without any there is none."""
    found = bounded(np.array([0.2, np.nan, 0.4]), level=0.9, seed=0)
    assert found is not None
    assert found.mean == pytest.approx(0.3)
    assert found.n == 2
    assert bounded(np.array([np.nan]), level=0.9, seed=0) is None


@settings(max_examples=60)
@given(
    st.integers(0, 12),
    st.integers(1, 3),
    st.integers(1, 4000),
    st.integers(0, 3),
    st.integers(0, 20),
)
def test_a_plan_keeps_its_budget(k: int, others: int, budget: int, seed: int, texts: int) -> None:
    """What is planned never costs more than the budget, and is the same each time."""
    try:
        plan = make_plan(k, others, 3, EXAMPLES, budget, seed, texts)
    except UserError:
        assert budget < 2 * (3 * k + 2 + others)
        return
    prompts = len(plan.masks) + others + len(plan.orders) + 3 * plan.phrasings
    prompts += plan.paraphrases
    assert 0 <= plan.paraphrases <= texts
    assert 2 <= len(plan.examples) <= 30
    assert prompts * len(plan.examples) <= budget
    assert len(set(plan.masks)) == len(plan.masks)
    assert len(set(plan.orders)) == len(plan.orders)
    assert not plan.exact or len(plan.masks) == 1 << k
    assert {mask for pair in plan.pairs for walk in pair for mask in steps(walk)} <= {*plan.masks}
    assert plan == make_plan(k, others, 3, EXAMPLES, budget, seed, texts)


def test_many_instructions_do_not_eat_up_the_other_sections() -> None:
    """Beyond 120 instructions a budget goes to subsets, orders and other words first."""
    many = [Example(f"Question {i}?", id=f"q{i}") for i in range(400)]
    plan = make_plan(4, 3, 3, many, 4000, 0, 4)
    assert len(plan.examples) == 120
    assert (plan.exact, len(plan.orders), plan.phrasings, plan.paraphrases) == (True, 8, True, 3)
    assert len(make_plan(4, 3, 3, many, 8000, 0, 4).examples) == 8000 // 34
    assert len(make_plan(4, 3, 3, many, 40_000, 0, 4).examples) == 400
    large = make_plan(9, 3, 3, many, 10_000, 0, 4)
    assert len(large.examples) in range(120, 130) and large.pairs and large.paraphrases


@given(st.integers(0, 14), st.integers(0, 3), st.integers(0, 40), st.integers(2, 30))
def test_enough_reaches_everything(k: int, others: int, texts: int, there: int) -> None:
    """The default budget leaves nothing out, however many paraphrases a person adds."""
    budget = enough(k, others, 4, texts, there)
    plan = make_plan(k, others, 4, EXAMPLES[:there], budget, 0, texts)
    assert len(plan.examples) == there
    assert plan.phrasings and plan.paraphrases == texts
    assert len(plan.orders) == min(8, math.factorial(k) - 1)
    assert plan.exact or plan.pairs


def test_plus_is_better_everywhere(run: Run) -> None:
    """Losses are turned round, intervals with them, and nothing is below zero by rounding alone."""
    loss = {"mean": 0.0004, "low": -0.0001, "high": 0.02}
    assert signs.interval(signs.turned(loss)) == "0.000 [-0.020, 0.000]"
    assert signs.interval({"mean": 0.1, "low": None, "high": -0.0}) == "+0.100 [?, 0.000]"
    assert signs.interval(signs.turned(None), "none") == "none"
    found = explain(run, budget=600)
    text = explanation_text(found)
    assert "loss" not in text
    assert "-0.000" not in text and "+0.000" not in text
    orders = found["orders"]["winner_minus_others"]
    assert f"minus the winner: {signs.signed(-orders['mean'])} [" in text


def test_a_shorter_prompt_is_proposed_where_it_may_do(run: Run) -> None:
    """An exemplar that adds nothing is named, and so are fewer that are not shown to be worse."""

    def story(*left_out: tuple[float, float, float], gaps: Sequence[float] = ()) -> list[str]:
        names = ("mean", "low", "high")
        rows = [
            {"position": i + 1, "left_out": dict(zip(names, one, strict=True))}
            for i, one in enumerate(left_out)
        ]
        curve = [
            {"k": k, "minus_winner": {"first": {"mean": gap, "low": gap - 0.1, "high": gap + 0.1}}}
            for k, gap in enumerate(gaps)
        ]
        return spared(
            {"contributions": {"rows": rows}, "curves": [*curve, {"k": 9}], "k": len(left_out)}
        )

    sure, none, unsure = (0.2, 0.1, 0.3), (-0.1, -0.2, 0.1), (0.1, -0.1, 0.2)
    assert story(sure, sure) == []
    assert story(none, none, sure) == [
        "Leaving out exemplar 1 or 2 loses nothing: a shorter prompt may do."
    ]
    assert story(sure, unsure) == [
        "Leaving out exemplar 2 is not shown to lose anything: a shorter prompt may do."
    ]
    assert story(sure, sure, sure, gaps=(-0.3, -0.05, -0.01)) == [
        "With its first exemplar alone it is not shown to be worse: -0.050 [-0.150, +0.050]."
    ]
    found = explain(run, budget=600)
    assert set(found["curves"][0]["minus_winner"]) == {"first", "last"}
    assert found["curves"][-1]["minus_winner"]["first"]["mean"] == 0


def test_large_prompts_are_sampled() -> None:
    """Twelve exemplars have too many subsets for a budget; walks with their reverses take their place."""
    plan = make_plan(12, 1, 3, EXAMPLES, 6000, 0)
    assert not plan.exact
    assert len(plan.pairs) > 2
    assert all(there == back[::-1] for there, back in plan.pairs)


def test_variants_keep_the_order_and_the_format() -> None:
    """A subset keeps its exemplars' order; all of them is the very prompt."""
    pool = tuple(Example(f"Q{i}", f"A{i}") for i in range(4))
    prompt = Prompt("Be kind.", pool, FORMATS["block"])
    assert subset(prompt, full(4)) is prompt
    assert members(0b1011) == (0, 1, 3)
    assert subset(prompt, 0b1011).exemplars == (pool[0], pool[1], pool[3])
    assert reordered(prompt, (2, 0, 1, 3)).exemplars[0] == pool[2]


def test_known_contributions_are_found(run: Run) -> None:
    """Each exemplar gets what the engine gives for it, the pair's bonus shared; intervals are there."""
    found = explain(run, budget=600)
    prompt = [exemplar["id"] for exemplar in found["exemplars"]]
    rows = found["contributions"]["rows"]
    assert found["contributions"]["method"] == "exact"
    bonus = 0.05 if {"x1", "x2"} <= {*prompt} else 0.0
    order = 0.01 if bonus and prompt.index("x1") < prompt.index("x2") else 0.0
    for name, row in zip(prompt, rows, strict=True):
        shared = bonus + order if name in {"x1", "x2"} else 0.0
        assert row["shapley"]["mean"] == pytest.approx(WORTH[int(name[1])] + shared)
        assert row["shapley"]["low"] <= row["shapley"]["mean"] <= row["shapley"]["high"]
    whole = found["curves"][-1]["first"]["mean"] - found["curves"][0]["first"]["mean"]
    assert math.fsum(row["shapley"]["mean"] for row in rows) == pytest.approx(whole)
    assert found["factorial"]["system"]["mean"] == pytest.approx(0.05)
    assert found["factorial"]["interaction"]["mean"] == pytest.approx(0.0)
    assert found["missing"] > 0
    assert {row["tag"] for row in found["tags"]} >= {"even", "odd"}


def test_the_proof_is_never_touched_and_nothing_is_paid_twice(tmp_path: Path) -> None:
    """No test instruction is asked; killed half-way and started again it pays what an unbroken one pays."""
    run = small_run(tmp_path / "killed")
    before = len(asked(run))

    def stop(share: float, _: str) -> None:
        if share > 0.4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explain(run, budget=600, on_progress=stop)
    half = len(asked(run)) - before
    found = explain(open_run(run.folder), budget=600)
    paid = len(asked(run)) - before
    assert 0 < half < paid
    again = explain(open_run(run.folder), budget=600)
    assert len(asked(run)) - before == paid
    assert again.pop("generations")["paid"] == 0
    del found["generations"]
    assert again == found

    whole = small_run(tmp_path / "whole")
    before = len(asked(whole))
    explain(whole, budget=600)
    assert len(asked(whole)) - before == paid
    assert max(asked(run)) < 20_000
    assert found["split"] == "confirm"


def test_confirm_instructions_that_are_the_proof_are_not_touched(tmp_path: Path) -> None:
    """Without test instructions the confirm ones are the proof, so dev ones are measured."""
    data = {"dev": "dev.jsonl", "confirm": "confirm.jsonl"}
    run = small_run(tmp_path, data=data)
    found = explain(run, budget=400)
    assert found["split"] == "dev"
    assert "these instructions: they flatter it\nit is the best so far, not proved" in (
        explanation_text(found)
    )
    assert max(asked(run)) < 10_000


def test_regressions_show_both_answers(tmp_path: Path) -> None:
    """Where a better prompt is the baseline, its wins are told with both answers, worst first."""
    (tmp_path / "best.txt").write_text(
        Prompt(
            "Be kind.",
            (Example("Exemplar 1", "Answer 1."), Example("Exemplar 2", "Answer 2.")),
            FORMATS["block"],
        ).to_text()
    )
    run = small_run(
        tmp_path,
        space={"systems": ["Be kind."], "pool": "pool.jsonl", "k": [0, 1], "formats": ["block"]},
        confirm={"finalists": 1, "baselines": {"best": "best.txt"}, "main": "best"},
    )
    found = explain(run, budget=400)
    rows = found["regressions"]
    assert rows
    assert [row["difference"] for row in rows] == sorted(row["difference"] for row in rows)
    assert all(row["winner"]["value"] < row["baseline"]["value"] for row in rows)
    assert rows[0]["baseline"]["answer"].startswith(f"{rows[0]['baseline']['value']:.4f}")


def test_importances_are_shares(run: Run) -> None:
    """They add up to 1 and name dimensions of the space; with few prompts there are none."""
    space, trials = build_space(run.experiment), run.trials()
    found = importances(space, trials)
    assert found is not None
    assert math.fsum(found.values()) == pytest.approx(1)
    assert {*found} <= {"system", "k", "format", "exemplars"}
    assert importances(space, trials[:2]) is None


def test_text_is_printable_and_the_file_is_read_back(run: Run) -> None:
    """Nothing in an answer or a tag can steer a terminal; the file is what was returned."""
    found = explain(run, budget=600)
    text = explanation_text(found)
    assert "Shapley (exact)" in text
    assert f"winner: {found['mean']['mean']:.3f} [" in text
    assert "not proved" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    del found["generations"]
    place = run.folder / EXPLANATION_FILE
    assert read_explanation(place) == json.loads(json.dumps(found))
    (run.folder / "other.json").write_text('{"version": 2}')
    with pytest.raises(UserError, match="version 2, this icl_align reads 1; make it anew"):
        read_explanation(run.folder / "other.json")


def test_too_small_a_budget_says_what_is_needed(run: Run) -> None:
    """A budget that buys no interval is refused."""
    with pytest.raises(UserError, match=r"takes at least \d+ generations \(\d+ prompts on 2"):
        explain(run, budget=5)
