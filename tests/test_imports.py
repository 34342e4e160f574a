"""Who may import whom, what is declared, and how quick a plain import is."""

from __future__ import annotations

import ast
import gc
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import icl_align

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "icl_align"
LAYERS = (
    ("errors", "types", "parts", "models"),
    ("prompt", "urial_text", "history"),
    ("space", "data", "lint"),
    ("stats",),
    ("engines",),
    ("scorers",),
    ("ledger",),
    ("evaluation", "evaluate"),
    ("search",),
    (
        "pack",
        "retrieval",
        "export",
        "importers",
        "dspy_parts",
        "dspy_adapter",
        "analysis",
        "rewrite",
    ),
    ("config",),
    ("assemble",),
    ("run", "use", "doctor", "annotations", "passport", "dspy_search"),
    (
        "prove",
        "proof_scores",
        "library",
        "hub",
        "contest",
        "live",
        "show",
        "signs",
        "forecast",
        "rescore",
        "explain",
        "report",
    ),
    ("judging", "verify", "serve", "chat", "dashboard", "trackers"),
    ("cli", "testing"),
    ("__main__",),
)
"""The order of DESIGN.md: a module may import from its own layer and those before it."""
LEVEL = {name: level for level, layer in enumerate(LAYERS) for name in layer}
HEAVY = ("torch", "transformers", "optuna", "dspy", "sentence_transformers", "matplotlib")
MODULES = sorted(PACKAGE.rglob("*.py"))


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(tree: ast.AST) -> Iterator[str]:
    """Every module named by an import statement, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            assert node.module is not None
            yield node.module
            if node.module == "icl_align":
                yield from (f"icl_align.{alias.name}" for alias in node.names)


def _tree(path: Path) -> ast.Module:
    """Parses a module, without garbage collection.

    CPython 3.11 fails with "AST constructor recursion depth mismatch" where a finalizer that runs amid
    the parsing lets another thread parse something too; other tests leave such threads and finalizers.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(path.read_text(encoding="utf-8"), str(path))
    finally:
        if collecting:
            gc.enable()


@pytest.mark.parametrize(
    "path", [p for p in MODULES if p.parent != PACKAGE or p.stem != "__init__"], ids=_name
)
def test_left_never_imports_right(path: Path) -> None:
    """A module imports only from its own layer and those before it in DESIGN.md."""
    mine = _name(path).split(".")[1]
    assert mine in LEVEL, f"{path.name} has no place in LAYERS; give it one"
    for imported in _imported(_tree(path)):
        parts = imported.split(".")
        if parts[0] == "icl_align" and len(parts) > 1 and parts[1] in LEVEL:
            assert LEVEL[parts[1]] <= LEVEL[mine], (
                f"{mine} imports {parts[1]}, which stands right of it"
            )


def test_no_cycle_at_module_level() -> None:
    """No two modules need each other to be imported."""
    names = {_name(path): path for path in MODULES}
    needs: dict[str, set[str]] = {}
    for name, path in names.items():
        top = [node for node in _tree(path).body if isinstance(node, ast.Import | ast.ImportFrom)]
        found = {target for node in top for target in _imported(node)}
        needs[name] = {target for target in found if target in names and target != name}
    order: list[str] = []
    while needs:
        free = [name for name, targets in needs.items() if not targets & needs.keys()]
        assert free, f"these import each other: {sorted(needs)}"
        order += free
        for name in free:
            del needs[name]
    assert len(order) == len(names)


def test_every_third_party_import_is_declared() -> None:
    """What the package imports stands in pyproject.toml, as a dependency or in an extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lists = [
        project["dependencies"],
        *(extras[name] for name in ("offline", "bm25", "vllm", "postgres", "dashboard")),
    ]
    declared = {_distribution(entry) for entries in lists for entry in entries}
    owners = packages_distributions()
    for path in MODULES:
        for imported in _imported(_tree(path)):
            top = imported.split(".")[0]
            if top in sys.stdlib_module_names or top == "icl_align":
                continue
            candidates = {_distribution(owner) for owner in owners.get(top, [top])}
            assert candidates & declared, f"{_name(path)} imports {top}, which is not declared"


def _distribution(entry: str) -> str:
    name = re.split(r"[<>=~! ;\[]", entry, maxsplit=1)[0]
    return name.lower().replace("_", "-").replace(".", "-").replace("dspy-ai", "dspy")


@pytest.mark.parametrize("command", ["import icl_align", "import icl_align.cli"])
def test_light_imports_load_nothing_heavy(command: str) -> None:
    """Neither the package nor its command line loads torch and its kin."""
    probe = f"{command}; import sys; print([m for m in {HEAVY} if m in sys.modules])"
    assert _python("-c", probe).strip() == "[]"


def test_import_is_quick() -> None:
    """`import icl_align` takes less than 0.3 s, the interpreter's start included."""
    assert _best_of_three("-c", "import icl_align") < 0.3


def test_help_is_quick() -> None:
    """`icl-align --help` takes less than 0.5 s."""
    assert _best_of_three("-c", "from icl_align.cli import main; main()", "--help") < 0.5


def test_every_public_name_is_there() -> None:
    """Everything in `__all__` can be had, and nothing else looks as if it could."""
    for name in icl_align.__all__:
        assert getattr(icl_align, name) is not None
    assert set(icl_align.__all__) <= set(dir(icl_align))
    with pytest.raises(AttributeError, match="has no attribute 'Promt'"):
        _ = icl_align.Promt


def _python(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=ROOT,
    )
    return done.stdout


def _best_of_three(*arguments: str) -> float:
    """Seconds of the quickest of three runs; the others may share the machine."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        _python(*arguments)
        times.append(time.perf_counter() - start)
    return min(times)


@pytest.mark.parametrize("before", ["", "import icl_align.evaluate", "import icl_align.prove"])
def test_public_names_are_what_they_say(before: str) -> None:
    """Each name of `__all__` can be imported, whatever modules were imported before; none is a module."""
    code = f"""
{before}
from types import ModuleType
import icl_align
from icl_align import *
for name in icl_align.__all__:
    assert not isinstance(globals()[name], ModuleType), name
    assert name in dir(icl_align), name
import icl_align.run, icl_align.prove
from icl_align import evaluate, prove
from icl_align.evaluate import EngineEvaluator
assert evaluate.__name__ == "evaluate" and prove.__name__ == "prove" and callable(evaluate)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
