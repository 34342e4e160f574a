"""How near texts are by the words they share: BM25, through the library bm25s.

bm25s rather than rank-bm25: it is maintained (rank-bm25's last release is of 2022), needs numpy alone
and scores sparsely, so that a pool of 100,000 exemplars is quick. Nothing of it is stored: the words
are counted again from the pack's exemplars, so no index of a third party's format is ever read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from icl_align.errors import UserError

K1, B = 1.5, 0.75
"""Robertson & Zaragoza's usual saturation and length normalisation (2009, section 3.4)."""
FINGERPRINT = f"bm25:1:lucene:k1={K1}:b={B}"
_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """The words of a text, case folded; every script, no stemming and no stop words."""
    return _WORD.findall(text.casefold())


class WordIndex:
    """Scores a pool's texts against a query by BM25, in Lucene's form (never negative)."""

    def __init__(self, texts: Sequence[str]) -> None:
        """Counts the words of the pool.

        Raises:
            UserError: bm25s is not installed.
        """
        try:
            import bm25s
        except ImportError as error:
            raise UserError(
                "choosing exemplars by bm25 needs bm25s; pip install 'icl-align[bm25]', or choose "
                "by nearest"
            ) from error
        self._size = len(texts)
        corpus = [words(text) for text in texts]
        self._known = {word for entry in corpus for word in entry}
        self._model = bm25s.BM25(k1=K1, b=B, method="lucene")
        if self._known:
            self._model.index(corpus, show_progress=False)

    def nearness(self, text: str) -> NDArray[np.float64]:
        """Scores of the pool's texts, float64 (n,)."""
        asked = [word for word in words(text) if word in self._known]
        if not asked:
            return np.zeros(self._size)
        return np.asarray(self._model.get_scores(asked), dtype=np.float64)
