"""How far something is, on stderr: drawn live on a terminal, else a plain line now and then."""

from __future__ import annotations

from icl_align.live.display import shares
from icl_align.live.sweep import contest_progress, progress, proof_progress

__all__ = ["contest_progress", "progress", "proof_progress", "shares"]
