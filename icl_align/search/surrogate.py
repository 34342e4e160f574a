"""A Gaussian process over prompts whose kernel knows how a prompt is made, and samples of it as tables.

All its parts are linear in finitely many features of a prompt (who is in it, where, with whom, under which
system text), so its posterior mean, and every function drawn from it, can be written as tables of effects.
A candidate then costs a few look-ups, however many trials there have been.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from icl_align.search.choices import Choice

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
START = {
    "single": 0.06,
    "meaning": 0.06,
    "order": 0.004,
    "last": 0.008,
    "pair": 0.01,
    "pair_meaning": 0.01,
    "alike": 0.01,
    "system": 0.04,
    "cross": 0.015,
    "format": 0.03,
    "count": 0.03,
    "decoding": 0.02,
    "own": 0.015,
    "block": 0.3,
    "block_exemplar": 0.03,
    "constant": 0.3,
    "noise": 2.5,
}
"""Prior medians of the variances, for values of unit variance; "noise" is that of one score."""
_FREE = ("block", "block_exemplar")
_COMMON = 0.3
_RANK = 48


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


@dataclass
class Tables:
    """A function over prompts: its effects, as a climb adds them up.

    Attributes:
        constant: What all prompts have.
        unary: Effect of an exemplar, float64 (pool,), times the norm of K.
        order: Slope of that effect from the first place to the last, float64 (pool,).
        square: Effect of an exemplar with itself, float64 (pool,), times the norm of K squared.
        pair: Effect of two exemplars together, symmetric float64 (pool, pool), times the norm squared.
        last: Effect of the last exemplar, float64 (pool,).
        system, format, count, decoding: Effects of these, each float64 (choices,).
        cross: Effect of an exemplar under a system text, float64 (systems, pool), as `unary`.
        own: What belongs to a single measured prompt.
    """

    model: Model
    constant: float
    unary: Floats
    order: Floats
    square: Floats
    pair: Floats
    last: Floats
    system: Floats
    format: Floats
    count: Floats
    decoding: Floats
    cross: Floats
    own: dict[Choice, float]

    @property
    def pool(self) -> Pool:
        """The features of the space."""
        return self.model.pool

    def values(self, design: Design) -> Floats:
        """Adds up the effects of prompts, all but `own`; float64 (n,)."""
        model = self.model
        out = self.constant + self.system[design.system] + self.format[design.format]
        out = out + self.count[design.count] + self.decoding[design.decoding]
        for k in range(1, design.ids.shape[1] + 1):
            rows = np.flatnonzero(design.count == k)
            if not len(rows):
                continue
            ids = design.ids[rows, :k]
            norm, z = model.norm[k], positions(k)
            unary = self.unary[ids] + self.cross[design.system[rows, None], ids]
            total = (unary + self.order[ids] * z).sum(1) * norm
            total += self.last[ids[:, -1]]
            quad = self.square[ids].sum(1)
            for a in range(k):
                for b in range(a):
                    quad += self.pair[ids[:, a], ids[:, b]]
            out[rows] += total + quad * norm**2
        return out

    def value(self, choice: Choice) -> float:
        """Gives the value of one prompt, its own effect included."""
        value = float(self.values(Design.of([choice], self.model.pool))[0])
        return value + self.own.get(choice, 0.0)


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
        model, v, x = self.model, self.variances, self.x
        pool = model.pool
        size, rank = pool.meaning.shape
        std = {name: value**0.5 for name, value in v.items()}
        normal = rng.standard_normal
        meaning = pool.meaning
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
        prior = Tables(
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
            dict(zip(self.known, std["own"] * normal(len(self.known)), strict=True)),
        )
        at_rows = self._prior_at_rows(prior, form, pair, likes)
        own = np.array([prior.own[choice] for choice in self.known])
        at_rows += own[self.own_ids]
        blocks = int(self.blocks.max(initial=-1)) + 1
        inside = self.blocks >= 0
        at_rows += inside * (std["block"] * normal(blocks + 1))[self.blocks]
        by_block = (
            std["block_exemplar"]
            / 2**0.5
            * (normal((blocks + 1, size)) + normal((blocks + 1, rank)) @ meaning.T)
        )
        at_rows += inside * (x["who"] * by_block[self.blocks]).sum(1)
        at_rows += np.sqrt(self.noise) * normal(len(self.y))
        return self._tables(self.solve(self.y - at_rows), prior)

    def _prior_at_rows(self, prior: Tables, form: Floats, pair: Floats, likes: float) -> Floats:
        x, d = self.x, self.design
        out = prior.constant + prior.system[d.system] + prior.format[d.format]
        out = out + prior.count[d.count] + prior.decoding[d.decoding]
        out += (x["who"] * (prior.unary + prior.cross[d.system])).sum(1)
        out += x["where"] @ prior.order + x["last"] @ prior.last
        norm = self.model.norm[d.count] ** 2
        out += ((x["flat"] @ pair) * x["flat"]).sum(1) / 2 * norm
        out += ((self.even @ form) * self.even).sum(1)
        return out + likes * x["alike"][:, 0]

    def _tables(self, v: Floats, prior: Tables | None) -> Tables:
        """Writes `prior(c) + k(c, rows) v` as tables, in the values' own units."""
        model, var, x, d = self.model, self.variances, self.x, self.design
        pool = model.pool
        meaning = pool.meaning
        unary = var["single"] * (x["who"].T @ v) + var["meaning"] * (meaning @ (self.meant.T @ v))
        order = var["order"] * 6 * (x["where"].T @ v)
        last = x["last"].T @ v
        last = var["last"] / 2 * (last + meaning @ (meaning.T @ last))
        norm = self.model.norm[d.count] ** 2
        pair = var["pair"] * 2 * ((x["flat"] * (v * norm)[:, None]).T @ x["flat"])
        form = var["pair_meaning"] * ((self.even * v[:, None]).T @ self.even)
        quad = meaning @ form @ meaning.T
        both = pair + 2 * quad
        np.fill_diagonal(both, 0)
        both += var["alike"] * float(x["alike"][:, 0] @ v) * pool.likeness
        shares = np.zeros((pool.systems, len(v)))
        shares[d.system, np.arange(len(v))] = v
        cross = var["cross"] / 2 * (shares @ x["who"] + (shares @ self.meant) @ meaning.T)
        own = np.zeros(len(self.known))
        np.add.at(own, self.own_ids, var["own"] * v)
        system = var["system"] * np.bincount(d.system, v, pool.systems)
        form_effect = var["format"] * np.bincount(d.format, v, pool.formats)
        count = var["count"] * model.count_kernel @ np.bincount(d.count, v, len(model.norm))
        decoding = (
            var["decoding"] * model.decoding_kernel @ np.bincount(d.decoding, v, len(pool.grid))
        )
        effects = {
            "unary": unary,
            "order": order,
            "square": np.diag(quad),
            "pair": both,
            "last": last,
            "system": system,
            "format": form_effect,
            "count": count,
            "decoding": decoding,
            "cross": cross,
        }
        constant = var["constant"] * float(v.sum())
        if prior is not None:
            effects = {name: effect + getattr(prior, name) for name, effect in effects.items()}
            constant += prior.constant
            own += np.array([prior.own[choice] for choice in self.known])
        return Tables(
            model=model,
            constant=constant * self.scale + self.centre,
            own=dict(zip(self.known, own * self.scale, strict=True)),
            **{name: effect * self.scale for name, effect in effects.items()},
        )


def _correlated(kernel: Floats, rng: np.random.Generator) -> Floats:
    values, vectors = np.linalg.eigh(kernel)
    return np.asarray(vectors @ (np.sqrt(np.maximum(values, 0)) * rng.standard_normal(len(kernel))))


def fit_variances(
    model: Model,
    choices: Sequence[Choice],
    blocks: Sequence[int],
    values: Floats,
    weights: Floats,
    *,
    steps: int = 20,
    common: float = _COMMON,
) -> tuple[dict[str, float], float]:
    """Fits the variances by maximum a posteriori, for values of unit variance.

    The parts keep their proportions and share one factor; the noise and the blocks have one each. Their
    logarithms have normal priors around those of `START`, of standard deviation `common` for the parts'
    factor and 1 for the others. A few hundred noisy trials say how much they scatter, hardly how much of
    it is due to prompts, and not why: with a variance for every part the search was worse (docs/search.md).

    Returns:
        The variances, and the log posterior density reached.
    """
    design = Design.of(choices, model.pool)
    index: dict[Choice, int] = {}
    own = np.array([index.setdefault(choice, len(index)) for choice in choices], dtype=np.int64)
    kernels = model.kernels(model.rows(design), design, own, np.array(blocks, dtype=np.int64))
    fixed = START["constant"] * kernels["constant"] + 1e-6 * np.eye(len(values))
    signal = np.zeros_like(fixed)
    for name in PARTS:
        signal += START[name] * kernels[name]
    stack = [signal, *(START[name] * kernels[name] for name in _FREE)]
    noise = START["noise"] / weights
    widths = np.array([common, *(1.0 for _ in _FREE), 1.0])

    def loss(theta: Floats) -> tuple[float, Floats]:
        factors = np.exp(theta)
        total = fixed.copy()
        for factor, kernel in zip(factors, stack, strict=False):
            total += factor * kernel
        total[np.diag_indices_from(total)] += factors[-1] * noise
        lower = cho_factor(total, lower=True, check_finite=False)
        alpha = cho_solve(lower, values, check_finite=False)
        log_det = 2 * np.log(np.diag(lower[0])).sum()
        inverse = cho_solve(lower, np.eye(len(values)), check_finite=False)
        inner = np.outer(alpha, alpha) - inverse
        slopes = [float(np.vdot(inner, kernel)) for kernel in stack]
        slopes.append(float(np.diag(inner) @ noise))
        value = 0.5 * (values @ alpha + log_det) + 0.5 * float(((theta / widths) ** 2).sum())
        return float(value), -0.5 * factors * np.array(slopes) + theta / widths**2

    start = np.zeros(len(widths))
    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", options={"maxiter": steps}, bounds=[(-5, 5)] * 4
    )
    factors = np.exp(found.x)
    fitted = {name: START[name] * float(factors[0]) for name in PARTS}
    fitted |= {
        name: START[name] * float(factor) for name, factor in zip(_FREE, factors[1:], strict=False)
    }
    fitted |= {"noise": START["noise"] * float(factors[-1]), "constant": START["constant"]}
    return fitted, -float(found.fun)
