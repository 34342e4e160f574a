"""Promises of icl_align.search.sweep, samplers and study.

Run as a script (`test_sweep.py URL LOG`), this file is the sweep that its own test kills.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution
from optuna.samplers import RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from icl_align.engines import ContextOverflowError
from icl_align.errors import UserError
from icl_align.evaluate import EngineEvaluator, Evaluator
from icl_align.ledger import Ledger, sqlite_url
from icl_align.prompt import FORMATS, Prompt
from icl_align.search import samplers
from icl_align.search.study import TrialRecord, exclusive, opened_study, read_trials
from icl_align.search.sweep import Progress, Sweep, run_sweep
from icl_align.space import Space
from icl_align.types import Decoding, Example, Response, Score

SPACE = Space(
    systems=("Be kind.", "Be brief.", "Be loud."),
    pool=tuple(Example(f"Exemplar {i}?", f"Answer {i}.") for i in range(8)),
    k_min=0,
    k_max=3,
    formats=(FORMATS["block"], FORMATS["colon"]),
    temperatures=(0.0, 0.5),
    decoding=Decoding(max_tokens=8),
)
EXAMPLES = [Example(f"Question {i}?", str(i), id=f"q{i}") for i in range(12)]
CHUNK, TRIALS = 4, 16


def number_of(text: str) -> float:
    """A number in [0, 1) that looks random and depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32


@dataclass
class SlowEngine:
    """Answers a prompt with its number, slowly, and logs a line per generation."""

    log: Path
    seconds: float = 0.0
    fingerprint: str = "slow-1"
    name: str = "slow"

    def generate(
        self, prompts: Sequence[str], *, stop: Sequence[str], decoding: Decoding
    ) -> list[Response]:
        with self.log.open("a") as file:
            file.writelines(f"{decoding.temperature} {prompt!r}\n" for prompt in prompts)
        time.sleep(self.seconds)
        return [Response(str(number_of(prompt)), 3, "stop", prompt_tokens=9) for prompt in prompts]


@dataclass
class ReadingScorer:
    """Scores the number it reads."""

    fingerprint: str = "reading-1"
    name: str = "reading"

    def score(self, examples: Sequence[Example], responses: Sequence[Response]) -> list[Score]:
        return [Score(float(response.text), {"half": 0.5}) for response in responses]


def slow_sweep(url: str, log: Path, *, seconds: float = 0.0, trials: int = TRIALS) -> Sweep:
    """The sweep that is killed: an engine, a scorer and a ledger in one database with the study."""
    ledger = Ledger(url)
    evaluator = EngineEvaluator(SlowEngine(log, seconds), ReadingScorer(), ledger, chunk=CHUNK)
    warm = [
        SPACE.build(
            dict.fromkeys(SPACE.distributions(), 0) | {"format": "block", "temperature": 0.0}
        )
    ]
    try:
        return run_sweep(
            SPACE,
            EXAMPLES,
            evaluator,
            url=url,
            trials=trials,
            seed=0,
            warm_start=warm,
            sampler="tpe",
        )
    finally:
        ledger.close()


def by_prompt(prompt: Prompt, examples: Sequence[Example]) -> list[Score]:
    """An evaluator that is a plain function."""
    return [Score(number_of(prompt.render(example))) for example in examples]


def sweep(url: str, evaluator: Evaluator = by_prompt, **changes: Any) -> Sweep:
    """A short sweep with a random sampler, changed where a test says so."""
    settings: dict[str, Any] = {"trials": 4, "seed": 0, "sampler": samplers.random} | changes
    space = settings.pop("space", SPACE)
    examples = settings.pop("examples", EXAMPLES)
    return run_sweep(space, examples, evaluator, url=url, **settings)


def story(result: Sweep) -> list[tuple[Any, ...]]:
    """What must not depend on how often a run was killed."""
    return [
        (t.number, t.state, dict(t.params), t.evaluation and t.evaluation.scores, t.note)
        for t in result.trials
    ]


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A run that does not exist yet."""
    return sqlite_url(tmp_path / "run.db")


def test_killed_three_times_is_the_same_study(tmp_path: Path) -> None:
    """SIGKILL at random moments changes no trial, and loses at most the chunk in flight."""
    unbroken = slow_sweep(sqlite_url(tmp_path / "unbroken.db"), tmp_path / "unbroken.log")
    url, log = sqlite_url(tmp_path / "killed.db"), tmp_path / "killed.log"
    log.touch()
    root = Path(__file__).parents[1]
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    chance = random.Random(0)
    for _ in range(3):
        command = [sys.executable, __file__, url, str(log)]
        process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path})
        goal = len(log.read_text().splitlines()) + chance.randint(1, 50)
        while len(log.read_text().splitlines()) < goal and process.poll() is None:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.1))
        assert process.poll() is None, "the sweep ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert 0 < len(read_trials(url)) < TRIALS
    continued = slow_sweep(url, log)
    assert story(continued) == story(unbroken)
    times = Counter(log.read_text().splitlines())
    assert set(times) == set((tmp_path / "unbroken.log").read_text().splitlines())
    assert sum(times.values()) - len(times) <= 3 * CHUNK


class InterruptedSampler(RandomSampler):
    """Draws as the random sampler does, but is interrupted at one dimension."""

    def __init__(self, seed: int, at: str, fuse: list[int]) -> None:
        super().__init__(seed)
        self.at, self.fuse = at, fuse

    def sample_independent(
        self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution
    ) -> Any:
        if name == self.at:
            self.fuse[0] -= 1
            if self.fuse[0] == 0:
                raise KeyboardInterrupt
        return super().sample_independent(study, trial, name, distribution)


@pytest.mark.parametrize("at", ["system", "slot_2", "k"])
def test_interrupted_inside_a_trial_is_the_same_study(tmp_path: Path, at: str) -> None:
    """A trial cut off between two dimensions comes out as it would have."""

    def factory(fuse: list[int]) -> samplers.SamplerFactory:
        return lambda seed: InterruptedSampler(seed, at, fuse)

    unbroken = sweep(sqlite_url(tmp_path / "a.db"), sampler=factory([99]), trials=5)
    url = sqlite_url(tmp_path / "b.db")
    cut_off = sweep(url, sampler=factory([3]), trials=5)
    assert cut_off.interrupted
    assert [trial.state for trial in cut_off.trials] == ["complete", "complete", "running"]
    continued = sweep(url, sampler=factory([99]), trials=5)
    assert not continued.interrupted
    assert story(continued) == story(unbroken)


def test_measured_but_not_told_is_not_measured_again(tmp_path: Path, url: str) -> None:
    """A trial cut off after its scores were written is told with those scores."""
    unbroken = sweep(sqlite_url(tmp_path / "unbroken.db"))

    def stopping(prompt: Prompt, examples: Sequence[Example]) -> list[Score]:
        raise KeyboardInterrupt

    sweep(url, stopping)
    with opened_study(url, "sweep", create=False) as study:
        cut_off = optuna.trial.Trial(study, study.trials[0]._trial_id)
        cut_off.set_user_attr("trial", unbroken.trials[0].to_json())
    asked = []

    def counting(prompt: Prompt, examples: Sequence[Example]) -> list[Score]:
        asked.append(prompt)
        return by_prompt(prompt, examples)

    assert story(sweep(url, counting)) == story(unbroken)
    assert len(asked) == 3


def test_interrupt_leaves_a_usable_result(url: str) -> None:
    """Ctrl-C while measuring ends the sweep with what there is; starting again finishes it."""
    calls = []

    def interrupted(prompt: Prompt, examples: Sequence[Example]) -> list[Score]:
        calls.append(prompt)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return by_prompt(prompt, examples)

    result = sweep(url, interrupted)
    assert result.interrupted and result.best is not None
    assert [trial.state for trial in result.trials] == ["complete", "complete", "running"]
    assert [trial.state for trial in sweep(url).trials] == ["complete"] * 4


def test_same_seed_same_study(tmp_path: Path) -> None:
    """Seed 0 twice gives the same trials, seed 1 others, with TPE beyond its start-up."""
    runs = [
        sweep(sqlite_url(tmp_path / f"{i}.db"), sampler=samplers.tpe, seed=seed, trials=14)
        for i, seed in enumerate((0, 0, 1))
    ]
    assert story(runs[0]) == story(runs[1]) != story(runs[2])


def test_trials_are_a_total(url: str) -> None:
    """Going on to the number there is does nothing; to more, only what is missing."""
    told: list[TrialRecord] = []

    def on_trial(progress: Progress) -> None:
        told.append(progress.trial)

    first = sweep(url, on_trial=on_trial)
    assert story(sweep(url, on_trial=on_trial)) == story(first)
    assert len(told) == 4
    more = sweep(url, trials=6, on_trial=on_trial)
    assert [trial.number for trial in told] == list(range(6))
    assert story(more)[:4] == story(first)
    assert tuple(told) == more.trials


def test_a_drawn_seed_is_kept(url: str) -> None:
    """Without a seed one is drawn, recorded, and taken up again."""
    first = sweep(url, seed=None, trials=2)
    assert sweep(url, seed=None).seed == first.seed
    with pytest.raises(UserError, match="another seed"):
        sweep(url, seed=first.seed + 1)


def test_a_record_is_self_contained(url: str, tmp_path: Path) -> None:
    """A trial read back from the database holds its prompt, every score, and what it cost."""
    result = slow_sweep(url, tmp_path / "log", trials=3)
    trials = read_trials(url)
    assert trials == result.trials
    for trial in trials:
        assert trial.evaluation is not None
        assert trial.evaluation.prompt.digest == SPACE.build(trial.params).digest
        assert trial.evaluation.ids == tuple(example.id for example in EXAMPLES)
        assert trial.evaluation.scores[0].aspects == {"half": 0.5}
        assert (trial.usage.paid, trial.usage.cached, trial.usage.prompt_tokens) == (12, 0, 108)
        assert trial.seconds > 0
    means = [trial.mean or 0 for trial in trials]
    best = trials[means.index(max(means))]
    assert result.best is not None
    assert (result.best.number, result.best.evaluation) == (best.number, best.evaluation)
    assert (result.best.estimate, result.best.complete) == (best.mean, True)


def test_the_same_prompt_is_not_measured_again(url: str) -> None:
    """Where points coincide, the first one's scores stand for the others and nothing is asked."""
    tiny = Space(("a",), SPACE.pool[:2], 1, 1, (FORMATS["block"],))
    calls: list[str] = []

    def counting(prompt: Prompt, examples: Sequence[Example]) -> list[Score]:
        calls.append(prompt.digest)
        return by_prompt(prompt, examples)

    result = sweep(url, counting, space=tiny, trials=8)
    assert sorted(calls) == sorted(set(calls)) and len(calls) == 2
    assert sum(trial.note.startswith("same prompt as trial") for trial in result.trials) == 6


def test_missing_verdicts_of_a_twin_are_asked_for(url: str) -> None:
    """A repeated prompt is measured only where it has no verdict yet."""
    tiny = Space(("a",), (), 0, 0, (FORMATS["block"], FORMATS["colon"]))
    asked: list[int] = []

    def flaky(prompt: Prompt, examples: Sequence[Example]) -> list[Score]:
        asked.append(len(examples))
        first_time = len(examples) == len(EXAMPLES)
        return [Score(None if first_time and e.id == "q1" else 0.5) for e in examples]

    result = sweep(url, flaky, space=tiny, trials=8)
    assert sorted(asked) == [1, 1, 12, 12]
    assert {trial.evaluation.missing for trial in result.trials if trial.evaluation} == {0, 1}


def test_no_verdict_is_a_failed_trial(url: str) -> None:
    """Without any verdict a trial fails with the reason; with some, it counts those."""

    def partly(prompt: Prompt, examples: Sequence[Example]) -> list[Score]:
        if prompt.system == "Be kind.":
            return [Score(None, note="the judge is away")] * len(examples)
        return [Score(0.5 if example.id == "q0" else None) for example in examples]

    result = sweep(url, partly, trials=10)
    failed = [trial for trial in result.trials if trial.state == "fail"]
    complete = [trial for trial in result.trials if trial.state == "complete"]
    assert failed and complete and len(failed) + len(complete) == 10
    assert all(trial.mean is None for trial in failed)
    assert failed[0].evaluation and failed[0].evaluation.scores[0].note == "the judge is away"
    assert complete[0].evaluation
    assert (complete[0].mean, complete[0].evaluation.missing) == (0.5, 11)


def test_a_prompt_too_long_fails_alone(url: str) -> None:
    """A point whose prompt overflows the context fails; the sweep goes on."""

    def narrow(prompt: Prompt, examples: Sequence[Example]) -> list[Score]:
        if len(prompt.exemplars) > 1:
            raise ContextOverflowError("prompt of 900 tokens, context of 512")
        return by_prompt(prompt, examples)

    result = sweep(url, narrow, trials=8)
    failed = [trial.evaluation for trial in result.trials if trial.state == "fail"]
    assert 0 < len(failed) < 8
    assert failed[0] and "context of 512" in failed[0].scores[0].note


def test_an_error_of_the_evaluator_is_not_swallowed(url: str) -> None:
    """A bug ends the sweep with its own error; the trial is taken up again later."""

    def broken(prompt: Prompt, examples: Sequence[Example]) -> list[Score]:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        sweep(url, broken)
    assert [trial.state for trial in sweep(url).trials] == ["complete"] * 4


def test_warm_starts_come_first_and_once(url: str) -> None:
    """Warm starts are the first trials, in order, also when the run is continued."""
    low = dict.fromkeys(SPACE.distributions(), 0) | {"format": "block", "temperature": 0.0}
    warm = [SPACE.build(low | {"system": i, "k": i}) for i in (2, 1, 0)]
    sweep(url, warm_start=warm, trials=2)
    result = sweep(url, warm_start=warm, trials=5)
    digests = [t.evaluation.prompt.digest for t in result.trials if t.evaluation]
    assert len(digests) == 5 and digests[:3] == [prompt.digest for prompt in warm]
    with pytest.raises(UserError, match="another warm start"):
        sweep(url, warm_start=warm[:1])
    with pytest.raises(UserError, match=r"not in the space: system 'Be new.'"):
        sweep(url, warm_start=[replace(warm[0], system="Be new.")])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, r"run\.db was started with another seed \(0, now 1\)"),
        ({"space": replace(SPACE, k_max=2)}, "another space"),
        ({"examples": EXAMPLES[:-1]}, "another examples"),
        ({"sampler": samplers.tpe}, r"another sampler \(random, now tpe\)"),
    ],
)
def test_refuses_to_mix_studies(url: str, changes: dict[str, Any], message: str) -> None:
    """What a study was started with cannot change under it; the run stays as it is."""
    before = sweep(url)
    with pytest.raises(UserError, match=message):
        sweep(url, trials=9, **changes)
    assert read_trials(url) == before.trials


def test_refuses_another_scorer(url: str, tmp_path: Path) -> None:
    """Scores of two scorers are never told to one study."""
    engine = SlowEngine(tmp_path / "log")
    sweep(url, EngineEvaluator(engine, ReadingScorer()))
    with pytest.raises(UserError, match=r"another scorer \(reading-1, now reading-2\)"):
        sweep(url, EngineEvaluator(engine, ReadingScorer("reading-2")))


def test_one_writer_at_a_time(url: str) -> None:
    """A second process is kept out while the first one works, and let in afterwards."""
    with exclusive(url), pytest.raises(UserError, match=r"another process .*run\.db; wait"):
        sweep(url)
    assert len(sweep(url).trials) == 4


def test_optuna_stays_quiet_and_as_it_was(url: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing is printed, and Optuna's verbosity is restored."""
    before = optuna.logging.get_verbosity()
    sweep(url, sampler=samplers.tpe, trials=12)
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr() == ("", "")


def test_optuna_reads_the_study(url: str) -> None:
    """The study is an ordinary one: maximised, with a best trial, beside the ledger's tables."""
    result = sweep(url)
    with opened_study(url, "sweep", create=False) as study:
        assert result.best is not None
        assert (study.best_value, study.best_trial.number) == (result.best.mean, result.best.number)


def test_reading_makes_no_run(tmp_path: Path) -> None:
    """A run that is not there is told, and not made by looking."""
    with pytest.raises(UserError, match=r"there is no run at .*none.db"):
        read_trials(sqlite_url(tmp_path / "none.db"))
    assert not (tmp_path / "none.db").exists()
    Ledger(sqlite_url(tmp_path / "ledger.db")).close()
    with pytest.raises(UserError, match=r"ledger\.db holds no run named 'sweep'"):
        read_trials(sqlite_url(tmp_path / "ledger.db"))


def test_bad_places_are_one_line(tmp_path: Path) -> None:
    """A missing folder and a file that is no database are told with the path."""
    with pytest.raises(UserError, match=r"cannot use the database .*nowhere/run.db: its folder"):
        sweep(sqlite_url(tmp_path / "nowhere" / "run.db"))
    (tmp_path / "notes.txt").write_text("notes " * 500)
    with pytest.raises(UserError, match=r"notes\.txt: file is not a database"):
        sweep(sqlite_url(tmp_path / "notes.txt"))
    with pytest.raises(UserError, match=r"must look like sqlite:.*, got 'run\.db'"):
        sweep("run.db")
    with pytest.raises(UserError, match="at least one development example"):
        sweep(sqlite_url(tmp_path / "run.db"), examples=[])


def test_a_foreign_study_is_left_alone(url: str) -> None:
    """A study that something else filled is refused."""
    optuna.create_study(storage=url, study_name="sweep").optimize(lambda trial: 1.0, n_trials=1)
    with pytest.raises(UserError, match=r"'sweep' in .*run\.db was not made by icl_align"):
        sweep(url)


def test_seeds_of_trials_differ_and_repeat() -> None:
    """Each trial has its own seed, a function of the experiment's and its number."""
    seeds = {samplers.trial_seed(seed, number) for seed in range(3) for number in range(50)}
    assert len(seeds) == 150 and all(0 <= seed < 2**31 for seed in seeds)
    assert samplers.trial_seed(0, 7) == samplers.trial_seed(0, 7)


def test_ones_own_sampler(url: str, tmp_path: Path) -> None:
    """A sampler is named by module or file, and drives a sweep."""
    file = tmp_path / "mine.py"
    file.write_text(
        "import optuna\ndef mine(seed):\n    return optuna.samplers.RandomSampler(seed)\n"
    )
    result = sweep(url, sampler=samplers.load_sampler(f"{file}:mine"))
    other = sqlite_url(tmp_path / "other.db")
    named = sweep(other, sampler=samplers.load_sampler("optuna.samplers:RandomSampler"))
    assert story(named) == story(result)
    assert story(sweep(sqlite_url(tmp_path / "third.db"), sampler="random")) == story(result)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tpo", "one of structured, tpe, .*, or 'module:attr'"),
        ("nowhere.at_all:x", "cannot import the sampler module 'nowhere.at_all'"),
        ("nowhere.py:x", r"the sampler file nowhere\.py does not exist"),
        ("optuna.samplers:Nothing", "has no callable 'Nothing'"),
        ("builtins:dict", "must give an optuna.samplers.BaseSampler .* it gave dict"),
        ("builtins:object", "cannot be called with a seed"),
    ],
)
def test_refuses_what_is_no_sampler(name: str, message: str) -> None:
    """Each way to misname a sampler is told."""
    with pytest.raises(UserError, match=message):
        samplers.load_sampler(name)


if __name__ == "__main__":
    slow_sweep(sys.argv[1], Path(sys.argv[2]), seconds=0.05)


def test_a_reader_makes_no_tables(tmp_path: Path) -> None:
    """Looking at a run in its first moments writes nothing that the sweep is about to write."""
    place = tmp_path / "run.db"
    with sqlite3.connect(place) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    with pytest.raises(UserError, match="holds no run named 'sweep'"):
        read_trials(sqlite_url(place))
    with sqlite3.connect(place) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master")]
    connection.close()
    assert names == ["mine"]
    assert not list(tmp_path.glob("other*"))
    other = opened_study(sqlite_url(tmp_path / "other.db"), "sweep", create=False)
    with pytest.raises(UserError, match="holds no run"), other:
        pass
    assert not list(tmp_path.glob("other*"))
