"""What exemplars are about, as numbers: embeddings of their texts, for a search's surrogate."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from icl_align.errors import UserError
from icl_align.scorers.embedding import EmbeddingScorer
from icl_align.types import Example

WITHOUT = "none"
"""In place of a model: no embeddings, no two exemplars are alike."""


@lru_cache(maxsize=2)
def _encoder(model: str | None) -> EmbeddingScorer:
    """Gives the encoder of a model, which remembers what it has embedded."""
    return EmbeddingScorer(model)


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
    try:
        known = _encoder(model).embed(texts)
    except UserError as error:
        raise UserError(
            f'{error}; or search without the meaning of exemplars: embedder = "{WITHOUT}"'
        ) from error
    return np.stack([known[text] for text in texts]).astype(np.float64)
