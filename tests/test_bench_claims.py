"""The simulation of claims at a tiny size, and its counting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from bench import claims
from bench.curves import Mean
from icl_align.evaluation import Evaluation
from icl_align.prompt import FORMATS, Prompt
from icl_align.search.confirm import Comparison
from icl_align.stats import paired_bootstrap
from icl_align.types import Score

approx: Any = pytest.approx
PROMPT = Prompt("Be kind.", (), FORMATS["block"])


def test_claims_are_simulated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All kinds of runs, sizes and intervals; where all prompts are equal the truth is 0."""
    out = tmp_path / "claims.json"
    short = ["--sampler", "random", "--generations", "200", "--sizes", "20,40"]
    claims.main(["--aa", "2", "--coverage", "2", "--found", "1", *short, "--out", str(out)])
    done = json.loads(out.read_text())
    assert len(done["cells"]) == 5
    assert len(done["claims"]) == 4 * (1 + 2 + 1)
    for run in done["cells"]:
        assert (run["truth"] == 0) == (run["runs"] == "A/A")
        for proof in run["proofs"].values():
            assert all(low < high for low, high in proof["intervals"].values())
    assert capsys.readouterr().out.count("\n| ") == len(done["claims"]) + 1 + 3 * 3


def test_claims_are_counted() -> None:
    """By hand: the first run's interval is above 0 and above the truth, the second's holds both."""
    runs = [
        {"truth": truth, "proofs": {"20": {"intervals": {"t": ends}}}}
        for truth, ends in ((0.0, (0.1, 0.3)), (0.2, (-0.1, 0.5)))
    ]
    (row,) = claims.tell({"A/A": runs, "found": []})
    assert (row["n"], row["test examples"], row["width"]) == (2, 20, pytest.approx(0.4))
    shares = ("above 0, %", "below 0, %", "covers, %", "truth below, %", "truth above, %")
    assert [row[name] for name in shares] == [0.5, 0, 0.5, 0.5, 0]


def test_intervals_are_what_they_are_called() -> None:
    """The told one is that of the package, Student's is scipy's, and the wide one is wider."""
    rng = np.random.default_rng(0)
    one, two = rng.uniform(size=(2, 15))
    scores = tuple(Score(float(value)) for value in two)
    baseline = Evaluation(PROMPT, tuple(map(str, range(15))), scores)
    told = paired_bootstrap(one.tolist(), two.tolist())
    found = claims.intervals(Comparison("another", baseline, told), one.tolist(), 0)
    assert found["bca"] == (told.low, told.high)
    assert found["t"] == pytest.approx(tuple(stats.ttest_rel(one, two).confidence_interval()))
    assert found["wide"][0] < found["percentile"][0] < found["percentile"][1] < found["wide"][1]


def test_optimism_is_a_mean_over_runs() -> None:
    """Of the test mean at the largest size, the estimate, and the plain mean where there is one."""
    runs = [
        {
            "proofs": {"60": {"optimism": 9.0}, "120": {"optimism": value}},
            "estimate_optimism": 2 * value,
            "mean_optimism": plain,
        }
        for value, plain in ((0.1, None), (0.3, 0.5))
    ]
    test, estimate, plain = claims.optimism({"found": runs})
    assert test["too much"].value == pytest.approx(0.2)
    assert estimate["too much"] == Mean(approx(0.4), approx(0.2), 2)
    assert plain["too much"] == Mean(0.5, None, 1)
