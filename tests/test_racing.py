"""Promises of icl_align.search.racing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import optuna
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from optuna.trial import TrialState

from icl_align.search.racing import PairedRace, RacingPruner, Verdict, spent_alpha

Pairs = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Scores of a candidate and of the incumbent."""
SCORE = st.sampled_from([None, 0.0, 0.2, 0.5, 0.9, 1.0])
PAIR = st.tuples(SCORE, SCORE)


def difference(pair: tuple[float | None, float | None]) -> float | None:
    mine, theirs = pair
    return None if mine is None or theirs is None else mine - theirs


def raced(
    pairs: Sequence[tuple[float | None, float | None]], *, known: bool, alpha: float = 0.05
) -> Verdict:
    """The verdict after all pairs but the last, whose outcome leaves nothing open."""
    incumbent = [theirs for _, theirs in pairs] if known else None
    race = PairedRace(len(pairs), alpha, incumbent)
    return race.update([difference(pair) for pair in pairs][:-1])


@settings(max_examples=60, deadline=None)
@given(st.lists(PAIR, min_size=3, max_size=5), st.booleans())
def test_over_all_orders_the_p_value_is_honest(
    pairs: list[tuple[float | None, float | None]], known: bool
) -> None:
    """Under the null no level is undercut more often than it says, whatever the scores: all orders are tried."""
    total = math.fsum(difference(pair) or 0.0 for pair in pairs)
    verdicts = [raced(order, known=known) for order in itertools.permutations(pairs)]
    sides = []
    if total >= 0:
        sides.append(sorted(verdict.p_worse for verdict in verdicts))
    if total <= 0:
        sides.append(sorted(verdict.p_better for verdict in verdicts))
    for values in sides:
        for rank, value in enumerate(values, start=1):
            assert rank / len(values) <= value + 1e-9 or (
                rank < len(values) and values[rank] == value
            )


def plain_wealth(
    pairs: Sequence[tuple[float | None, float | None]], seen: int, *, known: bool
) -> tuple[float, float]:
    """The most that both wealths have been, by the formula as it is written, one bet after the other."""
    scores = [theirs for _, theirs in pairs if theirs is not None] if known else []
    centre = math.fsum(scores) / len(scores) if scores else 0.0
    low, high = (min(scores), max(scores)) if scores else (0.0, 1.0)
    found = []
    for sign in (1.0, -1.0):
        bets = []
        for share in (0.0, 1 / 3, 2 / 3) if scores else (0.0,):
            most = 1 - (1 - share) * low - share * centre
            if sign < 0:
                most = (1 - share) * high + share * centre
            for fraction in (0.15, 0.3, 0.5, 0.7, 0.9):
                wealth, so_far, path = 1.0, 0.0, list[float]()
                for left, pair in zip(range(len(pairs), 0, -1), pairs[:seen], strict=False):
                    level = 0.0 if not scores or pair[1] is None else pair[1] - centre
                    value = sign * ((difference(pair) or 0.0) + share * level)
                    expected = -so_far / left
                    assume(most - expected > 1e-6)  # else there is nothing left to bet on
                    wealth *= 1 - fraction / (most - expected) * (value - expected)
                    so_far += value
                    path.append(wealth)
                bets.append(path)
        found.append(max(1.0, *(math.fsum(now) / len(bets) for now in zip(*bets, strict=True))))
    return found[0], found[1]


@given(st.lists(PAIR, min_size=12, max_size=20), st.booleans())
@settings(deadline=None)
def test_the_wealth_is_the_papers(
    pairs: list[tuple[float | None, float | None]], known: bool
) -> None:
    """What is computed at once is what the formula says, bet by bet; here after the first few of many."""
    incumbent = [theirs for _, theirs in pairs] if known else None
    race = PairedRace(len(pairs), 0.05, incumbent)
    verdict = race.update([difference(pair) for pair in pairs[:4]])
    assume(verdict.p_worse > 0 and verdict.p_better > 0)  # else no chance is left
    worse, better = plain_wealth(pairs, 4, known=known)
    assert verdict.p_worse == pytest.approx(1 / worse)
    assert verdict.p_better == pytest.approx(1 / better)


def skewed(size: int) -> Pairs:
    """Equal means: the candidate loses a little on most examples, and wins much on a few."""
    few = np.arange(size) < size // 12
    return np.where(few, 0.94, 0.46), np.full(size, 0.5)


def coins(size: int) -> Pairs:
    """Equal means of scores 0 or 1."""
    ones = np.arange(size) % 2
    return ones.astype(float), np.roll(ones, size // 4 + 1).astype(float)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("scores", [skewed, coins])
def test_equal_prompts_are_seldom_stopped_however_often_one_looks(
    scores: Callable[[int], Pairs], known: bool
) -> None:
    """In 400 orders with a look after each example, not more are stopped than 0.2 and its error allow."""
    candidate, incumbent = scores(96)
    assert candidate.mean() >= incumbent.mean() - 1e-12
    stopped = 0
    for seed in range(400):
        order = np.random.default_rng(seed).permutation(96)
        race = PairedRace(96, 0.2, incumbent[order].tolist() if known else None)
        stopped += race.update((candidate - incumbent)[order][:95].tolist()).clearly_worse
    assert stopped / 400 <= 0.2 + 3 * math.sqrt(0.2 * 0.8 / 400)


@pytest.mark.parametrize("shift", [0.1, 0.2])
def test_a_worse_prompt_is_stopped_early_and_sooner_with_the_incumbents_scores(
    shift: float,
) -> None:
    """What is known about the examples spares some of them."""
    seen: dict[bool, list[int]] = {False: [], True: []}
    for seed in range(30):
        rng = np.random.default_rng(seed)
        hard = rng.normal(0.6, 0.1, 96)
        incumbent = np.clip(hard + rng.normal(0, 0.1, 96), 0, 1)
        candidate = np.clip(hard + rng.normal(0, 0.1, 96) - shift, 0, 1)
        for known, ends in seen.items():
            race = PairedRace(96, 0.05, incumbent.tolist() if known else None)
            ends.append(
                next(
                    n + 1
                    for n in range(96)
                    if race.update([candidate[n] - incumbent[n]]).clearly_worse
                )
            )
    assert np.mean(seen[True]) < 0.85 * np.mean(seen[False])
    assert np.mean(seen[True]) < 60


@given(st.lists(PAIR, min_size=2, max_size=12), st.integers(0, 12), st.booleans())
@settings(deadline=None)
def test_pieces_make_the_same_race(
    pairs: list[tuple[float | None, float | None]], cut: int, known: bool
) -> None:
    """How examples are cut into blocks does not matter, and an empty one changes nothing."""
    incumbent = [theirs for _, theirs in pairs] if known else None
    differences = [difference(pair) for pair in pairs]
    whole = PairedRace(len(pairs), 0.05, incumbent).update(differences)
    race = PairedRace(len(pairs), 0.05, incumbent)
    for part in (differences[:cut], [], differences[cut:]):
        verdict = race.update(part)
    assert verdict.p_worse == pytest.approx(whole.p_worse)
    assert verdict.p_better == pytest.approx(whole.p_better)
    assert (verdict.seen, verdict.clearly_worse) == (whole.seen, whole.clearly_worse)


@given(st.lists(PAIR, min_size=1, max_size=12), st.booleans())
@settings(deadline=None)
def test_after_all_examples_the_truth_is_known(
    pairs: list[tuple[float | None, float | None]], known: bool
) -> None:
    """At the end a lower sum is a clear loss, and a stop is never taken back before."""
    differences = [difference(pair) for pair in pairs]
    total = math.fsum(value or 0.0 for value in differences)
    assume(abs(total) > 1e-6)
    race = PairedRace(len(pairs), 0.05, [theirs for _, theirs in pairs] if known else None)
    was = [race.update([value]) for value in differences]
    for before, after in itertools.pairwise(was):
        assert after.clearly_worse >= before.clearly_worse
        assert after.p_worse <= before.p_worse
    if total < 0:
        assert was[-1].clearly_worse
    else:
        assert was[-1].clearly_better


def test_what_can_no_longer_be_made_up_is_lost() -> None:
    """Once all remaining examples together cannot close the gap, chance has no part in it."""
    race = PairedRace(10, 1e-9, [0.9] * 10)
    assert not race.update([-0.45]).clearly_worse
    assert race.update([-0.9]).clearly_worse  # eight more can bring 0.8


def test_missing_verdicts_count_for_nobody() -> None:
    """Without a pair there is no mean and no evidence; with some, the mean is theirs."""
    race = PairedRace(8, 0.05)
    verdict = race.update([None, math.nan])
    assert (verdict.seen, verdict.mean, verdict.p_worse, verdict.p_better) == (2, None, 1.0, 1.0)
    assert race.update([-0.5, None, -0.1]).mean == pytest.approx(-0.3)
    nobody = PairedRace(2, 0.05, [None, math.nan]).update([None, None])
    assert (nobody.mean, nobody.clearly_worse, nobody.clearly_better) == (None, False, False)


def test_the_two_sides_mirror_each_other() -> None:
    """What makes one prompt worse makes the other better."""
    rng = np.random.default_rng(0)
    differences = rng.uniform(-1, 0.6, 20)
    there = PairedRace(40, 0.05).update(differences.tolist())
    back = PairedRace(40, 0.05).update((-differences).tolist())
    assert there.p_worse == back.p_better < 0.5 < there.p_better == back.p_worse


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PairedRace(0, 0.05), "a race needs at least one example, got 0"),
        (lambda: PairedRace(8, 1.0), r"alpha must be in \(0, 1\), got 1.0"),
        (lambda: PairedRace(8, 0.05, [0.5] * 7), "the incumbent needs 8 scores, got 7"),
        (
            lambda: PairedRace(1, 0.05, [-0.1]),
            r"an incumbent's score must be in \[0, 1\], got -0.1",
        ),
        (lambda: PairedRace(8, 0.05).update([1.5]), r"a difference must be in \[-1, 1\], got 1.5"),
        (
            lambda: PairedRace(8, 0.05).update([math.inf]),
            r"a difference must be in \[-1, 1\], got inf",
        ),
        (
            lambda: PairedRace(2, 0.05, [0.9, 0.1]).update([0.3]),
            "are both in the order of the race",
        ),
        (
            lambda: PairedRace(2, 0.05, [None, 0.1]).update([0.3]),
            "are both in the order of the race",
        ),
        (lambda: PairedRace(2, 0.05).update([0.0] * 3), "the race has 2 examples, got more"),
        (lambda: RacingPruner(0), "a race needs at least one example, got 0"),
        (
            lambda: RacingPruner(8, every=0, warmup=-1),
            "every must be at least 1 and warmup at least 0, got 0 and -1",
        ),
        (lambda: RacingPruner(8, alpha=0.0), r"alpha must be in \(0, 1\), got 0.0"),
    ],
)
def test_what_is_out_of_range_is_refused(call: Callable[[], object], message: str) -> None:
    """A misuse fails loudly."""
    with pytest.raises(ValueError, match=message):
        call()


def test_alpha_is_spent_over_incumbents() -> None:
    """All shares together are alpha."""
    assert sum(spent_alpha(0.05, met) for met in range(1, 100_000)) == pytest.approx(0.05, rel=1e-4)
    assert spent_alpha(0.05, 1) == pytest.approx(0.05 * 6 / math.pi**2)


def tried(
    study: optuna.Study, scores: Sequence[float], *, stops: bool = True, value: float | None = None
) -> int:
    """Runs a trial of these scores; gives after how many examples it was stopped, or their number."""
    trial = study.ask()
    for step, score in enumerate(scores):
        trial.report(score, step)
        if trial.should_prune() and stops:
            study.tell(trial, value, None if value is not None else TrialState.PRUNED)
            return step + 1
    study.tell(trial, float(np.nanmean(scores)) if value is None else value)
    return len(scores)


def study_of(n: int, direction: str = "maximize", **settings: float) -> optuna.Study:
    return optuna.create_study(pruner=RacingPruner(n, **settings), direction=direction)  # type: ignore[arg-type]


GOOD, BAD = [1.0] * 32, [0.0] * 32


def test_a_trial_that_clearly_lost_is_stopped_at_a_look() -> None:
    """Only at the end of a block, not before the warm-up, never at the end, and not the first of all."""
    study = study_of(32)
    assert tried(study, BAD) == 32
    assert tried(study, GOOD) == 32
    assert tried(study, BAD) == 8
    assert tried(study, [*GOOD[:24], *BAD[:8]]) == 32
    assert study.trials[-1].state == TrialState.COMPLETE
    for pruner, end in {
        RacingPruner(32, every=5): 5,
        RacingPruner(32, every=8, warmup=9): 16,
        RacingPruner(32, every=32): 32,
    }.items():
        study.pruner = pruner
        assert tried(study, BAD) == end


def test_a_partial_mean_is_no_incumbent() -> None:
    """A trial that was stopped but told a value, or has too few verdicts, is not raced against."""
    study = study_of(32)
    assert tried(study, [0.5] * 32) == 32
    lucky = study.ask()
    for step in range(24):
        lucky.report(1.0, step)
    study.tell(lucky, 1.0)
    tried(study, [1.0] * 15 + [math.nan] * 17, stops=False)
    assert study.best_value == 1.0
    assert tried(study, [0.5] * 32) == 32
    assert tried(study, BAD) == 8


def test_missing_verdicts_are_left_out_of_both(tmp_path: Path) -> None:
    """NaN is no verdict, also from a database; the pairs that are left decide."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path.as_posix()}/study.db")
    try:
        study = optuna.create_study(storage=storage, pruner=RacingPruner(32), direction="maximize")
        holes = [math.nan if step % 4 == 0 else 1.0 for step in range(32)]
        assert tried(study, holes) == 32
        assert tried(study, [math.nan] * 8 + GOOD[:24]) == 32
        assert tried(study, [0.0 if step % 4 == 0 else 1.0 for step in range(32)]) == 32
        assert tried(study, BAD) == 8
    finally:
        storage.remove_session()
        storage.engine.dispose()


def test_steps_that_were_never_reported_are_missing() -> None:
    """A trial that skips steps is paired by step."""
    study = study_of(32)
    tried(study, [1.0] * 16 + [0.0] * 16)
    trial = study.ask()
    for step in range(16, 32):
        trial.report(0.0, step)
        assert not trial.should_prune()


def test_a_study_that_minimises_stops_the_higher() -> None:
    """Lower is better there."""
    study = study_of(32, "minimize")
    assert tried(study, BAD) == 32
    assert tried(study, GOOD) == 8
    assert tried(study, BAD) == 32


def test_each_further_incumbent_of_a_trial_must_be_lost_to_more_clearly() -> None:
    """The evidence that stops a trial that met one incumbent does not stop one that has met three."""
    ends = []
    for others in (0, 2):
        study = study_of(64, alpha=0.2, every=1)
        tried(study, [0.5] * 64)
        trial = study.ask()
        for number in range(others):
            tried(study, [0.5 + 0.001 * (number + 1)] * 64)
        ends.append(0)
        for step in range(64):
            trial.report(0.2, step)
            if trial.should_prune():
                ends[-1] = step + 1
                break
    assert 0 < ends[0] < ends[1] < 64


@pytest.mark.parametrize(
    ("value", "step", "message"),
    [
        (1.5, 7, r"a race is between scores in \[0, 1\], got 1.5; report NaN for none"),
        (0.5, 40, "steps go up to 31, trial 1 reported 40"),
    ],
)
def test_reports_that_make_no_sense_are_refused(value: float, step: int, message: str) -> None:
    """A score of another scale, or a step of another study, fails loudly."""
    study = study_of(32)
    tried(study, GOOD)
    trial = study.ask()
    trial.report(value, step)
    with pytest.raises(ValueError, match=message):
        trial.should_prune()
