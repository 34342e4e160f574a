"""The search benchmark at tiny sizes: a cell, the table, and a run that is killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench import search
from bench.cells import CHECKPOINTS, Cell, cells, recipe_of, run_cell
from bench.curves import ALL, Mean, markdown, summary, table
from bench.landscapes import SHAPES, Landscape, Problem
from icl_align.search.budget import Budget
from icl_align.search.sweep import run_sweep

SMALL = Problem(pool=20, systems=4, k_max=3, dev=40)
approx: Any = pytest.approx


# A cell.


@pytest.mark.parametrize(
    ("sampler", "batch"),
    [("structured", 4), ("evolution", 1), ("random", 1), ("tpe-wilcoxon", 1)],
)
def test_a_cell_is_judged_by_the_truth(sampler: str, batch: int) -> None:
    """Within the budget, nothing twice; the curve ends at what was recommended."""
    found = run_cell(Cell("additive", 20, 400, batch, 1, sampler), oracle=0.7)
    assert 300 < found["paid"] <= 400
    assert found["repeated"] == 0
    gap = 0.7 - found["random_mean"]
    assert found["closed"] == pytest.approx((found["quality"] - found["random_mean"]) / gap)
    assert len(found["regret"]) == CHECKPOINTS
    assert found["regret"][-1] == pytest.approx(1 - found["closed"])
    assert abs(found["optimism"]) < 0.2
    assert 0 < found["own_seconds"] * found["trials"] <= found["seconds"]


def test_the_curve_is_what_would_have_been_recommended() -> None:
    """A search that takes no notice of its budget, ended in the middle, recommends what the curve says."""
    ends = []
    for seed in range(4):
        whole, half = (
            run_cell(Cell("additive", 20, budget, 1, seed, "random"), oracle=0.7)["regret"]
            for budget in (600, 300)
        )
        assert whole[4] == half[-1]
        ends.append(whole[4] != whole[-1])
    assert any(ends)


def test_before_anything_is_measured_there_is_no_regret() -> None:
    """A trial of 100 examples is more than a tenth of 400."""
    found = run_cell(Cell("additive", 20, 400, 1, 0, "random"), oracle=0.7)
    assert found["regret"][:2] == [None, None]
    assert None not in found["regret"][2:]


def test_on_null_nothing_can_be_closed() -> None:
    """There is no gap; optimism there is."""
    found = run_cell(Cell("null", 20, 200, 1, 0, "random"), oracle=0.5)
    assert found["closed"] is None
    assert set(found["regret"]) == {None}
    assert found["optimism"] != 0


def test_dspy_is_a_cell_too() -> None:
    """Without a curve."""
    found = run_cell(Cell("additive", 20, 200, 1, 0, "dspy-random"), oracle=0.7)
    assert 0 < found["paid"] <= 200
    assert (found["repeated"], found["regret"]) == (0, [])


def test_ours_is_the_sampler_of_that_name() -> None:
    """With embeddings given or computed, the same trials."""
    land = Landscape(SHAPES["mixed"], SMALL)
    told = [
        run_sweep(
            land.space,
            land.examples,
            land,
            url="sqlite:///:memory:",
            budget=Budget(generations=160),
            sampler=sampler,
        )
        for sampler in ("structured", recipe_of("structured"))
    ]
    assert [trial.params for trial in told[0].trials] == [trial.params for trial in told[1].trials]
    assert told[0].ranking == told[1].ranking


def test_a_grid_goes_seed_by_seed() -> None:
    """Every combination once; DSPy only at the first batch."""
    grid = cells(["a", "b"], {50: [500], 300: [1500]}, [1, 4], [0, 1], ["structured", "dspy-mipro"])
    assert len(set(grid)) == len(grid) == 2 * 2 * 2 * 3
    assert [cell.seed for cell in grid] == sorted(cell.seed for cell in grid)
    assert {cell.batch for cell in grid if cell.sampler == "dspy-mipro"} == {1}
    assert {(cell.pool, cell.budget) for cell in grid} == {(50, 500), (300, 1500)}


# The table.


def result(
    shape: str, seed: int, sampler: str, closed: float | None, **more: Any
) -> dict[str, Any]:
    sizes = {"pool": 50, "budget": 500, "batch": 1}
    rest = {"optimism": 0.1, "own_seconds": 0.01, "repeated": 0, "regret": [], **more}
    return {"shape": shape, **sizes, "seed": seed, "sampler": sampler, "closed": closed, **rest}


def test_differences_are_paired_by_landscape() -> None:
    """Means, standard errors and wins by hand; a run without its partner is in no difference."""
    ours = [result("mixed", seed, "a", value) for seed, value in enumerate((0.5, 0.7))]
    others = [result("mixed", seed, "b", value) for seed, value in enumerate((0.3, 0.8, 0.9))]
    first, second = summary([*others, *ours], ["a", "b"])
    assert first["closed"] == Mean(approx(0.6), approx(0.1), 2)
    assert (first["difference"], first["better"]) == (None, 0)
    assert second["difference"] == Mean(approx(-0.05), approx(0.15), 2)
    assert (second["better"], second["runs"]) == (1, 3)


def test_all_shapes_together_leave_out_where_nothing_can_be_closed() -> None:
    """And are told only where there are several."""
    rows = [result("mixed", 0, "a", 0.4), result("null", 0, "a", None)]
    assert [row["shape"] for row in summary(rows, ["a"])] == ["mixed", "null"]
    rows += [result("noisy", 0, "a", 0.6)]
    *_, last = summary(rows, ["a"])
    assert (last["shape"], last["runs"], last["closed"].value) == (ALL, 2, 0.5)
    lines = table(summary(rows, ["a"])).splitlines()
    assert len(lines) == 2 + 4
    assert len({line.count("|") for line in lines}) == 1


def test_shares_are_told_with_their_errors() -> None:
    """In a table of rows of one form; no rows are no table."""
    (row,) = markdown([{"n": 100, "covers, %": 0.5, "width": 0.1234}]).splitlines()[2:]
    assert row == "| 100 | 50.0 +- 5.0 | 0.123 |"
    assert not markdown([])


# The scripts.


def without_times(record: dict[str, Any]) -> list[dict[str, Any]]:
    times = ("seconds", "own_seconds")
    return [{k: v for k, v in cell.items() if k not in times} for cell in record["cells"]]


def test_a_killed_run_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is in the file is not run again, what is not comes out the same; all is told and drawn."""
    out = tmp_path / "search.json"
    options = ["--shapes", "additive,null", "--pools", "20", "--budgets", "200", "--seeds", "0:2"]
    command = [*options, "--samplers", "random,halving", "--out", str(out)]
    search.main(command)
    first = json.loads(out.read_text())
    assert len(first["cells"]) == 8
    assert {"date", "commit", "machine", "version", "landscapes"} <= first.keys()
    told = capsys.readouterr()
    assert "8/8" in told.err
    lines = told.out.splitlines()
    assert len(lines) == 2 + len(first["summary"]) == 2 + 4
    assert len({line.count("|") for line in lines}) == 1
    for name in ("search.npz", "search.oracles.jsonl"):
        assert (tmp_path / name).exists()

    kept = out.with_suffix(".jsonl")
    whole = kept.read_text().splitlines(keepends=True)
    kept.write_text("".join(whole[:6]) + whole[6][:20])  # killed in the middle of a line
    search.main(command)
    assert "3/3" in capsys.readouterr().err
    assert without_times(json.loads(out.read_text())) == without_times(first)
    search.main([*command, "--again", "halving"])
    assert "4/4" in capsys.readouterr().err
    assert len(kept.read_text().splitlines()) == 1 + 8

    for name in ("closed", "optimism", "regret"):
        assert (tmp_path / f"search-{name}.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shapes", "mixt"], "got 'mixt'"),
        (["--samplers", "structred"], "got 'structred'"),
        (["--peer", "--pools", "300"], "has a pool of 50"),
        (["--seeds", "3:3"], "no seed in '3:3'"),
        (["--budgets", "0"], "at least 1"),
        (["--out", "search.csv"], "a .json file"),
    ],
)
def test_what_means_nothing_is_refused(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is run."""
    with pytest.raises(SystemExit, match="2"):
        search.parse(options)
    assert message in capsys.readouterr().err


def test_the_usual_budgets_go_with_the_pool() -> None:
    """1,500 for 300 exemplars; what is asked for is for all pools."""
    assert search.parse([]).budgets == {50: (500, 1800, 5600), 300: (500, 1500, 5600)}
    assert search.parse(["--budgets", "400"]).budgets == {50: [400], 300: [400]}
    assert search.parse(["--peer"]).budgets == {50: (500, 1800, 5600)}
