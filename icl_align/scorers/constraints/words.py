"""Splits texts into words: as runs of letters and digits, and as the Penn Treebank does.

The second kind keeps `AC/DC` and `WELL-KNOWN` whole, and splits `DON'T` into `DO` and `N'T`; IFEval
counts words in capitals by it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from icl_align.scorers.constraints.sentences import sentences

_WORD = re.compile(r"\w+")
_APART = re.compile(
    r"""[\u00ab\u00bb\u2018\u2019\u201c\u201d\u201e`"\[\](){}<>;@#$%&?!*]|''|--|\.{2,}|[:,](?=\D|\Z)|'(?=(?![mtsdn])\w\b)""",
    re.IGNORECASE,
)
_CLOSING_QUOTE = re.compile(r"(?<=[^'])'(?= )")
_CLOSING = " ])}>\"'\u00bb\u201d\u2019"
_ENDINGS = (
    re.compile(r"(?<=[^' ])('[sSmMdD])(?= |\Z)"),
    re.compile(r"(?<=[^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T)(?= |\Z)"),
)
"""Ends of contractions; before a line's end they stay, as in NLTK's edition of the rules."""
_MERGED = re.compile(
    r"\b(can(?=not\b)|d(?='ye\b)|gim(?=me\b)|gon(?=na\b)|got(?=ta\b)|lem(?=me\b)|more(?='n\b)"
    r"|wan(?=na(?!\S)))(not|'ye|me|na|ta|'n)|(?<!\S)('t)(is|was)\b",
    re.IGNORECASE,
)


def count_words(text: str) -> int:
    """Counts runs of letters, digits and underscores; `don't` has two."""
    return sum(1 for _ in _WORD.finditer(text))


def tokens(text: str) -> Iterator[str]:
    """Gives words, punctuation and the parts of contractions, sentence by sentence."""
    for sentence in sentences(text):
        yield from _split(sentence)


def _split(sentence: str) -> list[str]:
    tail = sentence.rstrip()
    head = tail.rstrip(_CLOSING)
    if head.endswith(".") and not head.endswith("..") and len(head) > 1:
        tail = f"{head[:-1]} . {tail[len(head) :]}"
    apart = _CLOSING_QUOTE.sub(" '", _APART.sub(r" \g<0> ", tail))
    for ending in _ENDINGS:
        apart = ending.sub(r" \1", apart)
    return _MERGED.sub(lambda found: f" {' '.join(filter(None, found.groups()))} ", apart).split()
