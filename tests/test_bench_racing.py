"""The racing benchmark at a tiny size: even pairs are even, worse ones worse, and all is written down."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench.racing import CONTESTANTS, EFFECTS, KINDS, N, even, main, sweep, worse


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_are_what_they_are_called(kind: str) -> None:
    """Under the null the means are equal to the last digit; else they are apart by the effect, as far as scores allow."""
    one, two = even(kind, np.random.default_rng(0))
    assert one.shape == two.shape == (N,)
    assert one.mean() == pytest.approx(two.mean(), abs=1e-12)
    assert not (one == two).all()
    for effect in EFFECTS:
        one, two = worse(kind, effect, np.random.default_rng(0))
        difference = one - two
        size = -difference.mean() / difference.std()
        # scores of 0 or 1 cannot differ by two standard deviations where many are 0
        assert size == pytest.approx(effect, rel=0.15) or (kind == "0/1" and one.max() == 0)
        assert 0 <= min(one.min(), two.min()) <= max(one.max(), two.max()) <= 1


def test_the_record_holds_all_cells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every distribution at every effect for every contestant, and each kind of sweep."""
    main(["--runs", "4", "--out", str(tmp_path / "racing.json")])
    done = json.loads((tmp_path / "racing.json").read_text())
    assert len(done["cells"]) == len(KINDS) * (1 + len(EFFECTS))
    for cell in done["cells"]:
        assert set(cell["contestants"]) == set(CONTESTANTS)
        for entry in cell["contestants"].values():
            assert 8 <= entry["examples"] <= N
    assert len(done["sweeps"]) == 8
    assert capsys.readouterr().out.count("|\n") == 2 + len(done["cells"]) + len(done["sweeps"])


def test_a_sweep_is_repeatable() -> None:
    """One seed is one sweep."""
    assert sweep(0.2, 3, fresh=False, bred=True) == sweep(0.2, 3, fresh=False, bred=True)
