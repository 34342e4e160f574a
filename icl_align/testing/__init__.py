"""Public contract suites: prove your own engine, scorer, sampler or space with the tests ours pass."""

from __future__ import annotations

from icl_align.testing.engines import PROMPTS, check_engine
from icl_align.testing.samplers import check_sampler
from icl_align.testing.scorers import check_scorer
from icl_align.testing.spaces import check_space

__all__ = ["PROMPTS", "check_engine", "check_sampler", "check_scorer", "check_space"]
