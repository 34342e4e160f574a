"""Optional logging of runs to MLflow, Weights & Biases, or a tracker of one's own; off by default."""

from __future__ import annotations

from icl_align.trackers.base import Outcome, Position, Proved, Row, Subject, Tracker
from icl_align.trackers.tracking import Tracking, tracking

__all__ = ["Outcome", "Position", "Proved", "Row", "Subject", "Tracker", "Tracking", "tracking"]
