"""Functions drawn from the surrogate before any trial, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from icl_align.search.choices import Choice
from icl_align.search.surrogate.features import Design, Floats, Model
from icl_align.search.surrogate.tables import Tables


@dataclass(frozen=True)
class Prior:
    """A function drawn from the prior, and what its tables were made of.

    Attributes:
        tables: The function.
        pair: Effect of two exemplars together that their meaning does not tell, symmetric float64
            (pool, pool).
        form: Symmetric form on the exemplars' meaning, float64 (rank, rank): the rest of that effect.
        likes: Effect of exemplars that are alike.
    """

    tables: Tables
    pair: Floats
    form: Floats
    likes: float

    def at(self, design: Design, x: dict[str, Floats], even: Floats) -> Floats:
        """Gives the function's values at rows, what is a prompt's own left out; float64 (n,).

        Args:
            design: The rows.
            x: Their features (`Model.rows`).
            even: Their meaning, each exemplar counted alike, float64 (n, rank).
        """
        tables, d = self.tables, design
        out = tables.constant + tables.system[d.system] + tables.format[d.format]
        out = out + tables.count[d.count] + tables.decoding[d.decoding]
        out += (x["who"] * (tables.unary + tables.cross[d.system])).sum(1)
        out += x["where"] @ tables.order + x["last"] @ tables.last
        norm = tables.model.norm[d.count] ** 2
        out += ((x["flat"] @ self.pair) * x["flat"]).sum(1) / 2 * norm
        out += ((even @ self.form) * even).sum(1)
        return out + self.likes * x["alike"][:, 0]


def draw_prior(
    model: Model,
    variances: Mapping[str, float],
    known: Sequence[Choice],
    rng: np.random.Generator,
) -> Prior:
    """Draws a function from the prior.

    Args:
        model: The space's kernels.
        variances: One per part, and "constant".
        known: The prompts that get an effect of their own.
        rng: What is drawn from; the order of the draws decides the function.
    """
    pool, normal = model.pool, rng.standard_normal
    meaning = pool.meaning
    size, rank = meaning.shape
    std = {name: value**0.5 for name, value in variances.items()}
    single = std["single"] * normal(size)
    meant = std["meaning"] * normal(rank)
    unary = single + meaning @ meant
    order = std["order"] * 6**0.5 * normal(size)
    last = std["last"] / 2**0.5 * (normal(size) + meaning @ normal(rank))
    upper = np.triu(normal((size, size)), 1)
    pair = std["pair"] * 2**0.5 * (upper + upper.T)
    form = std["pair_meaning"] * normal((rank, rank))
    form = (form + form.T) / 2
    likes = float(std["alike"] * normal())
    cross = (
        std["cross"]
        / 2**0.5
        * (normal((pool.systems, size)) + normal((pool.systems, rank)) @ meaning.T)
    )
    quad = meaning @ form @ meaning.T
    both = pair + 2 * quad
    np.fill_diagonal(both, 0)
    tables = Tables(
        model,
        std["constant"] * float(normal()),
        unary,
        order,
        np.diag(quad).copy(),
        both + likes * pool.likeness,
        last,
        std["system"] * normal(pool.systems),
        std["format"] * normal(pool.formats),
        std["count"] * _correlated(model.count_kernel, rng),
        std["decoding"] * _correlated(model.decoding_kernel, rng),
        cross,
        dict(zip(known, std["own"] * normal(len(known)), strict=True)),
    )
    return Prior(tables, pair, form, likes)


def _correlated(kernel: Floats, rng: np.random.Generator) -> Floats:
    values, vectors = np.linalg.eigh(kernel)
    return np.asarray(vectors @ (np.sqrt(np.maximum(values, 0)) * rng.standard_normal(len(kernel))))
