"""What may be claimed from scores and preferences, a file per kind of claim."""

from __future__ import annotations

from icl_align.stats.bootstrap import (
    Interval,
    bootstrap_mean,
    crossed_bootstrap,
    paired_bootstrap,
)
from icl_align.stats.length import LengthControlled, Regularisation, length_controlled_win_rate
from icl_align.stats.length_scores import LengthControlledScores, length_controlled_scores
from icl_align.stats.strength import Match, Strength, Strengths, bradley_terry
from icl_align.stats.wins import WinRate, win_rate

__all__ = [
    "Interval",
    "LengthControlled",
    "LengthControlledScores",
    "Match",
    "Regularisation",
    "Strength",
    "Strengths",
    "WinRate",
    "bootstrap_mean",
    "bradley_terry",
    "crossed_bootstrap",
    "length_controlled_scores",
    "length_controlled_win_rate",
    "paired_bootstrap",
    "win_rate",
]
