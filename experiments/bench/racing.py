"""How often a race stops a prompt that is as good as the incumbent, and how soon one that is worse.

    PYTHONPATH=experiments python -m bench.racing --out racing.json

All contestants see the same pairs of prompts over N examples in the same random orders, a block at a time. Under
the null the two have exactly the same mean over the N examples, so whatever is stopped is stopped wrongly.
"""

from __future__ import annotations

import argparse
import json
import math
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import scipy.stats
from numpy.typing import NDArray
from optuna.trial import TrialState, create_trial

from icl_align.search.racing import PairedRace

Scores = NDArray[np.float64]
"""float64, scores in [0, 1]: (examples,) of one prompt, or (prompts, examples)."""
Stopper = Callable[[int], bool]
"""Says whether to stop after so many examples."""

N, BLOCK, CORRELATION = 96, 8, 0.45  # the correlation is AlpacaEval's, see facts/search.md
EFFECTS = (0.5, 1.0, 2.0)


def scores(kind: str, quality: Scores, rng: np.random.Generator) -> Scores:
    """Draws scores of prompts whose examples are hard or easy for all of them alike.

    Args:
        kind: The distribution of scores, one of KINDS; "checklist" is of four points, "skewed" has rare
            failures.
        quality: Shift of each prompt in standard deviations of a score, float64 (prompts, 1).
        rng: The stream.

    Returns:
        float64 (prompts, N).
    """
    shared = math.sqrt(CORRELATION) * rng.normal(size=(1, N))
    own = math.sqrt(1 - CORRELATION) * rng.normal(size=(len(quality), N))
    uniform = scipy.stats.norm.cdf(shared + own + quality)
    if kind == "0/1":
        return np.where(uniform > 0.4, 1.0, 0.0)
    if kind == "checklist":
        return np.asarray(scipy.stats.binom.ppf(uniform, 4, 0.6) / 4)
    if kind == "beta":
        return np.asarray(scipy.stats.beta.ppf(uniform, 2, 2))
    if kind == "narrow":
        return np.asarray(scipy.stats.beta.ppf(uniform, 60, 40))
    return np.where(uniform < 0.1, 0.0, 0.6 + 0.2 * uniform)


KINDS = ("0/1", "checklist", "beta", "narrow", "skewed")


def even(kind: str, rng: np.random.Generator) -> tuple[Scores, Scores]:
    """Draws a candidate and an incumbent of exactly equal means: each wins as the other does elsewhere."""
    halves = scores(kind, np.zeros((2, 1)), rng)[:, : N // 2]
    if kind == "skewed":  # the candidate loses a little often, and wins much seldom
        often, seldom = np.full(N, 0.5 + 0.4 / 11), np.full(N, 0.5)
        often[: N // 12] = 0.1
        order = rng.permutation(N)
        return seldom[order], often[order]
    both = np.concatenate([halves, halves[::-1]], axis=1)[:, rng.permutation(N)]
    return both[0], both[1]


def worse(kind: str, effect: float, rng: np.random.Generator) -> tuple[Scores, Scores]:
    """Draws a candidate worse by so many standard deviations of the differences, or as far as it goes."""
    seed = int(rng.integers(2**31))

    def pair(shift: float) -> tuple[Scores, Scores]:
        one, two = scores(kind, np.array([[-shift], [0.0]]), np.random.default_rng(seed))
        return one, two

    def size(shift: float) -> float:
        difference = np.subtract(*pair(shift))
        return float(-difference.mean() / (difference.std() + 1e-12))

    low, high = 0.0, 8.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if size(middle) < effect else (low, middle)
    return pair(high)


def race(
    candidate: Scores, incumbent: Scores, *, alpha: float = 0.05, known: bool = True
) -> Stopper:
    """Ours, with the incumbent's scores on all examples or without."""
    run = PairedRace(N, alpha, incumbent.tolist() if known else None)
    differences = (candidate - incumbent).tolist()
    return lambda seen: run.update(differences[seen - BLOCK : seen]).clearly_worse


def wilcoxon(candidate: Scores, incumbent: Scores) -> Stopper:
    """Optuna's own pruner itself, at its default p of 0.1."""
    study = optuna.create_study(direction="maximize")
    values = dict(enumerate(incumbent.tolist()))
    study.add_trial(create_trial(value=float(incumbent.mean()), intermediate_values=values))
    pruner = optuna.pruners.WilcoxonPruner(p_threshold=0.1)
    frozen = create_trial(state=TrialState.RUNNING)

    def stop(seen: int) -> bool:
        frozen.intermediate_values = dict(enumerate(candidate[:seen].tolist()))
        return pruner.prune(study, frozen)

    return stop


def t_test(candidate: Scores, incumbent: Scores) -> Stopper:
    """A one-sided paired t-test at 0.05, repeated at each look as if it were the only one."""
    return lambda seen: bool(
        scipy.stats.ttest_rel(candidate[:seen], incumbent[:seen], alternative="less").pvalue < 0.05
    )


CONTESTANTS: dict[str, Callable[[Scores, Scores], Stopper]] = {
    "race 0.05": race,
    "race 0.2": lambda a, b: race(a, b, alpha=0.2),
    "race 0.05, differences only": lambda a, b: race(a, b, known=False),
    "WilcoxonPruner 0.1": wilcoxon,
    "t-test 0.05, repeated": t_test,
}


def stopped_at(stop: Stopper) -> int:
    """Examples a candidate is measured on; N where it is never stopped before the last look."""
    return next((seen for seen in range(BLOCK, N, BLOCK) if stop(seen)), N)


def cells(runs: int, seed: int) -> Iterator[dict[str, Any]]:
    """One record per distribution and effect, with each contestant's stops and mean examples."""
    for row, kind in enumerate(KINDS):
        for column, effect in enumerate((0.0, *EFFECTS)):
            found: dict[str, list[int]] = {name: [] for name in CONTESTANTS}
            reached = []
            for number in range(runs if effect == 0 else runs // 4):
                rng = np.random.default_rng([seed, row, column, number])
                pair = worse(kind, effect, rng) if effect else even(kind, rng)
                reached.append(float(-np.subtract(*pair).mean() / np.subtract(*pair).std()))
                for name, contestant in CONTESTANTS.items():
                    found[name].append(stopped_at(contestant(*pair)))
            yield {
                "scores": kind,
                "effect": effect,
                "effect_reached": float(np.mean(reached)),
                "runs": len(reached),
                "contestants": {
                    name: {
                        "stopped": float(np.mean(np.array(ends) < N)),
                        "examples": float(np.mean(ends)),
                    }
                    for name, ends in found.items()
                },
            }


def sweep(spread: float, seed: int, *, fresh: bool, bred: bool) -> tuple[int, int, bool]:
    """Races 40 prompts of a sweep, each against the best complete one before it.

    Args:
        spread: Standard deviation of the prompts' qualities, in that of a score.
        seed: Seed of everything.
        fresh: Whether each prompt has an order of its own; else one is common to all.
        bred: Whether prompts descend from the one that looked best so far, stopped ones included: so they are
            picked by what happened at the beginning of the order.

    Returns:
        Prompts at least as good as the incumbent they met, how many of them were stopped, and whether the
        best prompt of all was.
    """
    rng = np.random.default_rng([seed, 1])
    hard = math.sqrt(CORRELATION) * rng.normal(size=N)
    latents: list[Scores] = []
    looks: list[float] = []
    means: list[float] = []
    incumbent: Scores | None = None
    good = lost = 0
    stopped: list[bool] = []
    for number in range(40):
        latent = math.sqrt(1 - CORRELATION) * rng.normal(size=N) + spread * rng.normal()
        if bred and latents:
            latent = math.sqrt(0.7) * latents[int(np.argmax(looks))] + math.sqrt(0.3) * latent
        latents.append(latent)
        candidate = np.clip(0.5 + 0.2 * (hard + latent), 0, 1)
        order = np.random.default_rng([seed, 2, number if fresh else 0]).permutation(N)
        end = N
        if incumbent is not None:
            end = stopped_at(race(candidate[order], incumbent[order]))
            as_good = bool(candidate.mean() >= incumbent.mean())
            good, lost = good + as_good, lost + (as_good and end < N)
        stopped.append(end < N)
        looks.append(float(candidate[order][:end].mean()))
        means.append(float(candidate.mean()))
        if end == N and (incumbent is None or candidate.mean() > incumbent.mean()):
            incumbent = candidate
    return good, lost, stopped[int(np.argmax(means))]


def sweeps(runs: int, seed: int) -> Iterator[dict[str, Any]]:
    """One record per kind of sweep: errors against adaptively chosen pairs."""
    for spread in (0.0, 0.2):
        for bred in (False, True):
            for fresh in (False, True):
                done = [
                    sweep(spread, seed * 10**6 + number, fresh=fresh, bred=bred)
                    for number in range(runs)
                ]
                good, lost, best = (sum(column) for column in zip(*done, strict=True))
                yield {
                    "spread": spread,
                    "bred": bred,
                    "order": "fresh" if fresh else "common",
                    "as_good": good,
                    "stopped": lost / max(1, good),
                    "best_stopped": best / runs,
                }


def main(arguments: list[str] | None = None) -> None:
    """Runs everything, prints a table, writes a JSON record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000, help="pairs under the null")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(arguments)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    print(f"N {N}, looks every {BLOCK}; share stopped / mean examples")
    print("| scores | effect | reached | " + " | ".join(CONTESTANTS) + " |")
    found = []
    with warnings.catch_warnings():
        # Optuna's pruner is experimental; scipy warns where all differences are equal.
        warnings.simplefilter("ignore")
        for cell in cells(args.runs, args.seed):
            found.append(cell)
            columns = [
                f"{entry['stopped']:.3f} / {entry['examples']:.1f}"
                for entry in cell["contestants"].values()
            ]
            print(
                f"| {cell['scores']} | {cell['effect']:g} | {cell['effect_reached']:.2f} | "
                + " | ".join(columns)
                + " |",
                flush=True,
            )
    over = []
    print(
        "| quality sd | bred | order | as good as the incumbent | of them stopped | best stopped |"
    )
    for entry in sweeps(max(1, args.runs // 4), args.seed):
        over.append(entry)
        print(
            "| "
            + " | ".join(
                f"{value:.4g}" if isinstance(value, float) else str(value)
                for value in entry.values()
            )
            + " |",
            flush=True,
        )
    if args.out:
        done = {
            "version": 1,
            "n": N,
            "block": BLOCK,
            "seed": args.seed,
            "optuna": optuna.__version__,
        }
        args.out.write_text(json.dumps(done | {"cells": found, "sweeps": over}, indent=1) + "\n")


if __name__ == "__main__":
    main()
