"""Each notebook runs from top to bottom, as it is, and what is committed holds its outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))


def _read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def test_they_are_all_there() -> None:
    """Numbered from 00 to 09, without a gap."""
    assert [path.name[:2] for path in NOTEBOOKS] == [f"{number:02}" for number in range(10)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_was_run_before_it_was_committed(path: Path) -> None:
    """Outputs are there, none is an error, and nothing tells where or when it was run."""
    notebook = _read(path)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs
    assert all(output.output_type != "error" for output in outputs)
    assert all(not cell.metadata for cell in notebook.cells)
    assert "/tmp" not in path.read_text("utf-8")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path: Path, tmp_path: Path) -> None:
    """No cell fails in a fresh kernel and an empty folder."""
    notebook = _read(path)
    settings = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=240, kernel_name="python3", resources=settings).execute()
