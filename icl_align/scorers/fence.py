"""Puts texts between marks that they cannot forge."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence


def fenced(texts: Mapping[str, str]) -> str:
    """Writes texts by name, each between `<<<NAME CODE` and `CODE NAME>>>`; same texts, same code.

    Halves of surrogate pairs become U+FFFD.
    """
    texts = {name: whole(text) for name, text in texts.items()}
    code = mark(tuple(texts.values()))
    return "\n\n".join(
        f"<<<{name.upper()} {code}\n{text}\n{code} {name.upper()}>>>"
        for name, text in texts.items()
    )


def mark(texts: Sequence[str]) -> str:
    """Gives a code that none of the texts contains; the same for the same texts."""
    seed = "\0".join(texts).encode("utf-8", "surrogatepass")
    code = hashlib.sha256(seed).hexdigest()[:16]
    while any(code in text for text in texts):
        code = hashlib.sha256(code.encode() + seed).hexdigest()[:16]
    return code


def whole(text: str) -> str:
    """Replaces halves of surrogate pairs, which JSON can hold, and neither UTF-8 nor a tokenizer."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
