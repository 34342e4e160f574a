"""The surrogate as trials come in: when it is fitted again, and what running trials count as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from icl_align.search.blocks import Blocks
from icl_align.search.proposing import Row
from icl_align.search.surrogate import START, Model, Posterior, fit_variances
from icl_align.search.surrogate.features import Floats

_FIT_FROM = 8
_REMEMBERED = 4
_GUIDING, _CALIBRATED = 0.3, 1.0
"""How free the fit is to change how much prompts differ, as a standard deviation of the logarithm."""


@dataclass
class Refit:
    """Gives posteriors of one space, and remembers the last fits.

    Attributes:
        model: The space's kernels.
        blocks: The blocks of examples; None where prompts are measured on all at once.
        seed: Of the choice of trials that are fitted on.
        first: Told trials at which the variances are fitted first.
        most: Most trials that they are fitted on.
    """

    model: Model
    blocks: Blocks | None
    seed: int
    first: int
    most: int
    _fits: dict[tuple[float, ...], dict[str, float]] = field(default_factory=dict, init=False)

    def posterior(
        self, told: Sequence[Row], pending: Sequence[Row], *, calibrated: bool = False
    ) -> Posterior:
        """Gives the surrogate; running trials enter at their expected value.

        Calibrated, it is free to find that prompts hardly differ: for what is reported. A search that
        comes to believe so too early stops looking.
        """
        variances, centre, scale = self._variances(told, _CALIBRATED if calibrated else _GUIDING)

        def given(rows: Sequence[Row], values: Floats, weights: Floats) -> Posterior:
            return Posterior(
                self.model,
                [row.choice for row in rows],
                [-1 if row.block is None else row.block for row in rows],
                values,
                weights,
                variances,
                centre,
                scale,
                total_blocks=0 if self.blocks is None else len(self.blocks),
            )

        values = np.array([row.value for row in told], dtype=np.float64)
        weights = np.array([max(row.n, 1) for row in told], dtype=np.float64)
        posterior = given(told, values, weights)
        if not pending:
            return posterior
        mean = posterior.mean()
        sizes = self.blocks.sizes if self.blocks is not None else (1,)
        guessed = np.array([mean.value(row.choice) for row in pending])
        coming = np.array([float(sizes[row.block or 0]) for row in pending])
        return given([*told, *pending], np.append(values, guessed), np.append(weights, coming))

    def _variances(
        self, told: Sequence[Row], common: float
    ) -> tuple[dict[str, float], float, float]:
        """Gives the variances fitted when trials last had grown by a quarter, and centre and scale.

        They depend on the first so many trials alone, so a continued run fits the same.
        """
        count = min(self.first, len(told))
        while int(np.ceil(count * 1.25)) <= len(told):
            count = int(np.ceil(count * 1.25))
        rows = sorted(told, key=lambda row: row.number)[:count]
        values = np.array([row.value for row in rows], dtype=np.float64)
        centre, scale = float(values.mean()), float(max(values.std(), 1e-3))
        key = (common, len(rows), *(row.number for row in rows), hash(values.tobytes()))
        if key not in self._fits:
            some = rows
            if count > self.most:
                rng = np.random.default_rng([self.seed, count])
                picked = np.sort(rng.choice(count, self.most, replace=False))
                some = [rows[i] for i in picked]
            if len(self._fits) >= _REMEMBERED:
                self._fits.clear()
            self._fits[key] = START
            if count >= _FIT_FROM:
                self._fits[key], _ = fit_variances(
                    self.model,
                    [row.choice for row in some],
                    [-1 if row.block is None else row.block for row in some],
                    (np.array([row.value for row in some]) - centre) / scale,
                    np.array([max(row.n, 1) for row in some], dtype=np.float64),
                    common=common,
                )
        return self._fits[key], centre, scale
