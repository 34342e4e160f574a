"""What exemplars are about, as numbers: embeddings of their texts, for a search's surrogate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from icl_align.scorers.embedding import EmbeddingScorer
from icl_align.types import Example


def embed_exemplars(pool: Sequence[Example], model: str | None = None) -> NDArray[np.float64]:
    """Embeds each exemplar's query and answer together.

    Args:
        pool: Exemplars.
        model: A sentence-transformers folder or Hub id; None as in `EmbeddingScorer`.

    Returns:
        Unit rows, float64 (len(pool), dim).

    Raises:
        UserError: the model cannot be had.
    """
    texts = [f"{item.query}\n{item.answer or ''}" for item in pool]
    known = EmbeddingScorer(model).embed(texts)
    return np.stack([known[text] for text in texts]).astype(np.float64)
