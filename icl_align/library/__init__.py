"""The pack library: packs we ship, found by name, told, and compared with one another."""

from __future__ import annotations

from icl_align.library.finding import ABOUT, find_pack, load_pack, shipped

__all__ = ["ABOUT", "find_pack", "load_pack", "shipped"]
