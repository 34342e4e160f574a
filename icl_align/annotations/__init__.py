"""Already paid annotations of a judge: read, put in line by instruction, and length-controlled.

Nothing here asks a judge again.
"""

from __future__ import annotations

from icl_align.annotations.reading import Annotation, Annotations, Coding, read_annotations
from icl_align.annotations.tables import (
    LengthTable,
    length_table,
    read_difficulty,
    read_regularisation,
)

__all__ = [
    "Annotation",
    "Annotations",
    "Coding",
    "LengthTable",
    "length_table",
    "read_annotations",
    "read_difficulty",
    "read_regularisation",
]
