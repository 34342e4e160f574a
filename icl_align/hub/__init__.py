"""Packs on the Hugging Face Hub: pushed with a card, pulled with every check there is."""

from __future__ import annotations

from icl_align.hub.cards import card, publishable
from icl_align.hub.transfer import FILE, MOST_BYTES, pull, push

__all__ = ["FILE", "MOST_BYTES", "card", "publishable", "pull", "push"]
