"""The experiment file: TOML, read as one validated record; mistakes name file, table and key."""

from __future__ import annotations

from icl_align.config.aims import (
    LIMITS,
    USUAL_GENERATIONS,
    Confirm,
    Constraint,
    PriceTable,
    Search,
    TermTable,
)
from icl_align.config.experiment import (
    Experiment,
    bundled_experiment,
    load_experiment,
)
from icl_align.config.subject import (
    Data,
    Hub,
    Model,
    Sizes,
    SpaceTable,
    Systems,
)
from icl_align.config.values import (
    BUNDLED,
    ZERO_SHOT,
    FileName,
    FormatName,
    Part,
    Table,
)

__all__ = [
    "BUNDLED",
    "LIMITS",
    "USUAL_GENERATIONS",
    "ZERO_SHOT",
    "Confirm",
    "Constraint",
    "Data",
    "Experiment",
    "FileName",
    "FormatName",
    "Hub",
    "Model",
    "Part",
    "PriceTable",
    "Search",
    "Sizes",
    "SpaceTable",
    "Systems",
    "Table",
    "TermTable",
    "bundled_experiment",
    "load_experiment",
]
