"""What the trials say: the surrogate given rows, its mean, and draws of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular

from icl_align.search.choices import Choice
from icl_align.search.surrogate.features import PARTS, Design, Floats, Model
from icl_align.search.surrogate.prior import draw_prior
from icl_align.search.surrogate.tables import Tables


class Posterior:
    """The surrogate given rows."""

    def __init__(
        self,
        model: Model,
        choices: Sequence[Choice],
        blocks: Sequence[int],
        values: Floats,
        weights: Floats,
        variances: dict[str, float],
        centre: float,
        scale: float,
        *,
        total_blocks: int = 0,
    ) -> None:
        """Solves for the rows.

        Args:
            model: The space's kernels.
            choices: The prompt of each row.
            blocks: The block of each row, -1 for all examples.
            values: Mean scores, float64 (n,).
            weights: Scores that each mean is over, float64 (n,).
            variances: One per part, nuisance and "noise", for values of unit variance.
            centre: What is subtracted from values.
            scale: What they are then divided by.
            total_blocks: How many blocks there are in all, for `moments`.
        """
        self.total_blocks = total_blocks
        self.model, self.choices, self.variances = model, list(choices), variances
        self.centre, self.scale = centre, scale
        self.known = list(dict.fromkeys(choices))
        index = {choice: i for i, choice in enumerate(self.known)}
        self.own_ids = np.array([index[choice] for choice in choices], dtype=np.int64)
        self.blocks = np.array(blocks, dtype=np.int64)
        self.design = Design.of(choices, model.pool)
        self.x = model.rows(self.design)
        self.meant = self.x["who"] @ model.pool.meaning
        self.even = self.x["even"] @ model.pool.meaning
        kernels = model.kernels(self.x, self.design, self.own_ids, self.blocks)
        self.noise = variances["noise"] / weights
        total: Floats = np.zeros_like(kernels["constant"])
        for name, kernel in kernels.items():
            total += variances[name] * kernel
        total = total + np.diag(self.noise + 1e-8)
        self.factor = cholesky(total, lower=True, check_finite=False)
        self.y = (values - centre) / scale
        self.plain = (kernels["single"] + kernels["meaning"]) / 2
        self.signal: Floats = np.zeros_like(total)
        for name in PARTS:
            self.signal += variances[name] * kernels[name]

    def solve(self, residual: Floats) -> Floats:
        """Applies the inverse of the rows' covariance."""
        return np.asarray(cho_solve((self.factor, True), residual, check_finite=False))

    def mean(self) -> Tables:
        """Gives the posterior mean."""
        return self._tables(self.solve(self.y), None)

    def moments(self) -> tuple[Floats, Floats]:
        """Gives posterior means and sds of the measured prompts' means over all blocks.

        Each is float64 (known,), in the order of `known`. What the blocks add on average belongs to such a
        mean; with no number of blocks given it is left out.
        """
        first = np.unique(self.own_ids, return_index=True)[1]
        cross = self.signal[first] + self.variances["constant"]
        prior = self.signal[first, first] + self.variances["constant"]
        if self.total_blocks:
            v, share = self.variances, 1 / self.total_blocks
            own = self.plain[first, first]
            shared = v["block"] + v["block_exemplar"] * self.plain[first]
            cross = cross + share * shared * (self.blocks >= 0)
            prior = prior + share * (v["block"] + v["block_exemplar"] * own)
        mean = cross @ self.solve(self.y)
        half = solve_triangular(self.factor, cross.T, lower=True, check_finite=False)
        sd = np.sqrt(np.maximum(prior - (half**2).sum(0), 1e-12))
        return mean * self.scale + self.centre, sd * self.scale

    def draw(self, rng: np.random.Generator) -> Tables:
        """Draws a function from the posterior (Matheron's rule: prior draw plus correction)."""
        prior = draw_prior(self.model, self.variances, self.known, rng)
        at_rows = prior.at(self.design, self.x, self.even)
        own = np.array([prior.tables.own[choice] for choice in self.known])
        at_rows += own[self.own_ids]
        for effect in self._nuisances(rng):
            at_rows += effect
        return self._tables(self.solve(self.y - at_rows), prior.tables)

    def _nuisances(self, rng: np.random.Generator) -> Iterator[Floats]:
        """Draws from the prior what a row has besides its prompt's value, each float64 (n,).

        These are the difficulty of its block, what the exemplars do on that block, and the noise.
        """
        normal, meaning = rng.standard_normal, self.model.pool.meaning
        std = {name: value**0.5 for name, value in self.variances.items()}
        size, rank = meaning.shape
        blocks = int(self.blocks.max(initial=-1)) + 1
        inside = self.blocks >= 0
        yield inside * (std["block"] * normal(blocks + 1))[self.blocks]
        by_block = (
            std["block_exemplar"]
            / 2**0.5
            * (normal((blocks + 1, size)) + normal((blocks + 1, rank)) @ meaning.T)
        )
        yield inside * (self.x["who"] * by_block[self.blocks]).sum(1)
        yield np.sqrt(self.noise) * normal(len(self.y))

    def _tables(self, v: Floats, prior: Tables | None) -> Tables:
        """Writes `prior(c) + k(c, rows) v` as tables, in the values' own units."""
        effects = self._effects_of_exemplars(v) | self._effects_of_the_rest(v)
        constant = self.variances["constant"] * float(v.sum())
        own = np.zeros(len(self.known))
        np.add.at(own, self.own_ids, self.variances["own"] * v)
        if prior is not None:
            effects = {name: effect + getattr(prior, name) for name, effect in effects.items()}
            constant += prior.constant
            own += np.array([prior.own[choice] for choice in self.known])
        return Tables(
            model=self.model,
            constant=constant * self.scale + self.centre,
            own=dict(zip(self.known, own * self.scale, strict=True)),
            **{name: effect * self.scale for name, effect in effects.items()},
        )

    def _effects_of_exemplars(self, v: Floats) -> dict[str, Floats]:
        """Gives the tables over exemplars of `k(c, rows) v`, by their names in `Tables`."""
        var, x, d, pool = self.variances, self.x, self.design, self.model.pool
        meaning = pool.meaning
        unary = var["single"] * (x["who"].T @ v) + var["meaning"] * (meaning @ (self.meant.T @ v))
        last = x["last"].T @ v
        norm = self.model.norm[d.count] ** 2
        pair = var["pair"] * 2 * ((x["flat"] * (v * norm)[:, None]).T @ x["flat"])
        form = var["pair_meaning"] * ((self.even * v[:, None]).T @ self.even)
        quad = meaning @ form @ meaning.T
        both = pair + 2 * quad
        np.fill_diagonal(both, 0)
        both += var["alike"] * float(x["alike"][:, 0] @ v) * pool.likeness
        shares = np.zeros((pool.systems, len(v)))
        shares[d.system, np.arange(len(v))] = v
        return {
            "unary": unary,
            "order": var["order"] * 6 * (x["where"].T @ v),
            "square": np.diag(quad),
            "pair": both,
            "last": var["last"] / 2 * (last + meaning @ (meaning.T @ last)),
            "cross": var["cross"] / 2 * (shares @ x["who"] + (shares @ self.meant) @ meaning.T),
        }

    def _effects_of_the_rest(self, v: Floats) -> dict[str, Floats]:
        """Gives the tables over system texts, formats, K and decoding of `k(c, rows) v`."""
        model, var, d = self.model, self.variances, self.design
        pool = model.pool
        count = np.bincount(d.count, v, len(model.norm))
        decoding = np.bincount(d.decoding, v, len(pool.grid))
        return {
            "system": var["system"] * np.bincount(d.system, v, pool.systems),
            "format": var["format"] * np.bincount(d.format, v, pool.formats),
            "count": var["count"] * model.count_kernel @ count,
            "decoding": var["decoding"] * model.decoding_kernel @ decoding,
        }
