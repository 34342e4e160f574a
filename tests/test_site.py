"""The documentation site builds without a warning, and its references are whole."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    if find_spec("mkdocs") is None or find_spec("mkdocstrings") is None:
        pytest.skip("needs the extra docs: pip install -e '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    return folder


def test_every_verb_is_in_the_reference(site: Path) -> None:
    """The command line's page has each command, with its options."""
    page = (site / "cli" / "index.html").read_text("utf-8")
    helped = subprocess.run(
        [sys.executable, "-c", "from icl_align.cli import main; main()", "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    verbs = re.findall(r"^  (\w+)  ", helped.partition("Commands:")[2], re.MULTILINE)
    assert len(verbs) > 10
    for verb in verbs:
        assert f"icl-align {verb}" in page, verb
    assert "--require-passport" in page
    assert "{{" not in page


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("api/prompts", ("Prompt", "Example", "Space", "Pack")),
        ("api/parts", ("JudgeScorer", "PairwiseJudge", "EmbeddingScorer", "HFEngine")),
        ("api/search", ("run_sweep", "StructuredSampler", "Experiment")),
        ("api/stats", ("length_controlled_win_rate", "bradley_terry", "alt_test")),
    ],
)
def test_the_api_reference_has_what_people_call(
    site: Path, page: str, names: tuple[str, ...]
) -> None:
    """Docstrings became pages."""
    text = (site / page / "index.html").read_text("utf-8")
    for name in names:
        assert f".{name}" in text or f">{name}<" in text, name


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    """Styles, scripts and fonts come with the site."""
    for page in site.rglob("*.html"):
        loaded = re.findall(
            r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', page.read_text("utf-8")
        )
        assert not [url for url in loaded if "canonical" not in url], page
