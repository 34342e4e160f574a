"""Why a run's prompt won: what each exemplar, their order, their number and the system text are worth."""

from __future__ import annotations

from icl_align.explain.explanation import EXPLANATION_FILE, explain, read_explanation
from icl_align.explain.wording import OtherWords

__all__ = ["EXPLANATION_FILE", "OtherWords", "explain", "read_explanation"]
