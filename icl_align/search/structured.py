"""Our sampler: Thompson sampling on a structured surrogate, one block of examples at a time.

A trial measures one prompt on one block. The surrogate (`icl_align.search.surrogate`) is refitted as
trials come in; a function is drawn from its posterior, and climbed by single edits from the leaders.
A share of the trials measures leaders on further blocks, and the last part of the budget goes to the
short list alone, until it is measured on every example.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from icl_align.prompt import rough_tokens
from icl_align.search.blocks import Blocks
from icl_align.search.choices import Choice
from icl_align.search.climb import Blend, Hill, Moves, climb
from icl_align.search.dealing import block_for, blocks_used, deal, unused
from icl_align.search.goal import Goal
from icl_align.search.proposing import Estimate, ProposingSampler, Row
from icl_align.search.refit import Refit
from icl_align.search.surrogate import Model, Posterior, Tables, pool_of
from icl_align.space import Space

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    """How the sampler goes about it; the defaults are what docs/search.md measured.

    Attributes:
        block: Wanted examples per block.
        deck: Trials before the surrogate is asked, their exemplars dealt from a shuffled deck.
        retest: Share of the trials that measure a leader on a further block.
        leaders: Prompts from which a climb starts.
        steps: Most single edits from a leader.
        reuse: Trials for which a block is used before a new one is opened: a block's difficulty is learnt
            only when many prompts meet on it.
        trials: Most trials; with a larger budget the blocks are larger.
        finalists: Prompts on the short list.
        finish: Share of the budget kept for the short list; more where that would not pay for
            measuring one prompt on everything, but never above a third.
        fit_rows: Most trials that the variances are fitted on.
    """

    block: int = 4
    deck: int = 24
    retest: float = 0.2
    leaders: int = 8
    steps: int = 2
    reuse: int = 24
    trials: int = 600
    finalists: int = 6
    finish: float = 0.15
    fit_rows: int = 350


_FEW = 2
"""Told trials below which there is nothing to fit."""
_LEADER, _NEXT = 0.5, 30
_MOST_FINISH = 1 / 3
_TOLLED = 0.5
_TOLLS = (-1.0, 2.0)
"""Where the natural logarithm of a length's price is drawn: in spreads of the values, for the longest
prompt."""


class StructuredSampler(ProposingSampler):
    """Proposes ordered exemplar subsets jointly with system text, K, format and decoding.

    It needs nothing but the study: per-example scores where `icl_align.search.sweep` has recorded them,
    else a trial's value as the mean over its block.
    """

    def __init__(
        self,
        space: Space,
        *,
        ids: Sequence[str] | None = None,
        seed: int = 0,
        embeddings: Floats | None = None,
        generations: int | None = None,
        settings: Settings | None = None,
        goal: Goal | None = None,
    ) -> None:
        """Prepares the surrogate's features.

        Args:
            space: What may vary.
            ids: Ids of the development examples, to measure prompts block by block; None to measure a
                prompt once, on whatever the caller's objective takes.
            seed: Seed of everything it draws, and of the blocks.
            embeddings: Unit embeddings of the pool's exemplars, float64 (pool, dim); None to go without.
            generations: Prompts on examples that may be measured, as far as that is known; the block
                and the deck are cut to it.
            settings: How to go about it.
            goal: What is wanted besides quality.
        """
        self.settings = settings or Settings()
        size = self.settings.block
        if generations is not None and ids:
            size = max(size, -(-generations // self.settings.trials))
            size = max(1, min(size, generations // (2 * self.settings.deck)))
        blocks = Blocks.cut(ids, size, seed) if ids else None
        super().__init__(space, blocks=blocks, seed=seed)
        self._generations = generations
        self._finish = self.settings.finish
        if blocks is not None and generations is not None:
            self._finish = min(max(self._finish, blocks.total / generations), _MOST_FINISH)
        self.goal = goal or Goal()
        self.model = Model(pool_of(space, embeddings))
        self._lengths = np.array(
            [rough_tokens(f"{item.query}{item.answer}") for item in space.pool], dtype=np.float64
        )
        self._system_lengths = np.array(
            [rough_tokens(text) for text in space.systems], dtype=np.float64
        )
        self._moves = Moves(
            space.k_min,
            space.k_max,
            len(space.temperatures),
            len(space.repetition_penalties),
            np.arange(len(space.pool)),
        )
        self._refit = Refit(
            self.model, blocks, seed, first=self.settings.deck, most=self.settings.fit_rows
        )

    @property
    def _block_count(self) -> int:
        return 1 if self.blocks is None else len(self.blocks)

    def propose(
        self, history: Sequence[Row], rng: np.random.Generator
    ) -> tuple[Choice, int | None]:
        """Gives the next prompt and its block; see the module."""
        used = blocks_used(history)
        told = [row for row in history if row.value is not None]
        if len(told) < _FEW or len(history) < self.settings.deck:
            choice = deal(self.choices, len(history), used, self._block_count, self.seed)
        else:
            choice = self._think(history, told, used, rng)
        if self.blocks is None:
            return choice, None
        seen = used.get(choice, ())
        return choice, block_for(seen, history, len(self.blocks), self.settings.reuse)

    def recommend(self, history: Sequence[Row]) -> list[Estimate]:
        """Gives the measured prompts by their posterior means, those that keep the constraint first.

        Prompts measured on all examples stand before the others as long as they are believed to be within
        one standard deviation of the best.
        """
        told = [row for row in history if row.value is not None]
        if len(told) < _FEW:
            return super().recommend(history)
        posterior = self._refit.posterior(told, [], calibrated=True)
        means, sds = posterior.moments()
        counts: dict[Choice, int] = {}
        for row in told:
            counts[row.choice] = counts.get(row.choice, 0) + row.n
        short = self._shortfalls(told)
        found = [
            Estimate(choice, float(mean), float(sd), counts[choice], short.get(choice, 0.0) <= 0)
            for choice, mean, sd in zip(posterior.known, means, sds, strict=True)
        ]
        lead = max(found, key=lambda item: (item.allowed, item.mean))
        near = lead.mean - (lead.sd or 0.0)
        whole = {
            choice for choice, seen in blocks_used(told).items() if len(seen) == self._block_count
        }

        def key(item: Estimate) -> tuple[float, bool, float, Choice]:
            missed = max(short.get(item.choice, 0.0), 0.0)
            return missed, item.choice not in whole or item.mean < near, -item.mean, item.choice

        return sorted(found, key=key)

    def _think(
        self,
        history: Sequence[Row],
        told: Sequence[Row],
        used: dict[Choice, set[int]],
        rng: np.random.Generator,
    ) -> Choice:
        settings = self.settings
        pending = [row for row in history if row.pending]
        posterior = self._refit.posterior(told, pending)
        believed, drawn = self._hills(posterior, told, pending, rng)
        values = {choice: believed.value(choice) for choice in posterior.known}
        order = sorted(values, key=lambda choice: (-values[choice], choice))
        open_ = [choice for choice in order if len(used[choice]) < self._block_count]
        retest = rng.random() < settings.retest
        if self.blocks is not None and self.spent >= 1 - self._finish:
            short = self._short_list(order, used)
            if short:
                return short[0]
        if retest and open_:
            return _leader(open_, drawn, rng)
        starts = order[: settings.leaders]
        found = climb(drawn, starts, self._moves, steps=settings.steps, banned=used.keys())
        if found:
            return found[0][1]
        if open_:
            return _leader(open_, drawn, rng)
        return unused(self.choices, used, self._block_count, rng)

    def _short_list(self, order: Sequence[Choice], used: dict[Choice, set[int]]) -> list[Choice]:
        """Gives those finalists that are still to be measured, as many as can be measured on all."""
        assert self.blocks is not None
        left = math.inf
        if self._generations is not None:
            left = (1 - self.spent) * self._generations / (self.blocks.total / len(self.blocks))
        found: list[Choice] = []
        for choice in order[: self.settings.finalists]:
            left -= len(self.blocks) - len(used[choice])
            if left < 0 and found:
                break
            if len(used[choice]) < len(self.blocks):
                found.append(choice)
        return found

    def _hills(
        self,
        posterior: Posterior,
        told: Sequence[Row],
        pending: Sequence[Row],
        rng: np.random.Generator,
    ) -> tuple[Hill, Hill]:
        """Gives what is believed, and a draw, of quality and whatever else is wanted."""
        believed, drawn = posterior.mean(), posterior.draw(rng)
        if self.goal == Goal():
            return believed, drawn
        aspects: list[Tables | None] = [None, None]
        rows = [replace(row, value=row.aspect) for row in told if row.aspect is not None]
        if len(rows) >= _FEW:
            aspect = self._refit.posterior(rows, pending)
            aspects = [aspect.mean(), aspect.draw(rng)]
        toll = 0.0
        if self.goal.tokens and rng.random() < _TOLLED:  # else quality alone
            longest = self._lengths.max(initial=1.0) * max(self.space.k_max, 1)
            toll = posterior.scale * float(np.exp(rng.uniform(*_TOLLS))) / longest
        tolls = self._lengths * toll, self._system_lengths * toll
        level = self.goal.at_least
        return (
            Blend(believed, *tolls, aspects[0], level),
            Blend(drawn, *tolls, aspects[1], level),
        )

    def _shortfalls(self, told: Sequence[Row]) -> dict[Choice, float]:
        """Gives by how much prompts are believed to miss the constraint; negative where they keep it."""
        rows = [replace(row, value=row.aspect) for row in told if row.aspect is not None]
        if not self.goal.aspect or len(rows) < _FEW:
            return {}
        posterior = self._refit.posterior(rows, [])
        means, _ = posterior.moments()
        return {
            choice: self.goal.at_least - float(mean)
            for choice, mean in zip(posterior.known, means, strict=True)
        }


def _leader(open_: Sequence[Choice], drawn: Hill, rng: np.random.Generator) -> Choice:
    """Gives the leader half the time, else the best of the next in the draw."""
    others = open_[1:_NEXT]
    if rng.random() < _LEADER or not others:
        return open_[0]
    return max(others, key=lambda choice: (drawn.value(choice), choice))
