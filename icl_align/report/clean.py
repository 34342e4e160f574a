"""Texts of unknown origin as the page shows them."""

from __future__ import annotations

from icl_align.passport.plain import printable

LONGEST = 6000
"""Characters of an answer that are shown."""


def shown(text: str, longest: int | None = None) -> str:
    """Gives a text with controls and characters that turn its direction as escapes; cut, and says so."""
    cut = text if longest is None or len(text) <= longest else text[:longest]
    plain = cut.replace("\n", "").replace("\t", "").isprintable()  # `printable` asks each character
    told = cut if plain else printable(cut)
    return (
        told
        if len(cut) == len(text)
        else f"{told} \u2026 ({len(text) - len(cut):,} more characters)"
    )
