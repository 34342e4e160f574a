"""What the README and the docs show is what happens."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from icl_align.assemble import build_space, load_splits
from icl_align.config import load_experiment

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in PAGES
    for number, block in enumerate(
        re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    )
]


@pytest.mark.parametrize("block", BLOCKS)
def test_python_blocks_run(block: str, tmp_path: Path) -> None:
    """Every Python block of the documentation runs as it stands."""
    done = subprocess.run(
        [sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Relative links of a page point to files that exist."""
    for target in re.findall(r"\]\(([^)#]+)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_bundled_experiment_is_whole() -> None:
    """The shipped splits are disjoint, the gates' 200 untouched instructions are there, and so is the pool."""
    experiment = load_experiment(ROOT / "experiments" / "bundled.toml")
    splits = load_splits(experiment)
    assert len(splits["test"]) >= 200
    space = build_space(experiment)
    assert len(space.pool) >= 60
    assert len(space.systems) >= 8
