"""icl_align finds, proves and ships stronger URIAL prompts for base language models.

Public names are imported at first use, so that `import icl_align` stays quick and loads no torch.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from icl_align.config import bundled_experiment, load_experiment
    from icl_align.data import read_examples, read_hf_dataset, split_examples
    from icl_align.errors import UserError
    from icl_align.evaluate import EngineEvaluator, evaluate
    from icl_align.evaluation import Evaluation, compare
    from icl_align.models import bundled
    from icl_align.pack import Pack
    from icl_align.prompt import FORMATS, Format, Prompt
    from icl_align.prove import prove, winner_pack
    from icl_align.run import open_run, start
    from icl_align.search.budget import Budget
    from icl_align.search.sweep import run_sweep
    from icl_align.space import Space
    from icl_align.stats import length_controlled_win_rate
    from icl_align.types import Check, Decoding, Example, Response, Score, Turn

__version__ = "0.1.0"

__all__ = [
    "FORMATS",
    "Budget",
    "Check",
    "Decoding",
    "EngineEvaluator",
    "Evaluation",
    "Example",
    "Format",
    "Pack",
    "Prompt",
    "Response",
    "Score",
    "Space",
    "Turn",
    "UserError",
    "__version__",
    "bundled",
    "bundled_experiment",
    "compare",
    "evaluate",
    "length_controlled_win_rate",
    "load_experiment",
    "open_run",
    "prove",
    "read_examples",
    "read_hf_dataset",
    "run_sweep",
    "split_examples",
    "start",
    "winner_pack",
]

_HOMES = {
    "data": ("read_examples", "read_hf_dataset", "split_examples"),
    "errors": ("UserError",),
    "evaluate": ("EngineEvaluator", "evaluate"),
    "evaluation": ("Evaluation", "compare"),
    "config": ("bundled_experiment", "load_experiment"),
    "models": ("bundled",),
    "pack": ("Pack",),
    "prove": ("prove", "winner_pack"),
    "prompt": ("FORMATS", "Format", "Prompt"),
    "run": ("open_run", "start"),
    "search.budget": ("Budget",),
    "search.sweep": ("run_sweep",),
    "space": ("Space",),
    "stats": ("length_controlled_win_rate",),
    "types": ("Check", "Decoding", "Example", "Response", "Score", "Turn"),
}
"""Which module holds which public names."""


def __getattr__(name: str) -> Any:
    """Imports a public name at its first use (PEP 562)."""
    for module, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(f"{__name__}.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _Package(ModuleType):
    """Keeps a public function in its place when the module of the same name is imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, ModuleType) and name in _HOMES.get(name, ()):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
