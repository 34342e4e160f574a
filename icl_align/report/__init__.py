"""A run as one page without network: what won, by how much, how sure, and why."""

from __future__ import annotations

from icl_align.report.page import write_report

__all__ = ["write_report"]
