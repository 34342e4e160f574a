"""icl_align finds, proves and ships stronger URIAL prompts for base language models.

Public names are imported at first use, so that `import icl_align` stays quick and loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from icl_align.data import read_examples, read_hf_dataset, split_examples
    from icl_align.errors import UserError
    from icl_align.evaluate import EngineEvaluator, Evaluation, compare, evaluate
    from icl_align.models import bundled
    from icl_align.pack import Pack
    from icl_align.prompt import FORMATS, Format, Prompt
    from icl_align.space import Space
    from icl_align.types import Check, Decoding, Example, Response, Score, Turn

__version__ = "0.1.0"

__all__ = [
    "FORMATS",
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
    "compare",
    "evaluate",
    "read_examples",
    "read_hf_dataset",
    "split_examples",
]

_HOMES = {
    "data": ("read_examples", "read_hf_dataset", "split_examples"),
    "errors": ("UserError",),
    "evaluate": ("EngineEvaluator", "Evaluation", "compare", "evaluate"),
    "models": ("bundled",),
    "pack": ("Pack",),
    "prompt": ("FORMATS", "Format", "Prompt"),
    "space": ("Space",),
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


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
