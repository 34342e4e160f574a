"""A pack whose exemplars are a pool, and the choice of K of them for each query."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from icl_align.data import normalise
from icl_align.errors import UserError
from icl_align.pack import Pack
from icl_align.prompt import Prompt
from icl_align.retrieval.ranking import marginal, nearest
from icl_align.retrieval.words import FINGERPRINT, WordIndex
from icl_align.types import Example

Method = Literal["nearest", "mmr", "bm25"]
METHODS: tuple[Method, ...] = get_args(Method)
"""By meaning; by meaning, but unlike one another; by words."""


class Embedder(Protocol):
    """Gives unit embeddings of texts; `icl_align.scorers.embedding.EmbeddingScorer` is one."""

    @property
    def fingerprint(self) -> str:
        """The model's digest, and what else changes an embedding."""

    def embed(self, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Gives unit embeddings by text, each float32 (dim,)."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a query's exemplars are chosen.

    Attributes:
        method: One of `METHODS`.
        k: How many, >= 1.
        trade: For "mmr": the weight of being near against being unlike, in [0, 1].
        nearest_last: Whether the nearest one stands right before the query, as in the retrieval
            baseline of URIAL's paper (2312.01552); else it comes first.
    """

    method: Method = "nearest"
    k: int = 3
    trade: float = 0.5
    nearest_last: bool = True

    def __post_init__(self) -> None:
        """Refuses values out of range.

        Raises:
            UserError: naming the field and what was given.
        """
        if self.method not in METHODS:
            raise UserError(f"exemplars are chosen by {', '.join(METHODS)}, not by {self.method!r}")
        if type(self.k) is not int or self.k < 1:
            raise UserError(f"k of a retrieval pack must be a whole number >= 1, got {self.k!r}")
        if not 0 <= self.trade <= 1:
            raise UserError(f"trade of a retrieval pack must be in [0, 1], got {self.trade}")


@dataclass(frozen=True, eq=False)
class RetrievalPack:
    """Renders each query with its own exemplars. Make one with `build`, or `load` it.

    Attributes:
        pack: An ordinary pack; its exemplars are the pool.
        recipe: How they are chosen.
        vectors: Unit embeddings of the pool's queries, float32 (n, dim); (n, 0) for "bm25".
        fingerprint: Of what measures nearness.
        embedder: Embeds queries; not used by "bm25".
    """

    pack: Pack
    recipe: Recipe
    vectors: NDArray[np.float32]
    fingerprint: str
    embedder: Embedder

    def __post_init__(self) -> None:
        """Refuses an index that is not one of this pool.

        Raises:
            UserError: the numbers of rows and exemplars differ, or k is larger than the pool.
        """
        pool = self.pack.prompt.exemplars
        if self.vectors.ndim != 2 or len(self.vectors) != len(pool):  # noqa: PLR2004 (a table)
            raise UserError(
                f"the index has the shape {self.vectors.shape}, the pack {len(pool)} exemplars; "
                "make it anew with icl-align index"
            )
        distinct = len(set(self._names))
        if self.recipe.k > distinct:
            raise UserError(
                f"k may be up to {distinct}, the pool's distinct queries, got {self.recipe.k}"
            )

    @property
    def prompt(self) -> Prompt:
        """The prompt without exemplars: its stop strings, decoding and `parse` are every query's."""
        return replace(self.pack.prompt, exemplars=(), layouts=())

    @cached_property
    def digest(self) -> str:
        """The sha256 (hex) of pool, recipe and index: of all that changes the text sent."""
        settings = {**asdict(self.recipe), "trade": float(self.recipe.trade)}
        head = json.dumps([self.pack.prompt.digest, settings, self.fingerprint], sort_keys=True)
        return hashlib.sha256(head.encode() + self.vectors.tobytes()).hexdigest()

    def render(self, query: str | Example) -> str:
        """Gives the exact text sent for a query; an `Example` brings its earlier turns."""
        return self.prompts([query])[0].render(query)

    def prompts(self, queries: Sequence[str | Example]) -> list[Prompt]:
        """Gives each query's own prompt, in order."""
        pool, whole = self.pack.prompt.exemplars, self.prompt
        return [
            replace(whole, exemplars=tuple(pool[index] for index in chosen))
            for chosen in self.choose(queries)
        ]

    def choose(self, queries: Sequence[str | Example]) -> list[list[int]]:
        """Gives each query's exemplars as indices into the pool, in the order they are shown.

        An exemplar that asks what the conversation asks, white space, case and marks of speech apart,
        is never chosen, nor are two that ask the same. So there may be one fewer than k.
        """
        items = [Example(query) if isinstance(query, str) else query for query in queries]
        rows = self._nearness([_key(item) for item in items])
        return [self._choice(item, row) for item, row in zip(items, rows, strict=True)]

    def _choice(self, item: Example, nearness: NDArray[np.float64]) -> list[int]:
        asked = {normalise(text) for text in (item.query, *(turn.query for turn in item.turns))}
        open_ = self._first & np.array([name not in asked for name in self._names], dtype=bool)
        k, recipe = self.recipe.k, self.recipe
        if recipe.method == "mmr":
            found = marginal(nearness, self.vectors, open_, k, recipe.trade)
        else:
            found = nearest(nearness, open_, k)
        return found[::-1] if recipe.nearest_last else found

    def _nearness(self, texts: Sequence[str]) -> list[NDArray[np.float64]]:
        """Rows of the pool's nearness to texts, each float64 (n,).

        Raises:
            UserError: the embedder is not the one that the index was made with.
        """
        if self.recipe.method == "bm25":
            return [self._word_index.nearness(text) for text in texts]
        if self.embedder.fingerprint != self.fingerprint:
            raise UserError(
                f"the index was made with the embedder {self.fingerprint}, this one is "
                f"{self.embedder.fingerprint}; make it anew with icl-align index, or name its "
                "embedder"
            )
        known = self.embedder.embed(texts)
        return [(self.vectors @ known[text]).astype(np.float64) for text in texts]

    @cached_property
    def _word_index(self) -> WordIndex:
        return WordIndex([_key(exemplar) for exemplar in self.pack.prompt.exemplars])

    @cached_property
    def _names(self) -> list[str]:
        return [normalise(exemplar.query) for exemplar in self.pack.prompt.exemplars]

    @cached_property
    def _first(self) -> NDArray[np.bool_]:
        """Which exemplars are the first of those that ask the same, bool (n,)."""
        firsts = {name: index for index, name in reversed(list(enumerate(self._names)))}
        return np.array([firsts[n] == i for i, n in enumerate(self._names)], dtype=bool)


def build(pack: Pack, recipe: Recipe, embedder: Embedder) -> RetrievalPack:
    """Makes a retrieval pack of a pack whose exemplars are the pool.

    White space that was irregular around single exemplars (`Prompt.layouts`) is made regular: an
    exemplar may stand anywhere.

    Raises:
        UserError: the pool is smaller than k, or the embedding model or bm25s cannot be had.
    """
    whole = replace(pack, prompt=pack.prompt.with_format(pack.prompt.format))
    keys = [_key(exemplar) for exemplar in whole.prompt.exemplars]
    if recipe.method == "bm25":
        WordIndex(keys)  # fails here, not at the first query, where bm25s is missing
        return RetrievalPack(
            whole, recipe, np.zeros((len(keys), 0), np.float32), FINGERPRINT, embedder
        )
    known = embedder.embed(keys)
    rows = [known[key] for key in keys]
    vectors = np.stack(rows) if rows else np.zeros((0, 0), np.float32)
    return RetrievalPack(whole, recipe, vectors, embedder.fingerprint, embedder)


def _key(example: Example) -> str:
    """The text that stands for an example: its query, then those of earlier turns, newest first."""
    return "\n".join([example.query, *(turn.query for turn in reversed(example.turns))])
