"""Promises of a sweep whose trials measure blocks: budgets, batches, racing, cancelling, being killed.

Run as a script (`test_sweep_blocks.py URL LOG`), this file is the sweep that its own test kills.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import pytest

from icl_align.errors import UserError
from icl_align.ledger import sqlite_url
from icl_align.prompt import FORMATS, Prompt
from icl_align.search.budget import Budget, Prices, Spent
from icl_align.search.ranking import front
from icl_align.search.samplers import RECIPES, Recipe, Task
from icl_align.search.structured import Settings, StructuredSampler
from icl_align.search.study import opened_study, read_trials
from icl_align.search.sweep import Progress, Sweep, read_ranking, run_sweep
from icl_align.space import Space
from icl_align.types import Example, Score, Usage

SPACE = Space(
    systems=("Be kind.", "Be brief.", "Be loud."),
    pool=tuple(Example(f"Exemplar {i}?", f"Answer {i}." * (1 + i)) for i in range(12)),
    k_min=1,
    k_max=3,
    formats=(FORMATS["block"], FORMATS["colon"]),
)
EXAMPLES = [Example(f"Question {i}?", str(i), id=f"q{i}") for i in range(40)]


def plain(task: Task) -> StructuredSampler:
    """Our sampler without embeddings, which need a model."""
    return StructuredSampler(
        task.space,
        ids=task.ids,
        seed=task.seed,
        generations=task.generations,
        settings=Settings(block=8, deck=8),
        goal=task.goal,
    )


STRUCTURED = Recipe("plain", plain)


def noise(text: str) -> float:
    """A number in [0, 1) that looks random and depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32


@dataclass
class Landscape:
    """Scores by who is in the prompt, and keeps what it was asked."""

    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    log: Path | None = None
    seconds: float = 0.0

    def quality(self, prompt: Prompt) -> float:
        """The mean that a prompt would have over very many examples."""
        good = sum(int(e.query.split()[1].rstrip("?")) for e in prompt.exemplars)
        return 0.3 + 0.01 * good + 0.1 * (prompt.system == "Be brief.")

    def __call__(self, prompt: Prompt, examples: Sequence[Example]) -> list[Score]:
        for example in examples:
            self.asked[prompt.digest, example.id] += 1
        if self.log:
            with self.log.open("a") as file:
                file.writelines(f"{prompt.digest} {example.id}\n" for example in examples)
        time.sleep(self.seconds)
        return [
            Score(
                self.quality(prompt) + 0.2 * (noise(prompt.digest + example.id) - 0.5),
                {"length": float(len(prompt.exemplars))},
            )
            for example in examples
        ]


def sweep(evaluator: Any = None, **changes: Any) -> Sweep:
    """A sweep in memory with our sampler, changed where a test says so."""
    settings: dict[str, Any] = {
        "url": "sqlite:///:memory:",
        "budget": Budget(generations=400),
        "sampler": STRUCTURED,
        "seed": 0,
    } | changes
    return run_sweep(SPACE, EXAMPLES, evaluator or Landscape(), **settings)


def story(result: Sweep) -> list[Any]:
    """What must not depend on how often a run was killed."""
    trials = [
        (t.number, t.state, dict(t.params), t.evaluation and t.evaluation.scores, t.measured)
        for t in result.trials
    ]
    ranking = [(item.number, item.estimate, item.sd) for item in result.ranking]
    return [*trials, *ranking]


ALL = [name for name in RECIPES if name != "structured"]


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("sampler", [STRUCTURED, *ALL])
def test_no_sampler_exceeds_its_generations(sampler: Any, batch: int) -> None:
    """The budget holds to the generation, is used, is what was asked, and nothing is asked twice."""
    land = Landscape()
    result = sweep(land, sampler=sampler, batch=batch)
    assert result.spent.generations == sum(land.asked.values()) <= 400
    assert result.spent.generations > 400 - 40
    assert max(land.asked.values()) == 1
    assert result.best is not None
    assert all(trial.state in ("complete", "partial") for trial in result.trials)


def test_our_sampler_beats_random_search() -> None:
    """At equal generations what it hands over is truly better, on each of four seeds."""
    land = Landscape()
    for seed in range(4):
        ours = sweep(seed=seed).best
        drawn = sweep(seed=seed, sampler="random").best
        assert ours is not None and drawn is not None
        assert land.quality(ours.prompt) > land.quality(drawn.prompt)


def test_a_whole_mean_is_never_a_partial_one(tmp_path: Path) -> None:
    """Only prompts measured on all examples are complete trials, also to Optuna's own eyes."""
    url = sqlite_url(tmp_path / "run.db")
    result = sweep(url=url)
    states = Counter(trial.state for trial in result.trials)
    assert states["complete"] >= 1 and states["partial"] > 20
    for trial in result.trials:
        assert trial.evaluation is not None
        whole = len(trial.evaluation.ids) == len(EXAMPLES)
        assert (trial.mean is not None) == whole == (trial.state == "complete")
    with opened_study(url, "sweep", create=False) as study:
        assert study.best_trial.state == optuna.trial.TrialState.COMPLETE
        best = max(t.mean for t in result.trials if t.mean is not None)
        assert study.best_value == best
        partial = next(t for t in study.trials if t.state == optuna.trial.TrialState.PRUNED)
        assert list(partial.intermediate_values) == [8]


def test_the_short_list_is_measured_on_everything() -> None:
    """What is handed over was measured on all examples, and its estimate is near its plain mean."""
    best = sweep(budget=Budget(generations=800)).best
    assert best is not None and best.complete and best.sd is not None
    assert best.evaluation.n == len(EXAMPLES)
    assert best.mean == pytest.approx(best.estimate, abs=4 * best.sd)


def test_the_ranking_is_published_and_read_again(tmp_path: Path) -> None:
    """Reading a run gives the ranking the sweep gave, and computes it where none is published."""
    url = sqlite_url(tmp_path / "run.db")
    result = sweep(url=url)
    read = read_ranking(url, SPACE, lambda: EXAMPLES, sampler=STRUCTURED)
    assert read == result.ranking
    with opened_study(url, "sweep", create=False) as study:
        study.set_user_attr("ranking", {"trials": -1, "rows": []})
    again = read_ranking(url, SPACE, lambda: EXAMPLES, sampler=STRUCTURED)
    assert again == result.ranking


def test_batches_are_measured_together(tmp_path: Path) -> None:
    """An evaluator that can is handed a batch's trials at once; another gets them one by one."""

    class Batching(Landscape):
        sizes: list[int] = []  # noqa: RUF012

        def many(self, requests: Sequence[tuple[Prompt, Sequence[Example]]]) -> list[list[Score]]:
            self.sizes.append(len(requests))
            return [self(*request) for request in requests]

    together = Batching()
    result = sweep(together, batch=6)
    assert story(result) == story(sweep(batch=6))
    assert max(together.sizes) == 6
    assert Counter(together.sizes)[6] > len(together.sizes) * 0.8


@pytest.mark.parametrize(
    ("limit", "spent"),
    [
        ({"trials": 7}, "trials"),
        ({"tokens": 1000}, "tokens"),
        ({"money": 0.5, "prices": Prices(generated=500.0)}, "money"),
        ({"seconds": 0.2}, "seconds"),
    ],
)
def test_each_kind_of_budget_ends_a_sweep(limit: dict[str, Any], spent: str) -> None:
    """A sweep ends at its limit, over it by one batch at most, and leaves a result."""

    class Costly(Landscape):
        usage = Usage()
        identity: dict[str, str] = {}  # noqa: RUF012

        def __call__(self, prompt: Prompt, examples: Sequence[Example]) -> list[Score]:
            type(self).usage += Usage(paid=len(examples), generated_tokens=10 * len(examples))
            return super().__call__(prompt, examples)

    result = sweep(Costly(seconds=0.01), budget=Budget(**limit), batch=2)
    used, most = getattr(result.spent, spent), limit[spent]
    assert used >= most
    if spent == "trials":
        assert used == most
    if spent == "tokens":
        assert used < most + 2 * 8 * 10
    assert result.best is not None
    assert not result.interrupted


def test_budgets_are_checked() -> None:
    """A budget without end, below nothing, or of money without prices is refused."""
    with pytest.raises(UserError, match="give at least one of trials, generations, tokens"):
        Budget()
    with pytest.raises(UserError, match="generations must be above 0, got 0"):
        Budget(generations=0)
    with pytest.raises(UserError, match="needs prices"):
        Budget(money=3.0)
    assert Budget(trials=10, generations=100).share(Spent(trials=1, generations=90)) == 0.9
    prices = Prices(prompt=1.0, reused=0.1, generated=2.0)
    usage = Usage(prompt_tokens=3_000_000, reused_tokens=1_000_000, generated_tokens=1_000_000)
    assert prices.of(usage) == pytest.approx(2 + 0.1 + 2)


def test_a_budget_can_be_raised(tmp_path: Path) -> None:
    """A run that has used up its budget goes on with a larger one, and keeps what it has."""
    url = sqlite_url(tmp_path / "run.db")
    first = sweep(url=url, budget=Budget(generations=96))
    more = sweep(url=url, budget=Budget(generations=480))
    assert more.spent.generations > 470
    assert more.trials[: len(first.trials)] == first.trials
    assert {trial.measured for trial in more.trials} == {6, 7}  # cut for 480 they would have 8


@pytest.mark.parametrize("name", ["tpe-racing", "tpe-wilcoxon", "random-racing"])
def test_racing_stops_losers_early(name: str) -> None:
    """Trials that lose are stopped on part of the examples; the winner was measured on all."""
    result = sweep(sampler=name, budget=Budget(generations=800))
    states = Counter(trial.state for trial in result.trials)
    assert states["partial"] >= 3 and states["complete"] >= 1
    assert len(result.trials) > 800 / len(EXAMPLES)
    assert result.best is not None and result.best.complete
    complete = [t.mean for t in result.trials if t.mean is not None]
    assert result.best.mean == max(complete)


def test_racing_goes_on_beside_missing_verdicts() -> None:
    """A prompt without a verdict here and there still is an incumbent that stops others."""

    class Gaps(Landscape):
        def __call__(self, prompt: Prompt, examples: Sequence[Example]) -> list[Score]:
            scores = super().__call__(prompt, examples)
            return [
                Score(None) if example.id in ("q3", "q30") else score
                for example, score in zip(examples, scores, strict=True)
            ]

    result = sweep(Gaps(), sampler="tpe-racing", budget=Budget(generations=800))
    states = Counter(trial.state for trial in result.trials)
    assert states["partial"] >= 3
    assert result.best is not None and result.best.evaluation.missing == 2


def test_a_first_interrupt_ends_the_batch(tmp_path: Path) -> None:
    """Ctrl-C lets the batch in flight end and tells it; going on gives the unbroken study."""
    heard: list[bool] = []
    unbroken = sweep(url=sqlite_url(tmp_path / "a.db"), batch=4)
    url = sqlite_url(tmp_path / "b.db")

    class Interrupting(Landscape):
        def __call__(self, prompt: Prompt, examples: Sequence[Example]) -> list[Score]:
            if sum(self.asked.values()) == 80:  # amid a batch
                os.kill(os.getpid(), signal.SIGINT)
            return super().__call__(prompt, examples)

    before = signal.getsignal(signal.SIGINT)
    stopped = sweep(Interrupting(), url=url, batch=4, on_cancel=lambda: heard.append(True))
    assert signal.getsignal(signal.SIGINT) is before
    assert stopped.interrupted and heard == [True]
    assert len(stopped.trials) == 12
    assert {trial.state for trial in stopped.trials} == {"partial"}
    assert stopped.best is not None
    assert story(sweep(url=url, batch=4)) == story(unbroken)


def test_a_second_interrupt_ends_at_once(tmp_path: Path) -> None:
    """The trials of a batch that is cut off are taken up again with the same parameters."""
    unbroken = sweep(url=sqlite_url(tmp_path / "a.db"), batch=4)
    url = sqlite_url(tmp_path / "b.db")

    class Impatient(Landscape):
        def __call__(self, prompt: Prompt, examples: Sequence[Example]) -> list[Score]:
            if sum(self.asked.values()) == 80:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)
            return super().__call__(prompt, examples)

    stopped = sweep(Impatient(), url=url, batch=4)
    assert stopped.interrupted
    assert [trial.state for trial in stopped.trials[8:]] == ["running"] * 4
    assert story(sweep(url=url, batch=4)) == story(unbroken)


@pytest.mark.parametrize("at", [9, 10, 11])
def test_cut_off_while_a_batch_is_proposed(tmp_path: Path, at: int) -> None:
    """A batch of which only some trials were proposed is completed as it would have been."""
    unbroken = sweep(url=sqlite_url(tmp_path / "a.db"), batch=4)
    url = sqlite_url(tmp_path / "b.db")

    class Fragile(StructuredSampler):
        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
            if trial.number == at:
                raise KeyboardInterrupt
            return super().sample_relative(study, trial, search_space)

    def fragile(task: Task) -> StructuredSampler:
        return Fragile(
            task.space,
            ids=task.ids,
            seed=task.seed,
            generations=task.generations,
            settings=Settings(block=8, deck=8),
        )

    cut_off = sweep(url=url, batch=4, sampler=Recipe("plain", fragile))
    assert cut_off.interrupted
    assert cut_off.trials[-1].state == "running"
    assert story(sweep(url=url, batch=4)) == story(unbroken)


def killed_sweep(url: str, log: Path, seconds: float) -> Sweep:
    """The sweep that is killed."""
    return sweep(Landscape(log=log, seconds=seconds), url=url, batch=3)


def test_killed_five_times_is_the_same_study(tmp_path: Path) -> None:
    """SIGKILL at random moments changes nothing; each repeats at most one batch of evaluations."""
    unbroken = killed_sweep(sqlite_url(tmp_path / "a.db"), tmp_path / "a.log", 0)
    url, log = sqlite_url(tmp_path / "b.db"), tmp_path / "b.log"
    log.touch()
    root = Path(__file__).parents[1]
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    chance = random.Random(1)
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, __file__, url, str(log)], env=os.environ | {"PYTHONPATH": path}
        )
        goal = len(log.read_text().splitlines()) + chance.randint(8, 60)
        while len(log.read_text().splitlines()) < goal and process.poll() is None:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.05))
        assert process.poll() is None, "the sweep ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert 0 < len(read_trials(url)) < len(unbroken.trials)
    assert story(killed_sweep(url, log, 0)) == story(unbroken)
    times = Counter(log.read_text().splitlines())
    assert set(times) == set((tmp_path / "a.log").read_text().splitlines())
    assert sum(times.values()) - len(times) <= 5 * 3 * 8


def test_progress_tells_the_share(tmp_path: Path) -> None:
    """Each trial is told with what is used up; the shares rise to the end."""
    told: list[Progress] = []
    sweep(url=sqlite_url(tmp_path / "run.db"), on_trial=told.append)
    shares = [progress.share for progress in told]
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert [p.spent.generations for p in told] == [8 * (i + 1) for i in range(len(told))]


def test_the_front_is_of_quality_and_length() -> None:
    """No prompt on it is beaten by a shorter one, and the best of all is its first."""
    ranking = sweep(budget=Budget(generations=1200)).ranking
    found = front(ranking)
    assert [item.length for item in found] == sorted((i.length for i in found), reverse=True)
    whole = [item for item in ranking if item.complete]
    assert found[0].estimate == max(item.estimate for item in whole)
    for item in found:
        assert not any(
            other.estimate > item.estimate and other.length <= item.length for other in whole
        )


if __name__ == "__main__":
    killed_sweep(sys.argv[1], Path(sys.argv[2]), 0.02)


def test_blocks_of_one_batch_add_up() -> None:
    """A prompt whose last blocks are measured in one batch is complete with the last of them."""
    found = sweep(budget=Budget(generations=600), batch=4)
    union: dict[str, set[str]] = {}
    whole = set[str]()
    for trial in found.trials:
        assert trial.evaluation is not None
        seen = union.setdefault(trial.evaluation.prompt.digest, set())
        seen |= set(trial.evaluation.ids)
        assert set(trial.evaluation.ids) == seen, "a trial holds all that is known of its prompt"
        assert (trial.state == "complete") == (len(seen) == len(EXAMPLES))
        whole |= {trial.evaluation.prompt.digest} if trial.state == "complete" else set()
    assert whole
