"""Promises of icl_align.contest: equal budgets, nothing paid twice, and numbers that can be checked by hand."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from icl_align.config import Experiment, load_experiment
from icl_align.contest import (
    Entrant,
    Handed,
    Outcome,
    Rules,
    Standing,
    compete,
    recorded,
    rules_of,
)
from icl_align.errors import UserError
from icl_align.prompt import FORMATS, Prompt
from icl_align.search.study import read_trials
from icl_align.show import contest_table
from icl_align.types import Decoding, Example, Usage

PARTS = """
import hashlib
import time
from icl_align.engines.scripted import ScriptedEngine
from icl_align.types import Score


def engine(name, log, seconds=0.0):
    def reply(prompt):
        with open(log, "a", encoding="utf-8") as file:
            file.write(repr(prompt) + "\\n")
        time.sleep(seconds)
        noise = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:4], "big") / 2**32
        return f"{0.2 + 0.2 * min(3, prompt.count('good')) + 0.1 * noise:.4f}"

    return ScriptedEngine(reply, name="contest")


class Reading:
    name = fingerprint = "reading-1"

    def score(self, examples, responses):
        return [Score(float(response.text)) for response in responses]
"""
TOML = """
version = 1
name = "small"
seed = 3
[model]
id = "any"
engine = "parts.py:engine"
options = { log = "LOG", seconds = 0.0 }
[data]
dev = "dev.jsonl"
confirm = "confirm.jsonl"
test = "test.jsonl"
[space]
systems = ["Be kind.", "Be brief."]
pool = "pool.jsonl"
k = [0, 3]
[objective.reading]
weight = 1.0
scorer = "parts.py:Reading"
[search]
sampler = "random"
generations = 96
batch = 2
[confirm]
baselines = { bare = "zero-shot" }
"""
OURS = ("random", "greedy", "tpe")
COMMAND = [sys.executable, "-c", "from icl_align.cli import main; main()"]


def written(folder: Path, *, seconds: float = 0.0, **replaced: str) -> Path:
    """Writes an experiment with an engine and a scorer of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "parts.py").write_text(PARTS, encoding="utf-8")
    for name, count in {"dev": 16, "confirm": 4, "test": 6}.items():
        rows = [{"id": f"q{i}", "query": f"What is {name} {i}?"} for i in range(count)]
        _lines(folder / f"{name}.jsonl", rows)
    worth = ["good" if i % 3 == 0 else "bad" for i in range(9)]
    _lines(
        folder / "pool.jsonl",
        [
            {"id": f"e{i}", "query": f"Case {i}?", "answer": f"{w} {i}."}
            for i, w in enumerate(worth)
        ],
    )
    text = TOML.replace("LOG", str(folder / "log")).replace("seconds = 0.0", f"seconds = {seconds}")
    for old, new in replaced.items():
        text = text.replace(old, new)
    (folder / "small.toml").write_text(text, encoding="utf-8")
    return folder / "small.toml"


def _lines(file: Path, rows: list[dict[str, str]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def loaded(folder: Path) -> Experiment:
    return load_experiment(written(folder))


def generated(folder: Path) -> list[str]:
    """What the engine was asked, one line each."""
    return (folder / "log").read_text(encoding="utf-8").splitlines()


def winners(outcome: Outcome) -> dict[tuple[str, int], tuple[str, float, float | None]]:
    return {
        (one.sampler, one.seed): (one.winner.prompt.digest, one.winner.reported, one.winner.mean)
        for one in outcome.entrants
    }


def test_all_have_the_same_budget_and_pay_for_nothing_twice(tmp_path: Path) -> None:
    """Each entrant measures its own budget's worth, whoever was there before; the engine works once."""
    rules = Rules((*OURS, "dspy-random"), generations=96, seeds=2)
    outcome = compete(loaded(tmp_path / "a"), rules, tmp_path / "a" / "out")
    assert [(one.sampler, one.seed) for one in outcome.entrants] == [
        (name, seed) for seed in (0, 1) for name in rules.samplers
    ]
    for one in outcome.entrants:
        assert 96 - 2 * 16 < one.generations <= 96
        assert one.thinking is not None and one.thinking > 0
        assert len(one.winner.values) == 10
    asked = generated(tmp_path / "a")
    assert len(asked) == len(set(asked)) == outcome.usage.paid
    assert outcome.usage.cached > 0
    others = Rules(("tpe", "greedy"), generations=96, seeds=2)
    apart = compete(loaded(tmp_path / "b"), others, tmp_path / "b" / "out")
    assert winners(apart).items() <= winners(outcome).items()


def test_a_contest_continues_where_it_was_cut_off(tmp_path: Path) -> None:
    """Cut off again and again, also in DSPy's own loop: the same winners, each generation paid once."""
    rules = Rules(("random", "dspy-random", "greedy"), generations=64, seeds=2)
    whole = compete(loaded(tmp_path / "a"), rules, tmp_path / "a" / "out")
    seen = 0
    for calls in (3, 20, 60):

        def cut_off(now: Standing, calls: int = calls) -> None:
            nonlocal seen
            seen += 1
            if seen % calls == 0:
                raise OSError(f"the machine is gone at {now.share}")

        with pytest.raises(OSError, match="the machine is gone"):
            compete(loaded(tmp_path / "b"), rules, tmp_path / "b" / "out", on_progress=cut_off)
    standings: list[Standing] = []
    again = compete(
        loaded(tmp_path / "b"), rules, tmp_path / "b" / "out", on_progress=standings.append
    )
    assert winners(again) == winners(whole)
    assert sorted(generated(tmp_path / "b")) == sorted(generated(tmp_path / "a"))
    assert not again.interrupted
    shares = [now.share for now in standings]
    assert shares == sorted(shares) and 0 < shares[0] < shares[-1] <= 1
    assert {now.total for now in standings} == {6}


@pytest.mark.parametrize("sampler", ["greedy", "dspy-mipro"])
def test_an_interrupt_keeps_what_has_ended(sampler: str, tmp_path: Path) -> None:
    """Ctrl-C ends the search under way, also one that is DSPy's; continued, all is as if unbroken."""
    rules = Rules(("tpe", sampler), generations=96, seeds=1)
    whole = compete(loaded(tmp_path / "a"), rules, tmp_path / "a" / "out")
    told: list[str] = []

    def press(now: Standing) -> None:
        if now.done == 1 and not told:
            os.kill(os.getpid(), signal.SIGINT)

    cut = compete(
        loaded(tmp_path / "b"),
        rules,
        tmp_path / "b" / "out",
        on_progress=press,
        on_cancel=lambda: told.append("cancelled"),
    )
    assert told == ["cancelled"]
    assert cut.interrupted
    assert [one.sampler for one in cut.entrants] == ["tpe"]
    assert len(generated(tmp_path / "b")) < len(generated(tmp_path / "a"))
    assert winners(compete(loaded(tmp_path / "b"), rules, tmp_path / "b" / "out")) == winners(whole)
    assert sorted(generated(tmp_path / "b")) == sorted(generated(tmp_path / "a"))


def test_entrants_can_be_added(tmp_path: Path) -> None:
    """A contest that has ended takes another sampler and another seed; what it has stays as it is."""
    experiment, out = loaded(tmp_path), tmp_path / "out"
    first = compete(experiment, Rules(("random",), 64, seeds=1), out)
    before = generated(tmp_path)
    again = compete(experiment, Rules(("random",), 64, seeds=1), out)
    assert again.usage.paid == 0
    assert (again.entrants, generated(tmp_path)) == (first.entrants, before)
    more = compete(experiment, Rules(("random", "greedy"), 64, seeds=2), out)
    assert len(more.entrants) == 4
    assert more.entrants[0] == first.entrants[0]
    cut = compete(experiment, Rules(("random", "greedy"), 64, seeds=2, points=2), out)
    assert cut.usage.paid > 0
    assert winners(cut) == winners(more)
    assert [one.thinking for one in cut.entrants] == [one.thinking for one in more.entrants]


@pytest.mark.parametrize("sampler", [*OURS, "halving", "evolution"])
def test_points_look_at_no_more_than_their_part(sampler: str, tmp_path: Path) -> None:
    """What would be handed over at a quarter was measured by then, and nothing later had a say."""
    out = tmp_path / "out"
    outcome = compete(loaded(tmp_path), Rules((sampler,), 128, seeds=1, points=4), out)
    (entrant,) = outcome.entrants
    assert [handed.share for handed in entrant.handed] == [0.25, 0.5, 0.75, 1.0]
    trials = read_trials(f"sqlite:///{out / 'contest.db'}", f"{sampler}-0")
    for handed in entrant.handed:
        assert 128 * handed.share - 2 * 16 < handed.generations <= 128 * handed.share
        spent, told = 0, []
        for trial in trials:
            spent += trial.measured
            if spent <= handed.generations:
                told.append(trial)
        known = {t.evaluation.prompt.digest: t.evaluation for t in told if t.evaluation}
        assert handed.prompt.digest in known
        assert handed.reported == pytest.approx(known[handed.prompt.digest].mean)
        if sampler in {"random", "tpe"}:
            assert handed.reported == pytest.approx(max(one.mean or 0.0 for one in known.values()))
    plain = compete(loaded(tmp_path / "b"), Rules((sampler,), 128, seeds=1), tmp_path / "b" / "out")
    assert winners(plain) == winners(outcome)


def test_a_warm_start_is_the_same_for_all(tmp_path: Path) -> None:
    """With it the hand-written prompt is every study's first trial; without it no study's."""
    pool = [Example(f"Case {i}?", f"{'good' if i % 3 == 0 else 'bad'} {i}.") for i in (4, 1)]
    hand = Prompt("Be brief.", tuple(pool), FORMATS["block"], Decoding())
    written(tmp_path)
    (tmp_path / "hand.txt").write_text(hand.to_text(), encoding="utf-8")
    text = (tmp_path / "small.toml").read_text(encoding="utf-8").replace("zero-shot", "hand.txt")
    (tmp_path / "small.toml").write_text(text, encoding="utf-8")
    experiment = load_experiment(tmp_path / "small.toml")
    for warm in (False, True):
        out = tmp_path / str(warm)
        assert (
            compete(experiment, Rules(("random", "greedy"), 64, 1, 1, warm), out).warm_start is warm
        )
        for name in ("random-0", "greedy-0"):
            first = read_trials(f"sqlite:///{out / 'contest.db'}", name)[0].evaluation
            assert first is not None
            assert (first.prompt.to_text() == hand.to_text()) is warm


def outcome_of(
    values: dict[str, list[list[float | None]]], seeds: int = 2, **baselines: list[float]
) -> Outcome:
    """An outcome of given verdicts, by sampler and seed."""
    prompt = Prompt("", (), FORMATS["block"], Decoding())
    entrants = tuple(
        Entrant(name, seed, 1, 7, 50, 1.0, 0.5, (Handed(1.0, 50, prompt, 0.9, tuple(rows[seed])),))
        for seed in range(seeds)
        for name, rows in values.items()
        if seed < len(rows)
    )
    return Outcome(
        folder=Path("out"),
        samplers=tuple(values),
        seeds=seeds,
        generations=50,
        warm_start=False,
        entrants=entrants,
        baselines={name: tuple(given) for name, given in baselines.items()},
        held_out={"test": 3},
        level=0.95,
        interrupted=len(entrants) < seeds * len(values),
        usage=Usage(paid=5),
    )


def test_the_numbers_are_what_they_say() -> None:
    """Means, differences and wins of a small contest, computed by hand; a missing verdict is no zero."""
    found = outcome_of(
        {"a": [[0.1, 0.2, 0.3], [0.5, 0.5, 0.5]], "b": [[0.3, 0.4, None], [0.5, 0.5, 0.5]]},
        hand=[0.4, 0.5, 0.6],
    ).to_json()
    a, b = found["samplers"]
    assert a["mean"] == pytest.approx(0.35)
    assert b["mean"] == pytest.approx(2.2 / 5)
    assert (a["difference"], a["wins"]) == (None, None)
    assert b["difference"]["mean"] == pytest.approx(0.4 / 5)
    assert b["difference"]["n"] == 5
    assert b["wins"] == {"won": 1, "tied": 1, "lost": 0}
    assert [one["missing"] for one in b["by_seed"]] == [1, 0]
    assert (b["reported"], b["generations"], b["trials"]) == (0.9, 50, 7)
    assert b["seconds"] == {"measuring": 2.0, "per_proposal": 0.5}
    (hand,) = found["baselines"]
    assert hand["mean"] == pytest.approx(0.5)
    assert hand["difference"]["mean"] == pytest.approx(0.15)
    assert "1 answers were not scored" in contest_table({**found, "figures": []})


def test_an_unfinished_contest_is_shown_as_far_as_it_is() -> None:
    """Differences are over the seeds that both have; with none, and with one seed, nothing is claimed."""
    half = outcome_of({"a": [[0.1, 0.2, 0.3], [0.0, 0.0, 0.0]], "b": [[0.2, 0.3, 0.4]], "c": []})
    found = json.loads(json.dumps(half.to_json(), allow_nan=False))
    _, b, c = found["samplers"]
    assert b["difference"]["mean"] == pytest.approx(0.1)
    assert (b["difference"]["low"], b["difference"]["high"]) == (None, None)
    assert (c["mean"], c["difference"], c["curve"]) == (None, None, [])
    table = contest_table(found)
    assert "+0.100 [?, ?]" in table
    assert "3 of 6 entrants have ended" in table
    one = contest_table(outcome_of({"a": [[0.1, 0.2, 0.3]]}, seeds=1).to_json())
    assert "nothing can be said about how a sampler varies" in one


def test_the_figure_can_be_read(tmp_path: Path) -> None:
    """SVG and PNG are written, whole, with every name, and the same bytes each time."""
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    outcome = compete(loaded(tmp_path), Rules(("random", "greedy"), 64, 2, 2), tmp_path / "out")
    found = recorded(outcome)
    svg, png = (Path(place) for place in found["figures"])
    texts = [element.text for element in ET.parse(svg).iter() if element.tag.endswith("text")]
    assert {"random", "greedy", "bare", "budget used, generations"} <= set(texts)
    height, width = imread(png).shape[:2]
    assert width > height > 100
    before = svg.read_bytes()
    recorded(outcome)
    assert svg.read_bytes() == before
    stored = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))
    assert stored == {"version": 1, **found}
    flat = recorded(replace(outcome, entrants=outcome.entrants[:1]))
    assert flat["figures"]


MISTAKES: dict[str, tuple[Callable[[Experiment], Any], str]] = {
    "nobody": (lambda e: rules_of(e, " , "), "a contest needs samplers"),
    "unknown": (lambda e: rules_of(e, "random,rondom"), "a sampler is one of .* got 'rondom'"),
    "twice": (lambda e: rules_of(e, "tpe,random,tpe"), "'tpe' is named twice"),
    "seeds": (lambda e: rules_of(e, "random", seeds=0), "seeds of a contest must be at least 1"),
    "points": (lambda e: rules_of(e, "random", points=0), "points of a contest must be"),
    "generations": (lambda e: rules_of(e, "random", generations=-3), "at least 1, got -3"),
    "no budget": (
        lambda e: rules_of(e.override(trials=5), "random"),
        r"\[search\] has none; add generations there, or give --generations",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told_before_anything_is_paid(mistake: str, tmp_path: Path) -> None:
    """Each has its message, and the engine is not asked."""
    ask, message = MISTAKES[mistake]
    with pytest.raises(UserError, match=message):
        ask(loaded(tmp_path))
    assert not (tmp_path / "log").exists()


def test_the_budget_is_the_experiments_unless_one_is_given(tmp_path: Path) -> None:
    """Names may have spaces around them."""
    experiment = loaded(tmp_path)
    assert rules_of(experiment, "tpe, random").samplers == ("tpe", "random")
    assert rules_of(experiment, "tpe").generations == 96
    assert rules_of(experiment, "tpe", generations=40).generations == 40


def test_another_contest_in_the_folder_is_refused(tmp_path: Path) -> None:
    """Another budget, warm start or engine would not be the same contest; a file is no folder."""
    out = tmp_path / "out"
    compete(loaded(tmp_path), Rules(("random",), 64, 1), out)
    before = (out / "entrants.json").read_bytes()
    for rules in (Rules(("random",), 80, 1), Rules(("random",), 64, 1, warm_start=True)):
        with pytest.raises(UserError, match=r"holds a contest with (generations|warm_start) ="):
            compete(loaded(tmp_path), rules, out)
    (tmp_path / "parts.py").write_text(PARTS.replace("reading-1", "reading-2"), encoding="utf-8")
    experiment = load_experiment(tmp_path / "small.toml")
    with pytest.raises(UserError, match="holds a contest with digests.scorer = "):
        compete(experiment, Rules(("random",), 64, 1), out)
    assert (out / "entrants.json").read_bytes() == before
    with pytest.raises(UserError, match="is a file; choose another --out"):
        compete(experiment, Rules(("random",), 64, 1), tmp_path / "small.toml")


def test_a_budget_for_less_than_one_prompt_is_refused(tmp_path: Path) -> None:
    """A sampler that measures whole prompts cannot start on a budget below the development examples."""
    with pytest.raises(UserError, match="'random' has no prompt with a verdict after 0 of 15"):
        compete(loaded(tmp_path), Rules(("random",), 15, 1), tmp_path / "out")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    """A file of another version, or a broken one, is refused by its name."""
    out, rules = tmp_path / "out", Rules(("random",), 64, 1)
    compete(loaded(tmp_path), rules, out)
    for text, message in (("{", "damaged"), ('{"version": 9}', "has version 9")):
        (out / "entrants.json").write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=f"entrants.json.*{message}"):
            compete(loaded(tmp_path), rules, out)


def command(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, "compare", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "200"},
    )


def test_the_verb(tmp_path: Path) -> None:
    """Interrupted it prints what there is and exits with 130; run again it ends, as a table or JSON."""
    file, out = written(tmp_path, seconds=0.01), tmp_path / "out"
    asked: list[str | Path] = [file, "--samplers", "random,greedy", "--seeds", "2", "--out", out]
    process = command(*asked, "--json")
    deadline = time.monotonic() + 60
    while not (out / "entrants.json").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "stopping when the batch in flight is done" in stderr
    part = json.loads(stdout)
    assert part["interrupted"] and 1 <= part["entrants"]["done"] < 4
    process = command(*asked, "--json")
    stdout, stderr = process.communicate(timeout=100)
    assert process.returncode == 0, stderr
    found = json.loads(stdout)
    assert {
        "contest",
        "generations",
        "seeds",
        "held_out",
        "samplers",
        "baselines",
        "figures",
    } <= set(found)
    assert found["held_out"] == {"confirm": 4, "test": 6}
    assert found["entrants"] == {"done": 4, "total": 4}
    keys = {"sampler", "mean", "reported", "difference", "wins", "generations", "seconds", "curve"}
    assert all(keys <= set(row) for row in found["samplers"])
    low, mean, high = (found["samplers"][1]["difference"][key] for key in ("low", "mean", "high"))
    assert low <= mean <= high and math.isfinite(mean)
    asked_once = generated(tmp_path)
    assert len(asked_once) == len(set(asked_once))
    process = command(*asked)
    stdout, stderr = process.communicate(timeout=100)
    assert process.returncode == 0, stderr
    assert "On 4 confirm and 6 test instructions, untouched by all searches" in stdout
    assert "minus random [95% interval]" in stdout
    assert "generations:  0 paid" in stdout


def test_the_verbs_mistakes_are_one_line(tmp_path: Path) -> None:
    """A bad option is one line on stderr and exit code 2; `--help` shows an example."""
    process = command(written(tmp_path), "--samplers", "random", "--seeds", "0")
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (2, "")
    assert stderr.strip() == "icl-align: seeds of a contest must be at least 1, got 0"
    stdout, _ = command("--help").communicate(timeout=60)
    assert "Example: icl-align compare" in " ".join(stdout.split())
