"""What a contest of samplers has shown: who handed over what, and what that is worth where nobody searched."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icl_align.prompt import Prompt
from icl_align.stats import Interval, crossed_bootstrap
from icl_align.types import Usage

Values = tuple[float | None, ...]
"""Verdicts on the untouched examples, in order; None where there is none."""
_EQUAL = 1e-12


@dataclass(frozen=True)
class Handed:
    """What an entrant would hand over after a share of its budget.

    Attributes:
        share: That share, in (0, 1].
        generations: What it had spent by then.
        prompt: The first of its ranking.
        reported: What the search believes of its mean on the development examples.
        values: Its verdicts on the untouched examples; empty before they are measured.
    """

    share: float
    generations: int
    prompt: Prompt
    reported: float
    values: Values = ()

    @property
    def mean(self) -> float | None:
        """The mean over the untouched examples' verdicts, None without any."""
        return mean_of(self.values)


@dataclass(frozen=True)
class Entrant:
    """One sampler with one seed, at the end of its budget.

    Attributes:
        sampler: Its name.
        seed: Of its search.
        points: Into how many parts its budget was cut to ask what it would hand over.
        trials: Trials; for DSPy, prompts.
        generations: Pairs of a prompt and an example that it measured, whoever paid for them.
        seconds: Time spent measuring; next to none for what an earlier entrant has paid for.
        thinking: Seconds a trial took beside measuring; None where that is not known.
        handed: What it would hand over, by share; the last one is its winner. A share at which no
            prompt had a verdict is left out.
    """

    sampler: str
    seed: int
    points: int
    trials: int
    generations: int
    seconds: float
    thinking: float | None
    handed: tuple[Handed, ...]

    @property
    def winner(self) -> Handed:
        """What it hands over in the end."""
        return self.handed[-1]


@dataclass(frozen=True)
class Outcome:
    """What a contest has shown so far.

    Attributes:
        folder: Where it lives.
        samplers: All that take part; the others are compared with the first.
        seeds: How many seeds, from 0.
        generations: The budget of each entrant.
        warm_start: Whether the hand-written prompts were measured first.
        entrants: Those that have ended, by seed and sampler.
        baselines: The experiment's baselines' verdicts, the main one first.
        held_out: How many untouched examples there are, by split.
        level: Coverage of the intervals.
        interrupted: True when it was stopped from the keyboard before its end.
        usage: What this process has paid.
    """

    folder: Path
    samplers: tuple[str, ...]
    seeds: int
    generations: int
    warm_start: bool
    entrants: tuple[Entrant, ...]
    baselines: Mapping[str, Values]
    held_out: Mapping[str, int]
    level: float
    interrupted: bool
    usage: Usage

    def to_json(self) -> dict[str, Any]:
        """Gives all numbers; of each sampler and baseline the difference to the first sampler."""
        return {
            "contest": str(self.folder),
            "generations": self.generations,
            "seeds": list(range(self.seeds)),
            "warm_start": self.warm_start,
            "held_out": dict(self.held_out),
            "level": self.level,
            "entrants": {"done": len(self.entrants), "total": len(self.samplers) * self.seeds},
            "interrupted": self.interrupted,
            "samplers": [self._sampler(name) for name in self.samplers],
            "baselines": [
                {"name": name, **_counted(values), "difference": self._against_first(values)}
                for name, values in self.baselines.items()
            ],
            "paid": {"generations": self.usage.paid, "cached": self.usage.cached},
            "tokens": self.usage.to_json(),
        }

    def _of(self, sampler: str) -> dict[int, Entrant]:
        """Gives a sampler's entrants by seed."""
        return {one.seed: one for one in self.entrants if one.sampler == sampler}

    def _sampler(self, name: str) -> dict[str, Any]:
        mine = self._of(name)
        thought = [(one.thinking, one.trials) for one in mine.values()]
        known = [(seconds, trials) for seconds, trials in thought if seconds is not None]
        trials = sum(count for _, count in known)
        whole = self._interval([one.winner.values for one in mine.values()])
        return {
            "sampler": name,
            "mean": whole.mean if whole else None,
            "interval": whole.to_json() if whole else None,
            "reported": _mean([one.winner.reported for one in mine.values()]),
            "difference": None if name == self.samplers[0] else self._difference(name),
            "wins": None if name == self.samplers[0] else self._wins(name),
            "generations": _mean([one.generations for one in mine.values()]),
            "trials": _mean([one.trials for one in mine.values()]),
            "seconds": {
                "measuring": math.fsum(one.seconds for one in mine.values()),
                "per_proposal": math.fsum(s * n for s, n in known) / trials if trials else None,
            },
            "by_seed": [
                {
                    "seed": one.seed,
                    **_counted(one.winner.values),
                    "reported": one.winner.reported,
                    "generations": one.generations,
                    "trials": one.trials,
                    "digest": one.winner.prompt.digest,
                }
                for one in mine.values()
            ],
            "curve": _curve(list(mine.values())),
        }

    def _difference(self, name: str) -> dict[str, Any] | None:
        """The sampler minus the first one, over the seeds that both have ended."""
        mine, first = self._of(name), self._of(self.samplers[0])
        rows = [
            _row(mine[seed].winner.values) - _row(first[seed].winner.values)
            for seed in mine.keys() & first.keys()
        ]
        found = self._bounded(rows)
        return found.to_json() if found else None

    def _against_first(self, values: Values) -> dict[str, Any] | None:
        """A baseline minus the first sampler: the same prompt meets each seed's winner."""
        first = self._of(self.samplers[0]).values()
        found = self._bounded([_row(values) - _row(one.winner.values) for one in first])
        return found.to_json() if found else None

    def _wins(self, name: str) -> dict[str, int]:
        """In how many seeds the sampler's winner is better than the first one's, equal, worse."""
        mine, first = self._of(name), self._of(self.samplers[0])
        found = {"won": 0, "tied": 0, "lost": 0}
        for seed in mine.keys() & first.keys():
            a, b = mine[seed].winner.mean, first[seed].winner.mean
            if a is not None and b is not None:
                found["tied" if abs(a - b) < _EQUAL else "won" if a > b else "lost"] += 1
        return found

    def _interval(self, values: Sequence[Values]) -> Interval | None:
        return self._bounded([_row(one) for one in values])

    def _bounded(self, rows: Sequence[NDArray[np.float64]]) -> Interval | None:
        """Bounds a mean over seeds and examples; None where there is no value."""
        if not rows or np.isnan(matrix := np.stack(rows)).all():
            return None
        return crossed_bootstrap(matrix, level=self.level)


def mean_of(values: Values) -> float | None:
    """Gives the mean of the verdicts that there are, None without any."""
    return _mean([value for value in values if value is not None])


def _curve(entrants: Sequence[Entrant]) -> list[dict[str, Any]]:
    """What would have been handed over by share: the mean over the seeds that have it."""
    shares = sorted({handed.share for one in entrants for handed in one.handed})
    found = []
    for share in shares:
        there = [handed for one in entrants for handed in one.handed if handed.share == share]
        means = [handed.mean for handed in there if handed.mean is not None]
        found.append(
            {
                "share": share,
                "generations": _mean([handed.generations for handed in there]),
                "mean": _mean(means),
                "seeds": len(means),
            }
        )
    return found


def _counted(values: Values) -> dict[str, Any]:
    n = sum(value is not None for value in values)
    return {"mean": mean_of(values), "n": n, "missing": len(values) - n}


def _row(values: Values) -> NDArray[np.float64]:
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
