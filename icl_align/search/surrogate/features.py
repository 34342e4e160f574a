"""What a prompt is to the surrogate: its features, and one kernel per part over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from icl_align.search.choices import Choice
from icl_align.space import Space

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PARTS = (
    "single",
    "meaning",
    "order",
    "last",
    "pair",
    "pair_meaning",
    "alike",
    "system",
    "cross",
    "format",
    "count",
    "decoding",
    "own",
)
"""The parts of a prompt's value; blocks, the constant and the noise are not the prompt's."""
_RANK = 48
_ALIKE_FROM = 2
"""Exemplars below which there is nothing to be alike."""


@dataclass(frozen=True)
class Pool:
    """What the surrogate knows about a space beforehand.

    Attributes:
        meaning: Features of the exemplars, float64 (pool, rank): a centred Gaussian kernel on their
            embeddings, cut to its leading directions; rows have unit mean square length.
        likeness: Cosines of exemplars, float64 (pool, pool), with a zero diagonal.
        systems, formats, k_max: Sizes of the space.
        grid: Coordinates of the decoding grid, float64 (temperatures * penalties, 2).
        penalties: How many repetition penalties there are.
    """

    meaning: Floats
    likeness: Floats
    systems: int
    formats: int
    k_max: int
    grid: Floats
    penalties: int

    @property
    def size(self) -> int:
        """How many exemplars there are."""
        return len(self.meaning)


def features_of(embeddings: Floats, rank: int = _RANK) -> tuple[Floats, Floats]:
    """Gives an exemplar's features and the exemplars' likeness from their unit embeddings."""
    cosine = np.clip(embeddings @ embeddings.T, -1, 1)
    squared = np.maximum(2 - 2 * cosine, 0)
    scale = float(np.median(squared[~np.eye(len(cosine), dtype=bool)])) if len(cosine) > 1 else 1.0
    gram = np.exp(-squared / (2 * max(scale, 1e-9)))
    centre = np.eye(len(gram)) - 1 / len(gram)
    values, vectors = np.linalg.eigh(centre @ gram @ centre)
    top = np.argsort(-values)[:rank]
    features = vectors[:, top] * np.sqrt(np.maximum(values[top], 0))
    signs = np.where(features.sum(0) < 0, -1.0, 1.0)
    size = float((features**2).sum(1).mean()) ** 0.5
    likeness = cosine - np.eye(len(cosine))
    return features * signs / max(size, 1e-9), np.where(
        np.eye(len(cosine), dtype=bool), 0, likeness
    )


def pool_of(space: Space, embeddings: Floats | None) -> Pool:
    """Gives what the surrogate knows about a space; without embeddings no exemplars are alike."""
    size = len(space.pool)
    if embeddings is None or size < _ALIKE_FROM:
        meaning, likeness = np.zeros((size, 1)), np.zeros((size, size))
    else:
        meaning, likeness = features_of(embeddings)
    scales = [_unit(space.temperatures), _unit(space.repetition_penalties)]
    grid = np.array([[t, p] for t in scales[0] for p in scales[1]])
    return Pool(
        meaning,
        likeness,
        len(space.systems),
        len(space.formats),
        space.k_max,
        grid,
        len(space.repetition_penalties),
    )


def _unit(values: Sequence[float]) -> Floats:
    """Scales values to [0, 1]."""
    data = np.asarray(values, dtype=np.float64)
    width = float(np.ptp(data))
    return (data - data.min()) / width if width > 0 else data * 0


@dataclass
class Design:
    """Prompts as matrices, one row each."""

    ids: Ints  # (n, k_max), -1 beyond K
    count: Ints
    system: Ints
    format: Ints
    decoding: Ints

    @classmethod
    def of(cls, choices: Sequence[Choice], pool: Pool) -> Design:
        """Lays out choices."""
        ids = np.full((len(choices), max(pool.k_max, 1)), -1, dtype=np.int64)
        for row, choice in enumerate(choices):
            ids[row, : len(choice.exemplars)] = choice.exemplars
        return cls(
            ids,
            np.array([len(c.exemplars) for c in choices], dtype=np.int64),
            np.array([c.system for c in choices], dtype=np.int64),
            np.array([c.format for c in choices], dtype=np.int64),
            np.array([c.temperature * pool.penalties + c.penalty for c in choices], dtype=np.int64),
        )


def positions(k: int) -> Floats:
    """Gives places in a prompt from -0.5 (first) to 0.5 (last)."""
    return np.linspace(-0.5, 0.5, k) if k > 1 else np.zeros(k)


class Model:
    """The features and kernels of a space."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        counts = np.arange(max(pool.k_max, 1) + 1, dtype=np.float64)
        self.norm = np.maximum(counts, 1) ** -0.5  # between the sum and the mean of K effects
        steps = counts[:, None] - counts[None, :]
        self.count_kernel = np.exp(-(steps**2) / (2 * 1.5**2))
        squared = ((pool.grid[:, None] - pool.grid[None]) ** 2).sum(-1)
        self.decoding_kernel = np.exp(-squared / (2 * 0.4**2))

    def rows(self, design: Design) -> dict[str, Floats]:
        """Gives the feature matrices of prompts."""
        n, size = len(design.ids), self.pool.size
        who, where = np.zeros((n, size)), np.zeros((n, size))
        flat = np.zeros((n, size))
        last = np.zeros((n, size))
        alike = np.zeros(n)
        for k in range(1, design.ids.shape[1] + 1):
            rows = np.flatnonzero(design.count == k)
            if not len(rows):
                continue
            ids = design.ids[rows, :k]
            who[rows[:, None], ids] = self.norm[k]
            flat[rows[:, None], ids] = 1.0
            where[rows[:, None], ids] = positions(k) * self.norm[k]
            last[rows, ids[:, -1]] = 1.0
            for a in range(k):
                for b in range(a):
                    alike[rows] += self.pool.likeness[ids[:, a], ids[:, b]]
        norm = self.norm[design.count][:, None]
        return {
            "who": who,
            "where": where,
            "flat": flat,
            "even": flat * norm,
            "last": last,
            "alike": alike[:, None] * norm**2,
        }

    def kernels(
        self, x: dict[str, Floats], dx: Design, own: Ints, blocks: Ints
    ) -> dict[str, Floats]:
        """Gives one kernel matrix per part over rows, all float64 (n, n)."""
        meant = x["who"] @ self.pool.meaning
        even = x["even"] @ self.pool.meaning
        lasting = np.hstack([x["last"], x["last"] @ self.pool.meaning]) / 2**0.5
        single, meaning = x["who"] @ x["who"].T, meant @ meant.T
        common = x["flat"] @ x["flat"].T
        norm = self.norm[dx.count] ** 2
        same_system = np.equal.outer(dx.system, dx.system).astype(float)
        same_block = (np.equal.outer(blocks, blocks) & (blocks >= 0)[:, None]).astype(float)
        return {
            "single": single,
            "meaning": meaning,
            "order": x["where"] @ x["where"].T * 6,
            "last": lasting @ lasting.T,
            "pair": common * (common - 1) / 2 * norm[:, None] * norm[None, :] * 2,
            "pair_meaning": (even @ even.T) ** 2,
            "alike": x["alike"] @ x["alike"].T,
            "system": same_system,
            "cross": same_system * (single + meaning) / 2,
            "format": np.equal.outer(dx.format, dx.format).astype(float),
            "count": self.count_kernel[np.ix_(dx.count, dx.count)],
            "decoding": self.decoding_kernel[np.ix_(dx.decoding, dx.decoding)],
            "own": np.equal.outer(own, own).astype(float),
            "block": same_block,
            "block_exemplar": same_block * (single + meaning) / 2,
            "constant": np.ones((len(own), len(own))),
        }
