"""Public contract suites: prove your own engine or scorer with the tests that ours pass."""

from __future__ import annotations

from icl_align.testing.engines import PROMPTS, check_engine
from icl_align.testing.scorers import check_scorer

__all__ = ["PROMPTS", "check_engine", "check_scorer"]
