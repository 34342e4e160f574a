"""What every sampler promises, whether it is ours, Optuna's or your own."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import optuna
from optuna.trial import TrialState, create_trial

from icl_align.search.choices import Choices
from icl_align.search.proposing import BLOCK, ProposingSampler
from icl_align.space import Space
from icl_align.testing._studies import Desk, Landscape, SamplerMaker, small_space, within
from icl_align.testing._together import check_together

IDS = tuple(f"example-{i:02}" for i in range(24))
"""The development examples that a factory is given unless a promise is about few."""

_TRIALS = 24
_AT_ONCE = 8
_ROWS = 300


def check_sampler(
    make: SamplerMaker,
    space: Space | None = None,
    *,
    repeats: bool = False,
    resumes: bool = True,
    learns: bool = True,
    seconds: float | None = 1.0,
    patience: float = 60.0,
) -> None:
    """Checks what every sampler promises.

    A sampler that has `distributions()` is asked for those, as `ProposingSampler` has them with a
    block; any other for those of the space.

    Args:
        make: Makes a fresh sampler from a space, ids of development examples and a seed; one that
            measures prompts on blocks cuts these ids.
        space: The space of the checks that are not about tiny spaces; at least 100 prompts. None for
            one of 12 exemplars.
        repeats: True for a sampler that may propose what was measured before, as Optuna's own do.
        resumes: False for a sampler that keeps something that it cannot read from the study again,
            as Optuna's own keep the state of their random stream.
        learns: False for a sampler that is not meant to be better than random.
        seconds: Longest time of an ask with 300 told trials; None for any.
        patience: Seconds after which a check is said to hang.

    Raises:
        AssertionError: naming the promise that was broken.
    """
    space = space or small_space(12, 1, 3, choices=2)
    checks: dict[str, Callable[[], None]] = {
        "asking again with a seed": partial(_check_seeds, make, space),
        "recommending": partial(_check_recommends, make, space),
    }
    if resumes:
        checks["asking a fresh sampler"] = partial(_check_resumes, make, space)
    if not repeats:
        checks["asking for something new"] = partial(_check_new, make, space)
        checks["asking while trials run"] = partial(_check_pending, make, space)
    checks |= {
        "asking after failures": partial(_check_failures, make, space),
        "asking beyond the end of a tiny space": partial(_check_exhausted, make, repeats=repeats),
        "asking in a tiny space": partial(_check_tiny, make),
        "asking from two threads": partial(check_together, make, space, IDS),
    }
    if learns:
        checks["learning"] = partial(_check_learns, make)
    if seconds is not None:
        checks["asking with many trials"] = partial(_check_quick, make, space, seconds)
    with _quiet():
        for what, check in checks.items():
            within(patience, what, check)


def _check_seeds(make: SamplerMaker, space: Space) -> None:
    one, two, other = (Desk(make, space, IDS, seed).run(_TRIALS) for seed in (0, 0, 1))
    for number, (first, second) in enumerate(zip(one, two, strict=True)):
        assert first == second, (
            f"the same seed must give the same study, but trial {number} is {first} and {second}"
        )
    assert one != other, "another seed must give another study"


def _check_resumes(make: SamplerMaker, space: Space) -> None:
    unbroken = Desk(make, space, IDS, 0).run(_TRIALS)
    broken = Desk(make, space, IDS, 0).run(_TRIALS, fresh=True)
    for number, (one, two) in enumerate(zip(unbroken, broken, strict=True)):
        assert one == two, (
            f"a fresh sampler must go on with a study as the one before it would have, but trial "
            f"{number} is {one} and {two}"
        )


def _check_new(make: SamplerMaker, space: Space) -> None:
    for seed in range(2):
        pairs = Desk(make, space, IDS, seed).run(2 * _TRIALS)
        for number, pair in enumerate(pairs):
            assert pair not in pairs[:number], (
                f"what was measured must not be proposed again: trials {pairs.index(pair)} and "
                f"{number} are both {pair}"
            )


def _check_pending(make: SamplerMaker, space: Space) -> None:
    for told in (0, _TRIALS):
        desk = Desk(make, space, IDS, 0)
        desk.run(told)
        trials = [desk.ask("while others run") for _ in range(_AT_ONCE)]
        pairs = [desk.pair(trial) for trial in trials]
        assert len(set(pairs)) == _AT_ONCE, (
            f"what is being measured must not be proposed again: after {told} trials {_AT_ONCE} "
            f"workers at once got {len(set(pairs))} different proposals"
        )
        for trial in reversed(trials):
            desk.tell(trial)
        desk.run(2)


def _check_recommends(make: SamplerMaker, space: Space) -> None:
    """Recommendations are about what was measured, of nothing there are none."""
    desk = Desk(make, space, IDS, 0)
    sampler = desk.sampler
    if not isinstance(sampler, ProposingSampler):
        return
    assert sampler.recommend([]) == [], "without trials there is nothing to recommend"
    measured = {choice for choice, _ in desk.run(_TRIALS)}
    desk.ask("after trials that went well")  # running, so not measured
    advice = [estimate.choice for estimate in sampler.recommend(sampler.history(desk.study))]
    assert len(set(advice)) == len(advice), "a prompt must be recommended once"
    assert set(advice) <= measured, "only prompts that were measured can be recommended"
    assert advice, "of measured prompts at least one must be recommended"


def _check_failures(make: SamplerMaker, space: Space) -> None:
    desk = Desk(make, space, IDS, 0)

    def fail(trial: optuna.Trial) -> None:
        desk.study.tell(trial, state=TrialState.FAIL)

    def prune(trial: optuna.Trial) -> None:
        desk.study.tell(trial, state=TrialState.PRUNED)

    def nan(trial: optuna.Trial) -> None:
        desk.study.tell(trial, float("nan"))

    ends: dict[str, Callable[[optuna.Trial], None]] = {
        "after a trial that failed": fail,
        "after a value that is not a number": nan,
        "after a trial without any verdict": partial(desk.tell_verdicts, missing=1),
        "after a trial with missing verdicts": partial(desk.tell_verdicts, missing=2),
        "after a trial that was stopped without a value": prune,
    }
    for _ in range(2):  # first with nothing else to go by
        for when, end in ends.items():
            end(desk.ask("after trials without a value"))
            desk.tell(desk.ask(when))
    desk.ask("beside a trial that never ends")
    desk.run(_TRIALS)


def _check_tiny(make: SamplerMaker) -> None:
    spaces = {
        "where each dimension has one choice": small_space(1, 1, 1),
        "where K is 0": small_space(0, 0, 0, choices=2),
        "where K may be 0": small_space(3, 0, 2),
        "where the pool is as large as K": small_space(3, 3, 3, choices=2),
    }
    for where, space in spaces.items():
        for ids in (IDS, IDS[:1]):
            desk = Desk(make, space, ids, 0)
            for _ in range(_AT_ONCE):
                desk.tell(desk.ask(where if len(ids) > 1 else f"{where}, with a single example"))
    desk = Desk(make, small_space(12, 1, 3, choices=2), IDS[:1], 0)
    for _ in range(_TRIALS):
        desk.tell(desk.ask("with a single example"))


def _check_exhausted(make: SamplerMaker, *, repeats: bool) -> None:
    for seed in range(3):
        desk = Desk(make, small_space(3, 1, 2), IDS[:16], seed)
        total = 9 * desk.count  # three single exemplars, and six ordered pairs
        pairs = desk.run(total + _AT_ONCE)
        if not repeats:
            new = len(set(pairs[:total]))
            assert new == total, (
                "what was measured must not be proposed again while there is something new: of "
                f"{total} possible trials the first {total} are {new} different ones"
            )


def _check_learns(make: SamplerMaker) -> None:
    space = small_space(12, 1, 3, choices=2)
    choices, rng, landscape = Choices(space), np.random.default_rng(0), Landscape(space, 0)
    plain = [landscape.quality(choices.random(rng)) for _ in range(1000)]
    late: list[float] = []
    for seed in range(3):
        pairs = Desk(make, space, IDS, seed).run(3 * _TRIALS)
        late += [landscape.quality(choice) for choice, _ in pairs[-_TRIALS:]]
    gain = (statistics.fmean(late) - statistics.fmean(plain)) / statistics.pstdev(plain)
    assert gain > 0.5, (  # noqa: PLR2004 - four standard errors of three times 24 draws
        f"a sampler must do better than random on an easy additive landscape: its last {_TRIALS} of "
        f"{3 * _TRIALS} proposals are better by {gain:.2f} standard deviations"
    )


def _check_quick(make: SamplerMaker, space: Space, seconds: float) -> None:
    desk = Desk(make, space, IDS, 0)
    desk.study.add_trials(list(_told(space, desk)))
    times = []
    for _ in range(3):
        start = time.perf_counter()
        trial = desk.ask(f"with {_ROWS} told trials")
        times.append(time.perf_counter() - start)
        desk.tell(trial)
    assert min(times) <= seconds, (
        f"an ask must take at most {seconds:g} s with {_ROWS} told trials, it took {min(times):.3f} s"
    )


def _told(space: Space, desk: Desk) -> Iterator[optuna.trial.FrozenTrial]:
    """Random prompts on random blocks."""
    choices, rng = Choices(space), np.random.default_rng(0)
    for number in range(_ROWS):
        choice = choices.random(rng)
        params = choices.write(choice)
        if BLOCK in desk.dimensions:
            params[BLOCK] = int(rng.integers(desk.count))
        yield create_trial(
            params=params,
            distributions=desk.dimensions,
            value=desk.landscape.value(number, choice),
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Optuna from telling of each trial, and of values that are not numbers."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning, module="optuna")
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
