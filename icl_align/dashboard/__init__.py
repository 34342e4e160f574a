"""optuna-dashboard on a run: a note for each trial, people's preferences, nothing lost by a click."""

from __future__ import annotations

from icl_align.dashboard.server import Served, serving
from icl_align.dashboard.verdicts import read_preferences

__all__ = ["Served", "read_preferences", "serving"]
