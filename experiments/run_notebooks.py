"""Runs the notebooks and keeps their outputs, cleaned of where and when they were run.

python experiments/run_notebooks.py              # all of them
python experiments/run_notebooks.py 03-a-first-sweep
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"


def main(names: list[str]) -> None:
    """Runs the named notebooks, or all."""
    for path in sorted(FOLDER.glob("*.ipynb")):
        if not names or path.stem in names:
            began = time.perf_counter()
            path.write_text(run(path), encoding="utf-8")
            print(f"{path.stem}: {time.perf_counter() - began:.0f} s")


def run(path: Path) -> str:
    """Gives a notebook's text with fresh outputs, run in an empty folder."""
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    with tempfile.TemporaryDirectory() as folder:
        settings = {"metadata": {"path": folder}}
        NotebookClient(notebook, timeout=240, kernel_name="python3", resources=settings).execute()
        text = nbformat.writes(notebook).replace(folder, ".")  # type: ignore[no-untyped-call]
    clean = nbformat.reads(text, as_version=4)  # type: ignore[no-untyped-call]
    for cell in clean.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
            for out in cell.outputs:
                if "metadata" in out:
                    out["metadata"] = {}
    nbformat.validate(clean)
    return str(nbformat.writes(clean)) + "\n"  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main(sys.argv[1:])
