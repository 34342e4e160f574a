"""Instructions that a program can check: IFEval's 25 kinds, length targets, keywords.

A kind is a rule `(values, text) -> bool`; `RULES` maps the kinds' names to them. `ConstraintScorer`
grades by them, strictly or loosely; `read_ifeval` reads IFEval's rows.
"""

from __future__ import annotations

from icl_align.scorers.constraints.ifeval import read_ifeval
from icl_align.scorers.constraints.loose import variants
from icl_align.scorers.constraints.rules import RULES
from icl_align.scorers.constraints.scorer import ConstraintScorer

__all__ = ["RULES", "ConstraintScorer", "read_ifeval", "variants"]
