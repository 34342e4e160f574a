"""Retrieval packs: exemplars chosen per query from a pool, by an index that lies beside the pack.

The pack is an ordinary one whose exemplars are the pool; the index says how many of them a query gets
and how near each is to it. What is sent is rendered by an ordinary `Prompt`.
"""

from __future__ import annotations

from icl_align.retrieval.file import INDEX_SUFFIX, is_index, load, save
from icl_align.retrieval.pack import METHODS, Recipe, RetrievalPack, build

__all__ = [
    "INDEX_SUFFIX",
    "METHODS",
    "Recipe",
    "RetrievalPack",
    "build",
    "is_index",
    "load",
    "save",
]
