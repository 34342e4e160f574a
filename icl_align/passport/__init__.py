"""Passports: how far a judge can be trusted, measured on what people said, and kept in a file.

`load_judge` makes the judge, `validate` examines it, `load_passport` and `check_passport` tell a sweep
whether to rely on it.
"""

from __future__ import annotations

from icl_align.passport.judges import Judge, judge_fingerprint, load_judge
from icl_align.passport.record import Criteria, Passport, check_passport, load_passport
from icl_align.passport.validate import Plan, validate

__all__ = [
    "Criteria",
    "Judge",
    "Passport",
    "Plan",
    "check_passport",
    "judge_fingerprint",
    "load_judge",
    "load_passport",
    "validate",
]
