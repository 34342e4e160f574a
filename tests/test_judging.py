"""Judges at work: duels, scales, drafted questions, the best of several answers, passports of a sweep."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from judge_rules import fenced_texts, graded, keys_of, longest
from judge_server import ChatServer, chat_server
from small_run import small_experiment
from typer.testing import CliRunner

from icl_align.analysis.best_of import best_of
from icl_align.assemble import build_engine, build_objective
from icl_align.cli import app
from icl_align.config import bundled_experiment
from icl_align.data import read_examples
from icl_align.engines.scripted import ScriptedEngine
from icl_align.errors import UserError
from icl_align.evaluate import EngineEvaluator
from icl_align.judging.calibrate import calibrate, some_prompts
from icl_align.judging.duel import aligned, compared, read_answers
from icl_align.judging.remembered import RememberedJudge
from icl_align.ledger import Ledger, sqlite_url
from icl_align.models import bundled
from icl_align.passport.judges import load_judge
from icl_align.passport.sweeps import concerns, require
from icl_align.prompt import FORMATS, Prompt
from icl_align.scorers.judge_model import of_engine
from icl_align.scorers.pairwise import PairwiseJudge
from icl_align.scorers.questions import QuestionsScorer
from icl_align.types import Decoding, Example, Response, Score

SAID = (
    "I am sorry, I cannot help with that.",
    "Good question! It is round. 1. One. 2. Two. I hope this helps!",
    "yes yes yes yes yes yes yes yes yes yes yes yes yes yes yes yes yes yes",
)
PACK = Prompt("Be kind.", (), FORMATS["block"], Decoding(max_tokens=32))


def rule(asked: str) -> str:
    """A judge for everything: longer is better; two questions, of which one asks for the word yes."""
    texts = fenced_texts(asked)
    if "response_a" in texts:
        return longest(asked)
    if keys_of(asked) == ["questions"]:
        return json.dumps({"questions": ["Does it say yes?", "Is it there?"]})
    if "questions" in texts:
        said = "yes" if "yes" in texts["response"] else "no"
        return json.dumps(
            {"q1": {"reason": "r", "answer": said}, "q2": {"reason": "r", "answer": "yes"}}
        )
    return graded(lambda text: min(5, max(1, len(text) // 10)))(asked)


@pytest.fixture(scope="module")
def server() -> Iterator[ChatServer]:
    """A judge behind a real server."""
    with chat_server(rule) as made:
        yield made


def judge_file(folder: Path, server: ChatServer, scorer: str, **options: object) -> Path:
    """Writes a judge's TOML file."""
    lines = ["[judge]", f'scorer = "{scorer}"', "[judge.options]"]
    lines += [f"{name} = {json.dumps(value)}" for name, value in options.items()]
    lines += ["[judge.options.model]", 'name = "openai/rule"', f'base_url = "{server.url}"']
    file = folder / f"{scorer}.toml"
    file.write_text("\n".join(lines))
    return file


def answers(folder: Path, name: str, texts: dict[str, str]) -> Path:
    """Writes a file of answers by id."""
    file = folder / f"{name}.jsonl"
    rows = [{"id": key, "query": f"Question {key}?", "answer": text} for key, text in texts.items()]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def run(*arguments: str | Path, code: int = 0) -> str:
    """Runs a verb, and gives what it prints."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if code == 0 and done.exception is not None:
        raise done.exception
    assert done.exit_code == code
    return done.stdout


def test_a_duel_of_two_files(tmp_path: Path, server: ChatServer) -> None:
    """A win rate with its interval, the same at equal length, and what was left out."""
    long = {str(n): "word " * (3 + n) for n in range(12)}
    short = {str(n): "word" if n else "word " * 20 for n in range(1, 13)} | {"0": "word " * 20}
    a, b = answers(tmp_path, "a", long), answers(tmp_path, "b", short)
    judge = judge_file(tmp_path, server, "pairwise")
    found = json.loads(run("judge", "compare", a, b, "--judge", judge, "--json"))
    assert (found["instructions"], found["left_out"]) == (12, 1)
    assert found["win_rate"]["mean"] == pytest.approx(11 / 12)
    assert found["depends_on_order"] == 0.0
    assert 0 < found["length_controlled"]["lc_win_rate"] < 100
    shown = run("judge", "compare", a, b, "--judge", judge)
    assert "a wins 91.7 % against b" in shown
    assert "at equal length" in shown


def test_a_comparison_that_goes_on_pays_for_nothing_twice(tmp_path: Path) -> None:
    """Verdicts are kept as they come; a missing one is asked for again."""
    asked: list[str] = []

    def moody(text: str) -> str:
        asked.append(text)
        return "Hm." if "Question 7?" in text and len(asked) < 60 else longest(text)

    one = answers(tmp_path, "one", {str(n): "word " * (n + 2) for n in range(20)})
    two = answers(tmp_path, "two", {str(n): "word " * (22 - n) for n in range(20)})
    found = []
    for _ in range(2):
        ledger = Ledger(sqlite_url(tmp_path / "verdicts.db"))
        judge = PairwiseJudge(of_engine(ScriptedEngine(moody), attempts=1))
        found.append(compared([one, two], RememberedJudge(judge, ledger.notes)))
        ledger.close()
        asked += ["x"] * 60
    assert found[0]["win_rate"]["missing"] == 1
    assert found[1]["win_rate"]["missing"] == 0
    questions = [text for text in asked if text != "x"]
    assert len(questions) == 2 * 19 + 2


def test_a_knock_out_of_three_files(tmp_path: Path) -> None:
    """Strengths in the order of a judge's taste."""
    files = [
        answers(tmp_path, name, {str(n): "x" * (length + n) for n in range(20)})
        for name, length in (("short", 1), ("long", 90), ("middle", 45))
    ]
    judge = PairwiseJudge(of_engine(ScriptedEngine(longest)))
    found = compared(files, judge)
    assert [row["system"] for row in found["ranked"]] == ["long", "middle", "short"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no answers"),
        ("{", r"a\.jsonl:1: broken JSON"),
        ('{"query": "x"}', r'a\.jsonl:1: a line needs "query" and "answer"'),
        (
            '{"query": "x", "answer": "y"}\n{"query": "x", "answer": "z"}',
            r"a\.jsonl:2: 'x' occurs twice",
        ),
        ("[" * 50_000, r"a\.jsonl:1: broken JSON"),
        ('{"query": "x", "answer": "y", "tokens": "many"}', "must be a whole number, got 'many'"),
        ('{"query": "x", "answer": "y", "tokens": 1e400}', "must be a whole number, got inf"),
    ],
)
def test_mistakes_in_answers(tmp_path: Path, text: str, message: str) -> None:
    """Each names the line and the rule."""
    file = tmp_path / "a.jsonl"
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        read_answers(file)


def test_answers_that_do_not_belong_together(tmp_path: Path) -> None:
    """No instruction in common, or one id for two queries."""
    a = read_answers(answers(tmp_path, "a", {"1": "x"}))
    with pytest.raises(UserError, match="no instruction in common"):
        aligned({"a": a, "b": read_answers(answers(tmp_path, "b", {"2": "x"}))})
    other = {"1": (Example("Another?", id="1"), Response("x", 1, "stop"))}
    with pytest.raises(UserError, match="different queries"):
        aligned({"a": a, "b": other})
    with pytest.raises(UserError, match="two files or more"):
        compared([tmp_path / "a.jsonl"], PairwiseJudge(of_engine(ScriptedEngine(longest))))


def test_drafting_questions(tmp_path: Path, server: ChatServer) -> None:
    """Questions are written into the instructions as checks, where a person can mend them."""
    judge = judge_file(tmp_path, server, "questions")
    file = tmp_path / "dev.jsonl"
    file.write_text('{"query": "Say yes.", "id": "a"}\n{"query": "Say no.", "id": "b"}\n')
    to = tmp_path / "with.jsonl"
    found = json.loads(run("judge", "draft", file, "--judge", judge, "--to", to, "--json"))
    assert (found["questions"], found["without"]) == (4, 0)
    examples = read_examples(to)
    assert [check.values for check in examples[0].checks] == [
        ("Does it say yes?",),
        ("Is it there?",),
    ]


def test_the_best_of_several_answers_and_mending() -> None:
    """The kept answer is the best one; what is unmet is asked for again; another judge checks."""
    seen: list[str] = []

    def answer(prompt: str) -> str:
        seen.append(prompt)
        return "oh yes" if "It still lacks something" in prompt else "oh no"

    class Seeded(ScriptedEngine):
        """Says yes to the third sample of one question."""

        def generate(
            self, prompts: Sequence[str], *, stop: Sequence[str], decoding: Decoding
        ) -> list[Response]:
            made = super().generate(prompts, stop=stop, decoding=decoding)
            return [
                replace(r, text="yes indeed") if decoding.seed == 2 and "lucky" in p else r
                for p, r in zip(prompts, made, strict=True)
            ]

    class Words:
        """Checks only: counts words."""

        name = "words"
        fingerprint = "words"

        def score(self, examples: Sequence[Example], responses: Sequence[Response]) -> list[Score]:
            """A tenth per word."""
            del examples
            return [Score(min(1.0, len(r.text.split()) / 10)) for r in responses]

    examples = [Example("A lucky one?", id="a"), Example("A plain one?", id="b")]
    judge = QuestionsScorer(of_engine(ScriptedEngine(rule)))
    evaluator = EngineEvaluator(Seeded(answer), judge)
    plain = best_of(PACK, examples, evaluator, samples=3)
    assert [one.place for one in plain.picked] == [2, 0]
    assert plain.gains[0].gain.mean == pytest.approx(0.25)
    assert plain.gains[0].chosen_by_it
    mended = best_of(PACK, examples, evaluator, samples=3, rounds=1, check=Words())
    assert [one.responses[one.place].text for one in mended.picked] == ["yes indeed", "oh yes"]
    assert mended.gains[0].kept == 1.0
    assert [gain.judge for gain in mended.gains] == ["questions", "words"]
    assert mended.gains[1].gain.mean == pytest.approx(0.0)
    asked = [prompt for prompt in seen if "It still lacks something" in prompt]
    assert len(asked) == 1
    assert "- Does it say yes?" in asked[0]
    with pytest.raises(UserError, match="samples >= 1"):
        best_of(PACK, examples, evaluator, samples=0)


def test_refining_with_the_bundled_model(tmp_path: Path) -> None:
    """The verb on a real model and its checks: more samples, better answers by the checks."""
    judge = tmp_path / "checks.toml"
    judge.write_text('[judge]\nscorer = "checklist"\n')
    few = tmp_path / "few.jsonl"
    few.write_text("".join(bundled("test.jsonl").read_text().splitlines(keepends=True)[:24]))
    arguments = ("refine", bundled("baseline.txt"), "--judge", judge, "--input", few)
    with pytest.raises(UserError, match="no such file|is not|pack"):
        run(*arguments)
    from icl_align.pack import Pack

    pack = tmp_path / "pack.json"
    text = bundled("baseline.txt").read_text()
    prompt = Prompt.from_text(text, where="baseline", decoding=Decoding(max_tokens=48))
    Pack(prompt, model={"id": "bundled"}).save(pack)
    found = json.loads(run("refine", pack, *arguments[2:], "-n", "4", "--json"))
    (gain,) = found["gains"]
    assert gain["kept"] >= gain["first"]
    assert gain["gain"]["mean"] > 0.02
    assert found["generations"] <= 24 * 4
    assert len(found["answers"]) == 24


def test_measuring_the_scale_of_a_term(tmp_path: Path) -> None:
    """Scales of the bundled objective are measured, written, read by an experiment, and used."""
    experiment = bundled_experiment(0)
    evaluator = EngineEvaluator(
        ScriptedEngine(lambda prompt: SAID[len(prompt) % 3]), build_objective(experiment)
    )
    prompts = some_prompts(experiment, 4)
    assert len({prompt.digest for prompt in prompts}) == 4
    assert prompts == some_prompts(experiment, 4)
    found = calibrate(experiment, evaluator, terms=["checklist"], prompts=3, limit=20)
    assert set(found) == {"checklist"}
    assert found["checklist"].n == 60
    with pytest.raises(UserError, match="no term 'style'"):
        calibrate(experiment, evaluator, terms=["style"])


def test_a_flat_term_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    """It stays uncalibrated, and is named; where all are flat there is nothing to write."""
    flat = tmp_path / "flat.py"
    flat.write_text(
        "from icl_align.types import Score\n"
        "class Flat:\n"
        "    name = fingerprint = 'flat-1'\n"
        "    def score(self, examples, responses):\n"
        "        return [Score(0.5) for _ in responses]\n"
    )
    term = {"weight": 1, "scorer": f"{flat}:Flat"}
    reading = {"weight": 1, "scorer": f"{tmp_path / 'parts.py'}:Reading"}
    experiment = small_experiment(tmp_path, objective={"flat": term, "reading": reading})
    evaluator = EngineEvaluator(build_engine(experiment), build_objective(experiment))
    told: list[str] = []
    assert set(calibrate(experiment, evaluator, on_failure=told.append)) == {"reading"}
    assert len(told) == 1
    assert "'flat' stays as it is" in told[0]
    with pytest.raises(UserError, match="no term can be calibrated; flat: "):
        calibrate(experiment, evaluator, terms=["flat"])


def test_the_verb_writes_scales_that_a_sweep_reads(tmp_path: Path) -> None:
    """`judge calibrate`, then `calibration = FILE` in the experiment."""
    file = tmp_path / "e.toml"
    text = (Path(__file__).parents[1] / "experiments" / "bundled.toml").read_text()
    file.write_text(text)
    scales = tmp_path / "scales.json"
    run(
        "judge",
        "calibrate",
        file,
        "--to",
        scales,
        "--terms",
        "checklist",
        "--limit",
        "12",
        "--prompts",
        "2",
    )
    calibrated = re.sub(r"(\[objective.checklist\].*\n)", rf'\1calibration = "{scales}"\n', text)
    file.write_text(calibrated)
    from icl_align.config import load_experiment

    objective = build_objective(load_experiment(file))
    (term,) = [term for term in objective.terms if term.name == "checklist"]
    assert "calibrated" in term.scorer.fingerprint


def test_a_sweep_asks_for_its_judges_passports(tmp_path: Path, server: ChatServer) -> None:
    """None, a failing one and another judge's are each named; a good one is silent."""
    base = bundled_experiment(0).to_json()
    model = {"name": "openai/rule", "base_url": server.url}
    table = {"weight": 1.0, "scorer": "pairwise", "options": {"model": model}}

    def doubts(**changes: object) -> list[str]:
        from icl_align.config import Experiment

        content = {**base, "objective": {"j": {**table, **changes}, "checklist": {"weight": 1.0}}}
        experiment = Experiment.from_json(content)
        return concerns(experiment, build_objective(experiment))

    (none,) = doubts()
    assert "[objective.j] has no passport" in none
    with pytest.raises(UserError, match="has no passport"):
        require([none])
    require([])
    judge = judge_file(tmp_path, server, "pairwise")
    pairs = tmp_path / "pairs.jsonl"
    rows = []
    for n in range(40):
        one, other = "w " * (2 + n), "w " * (40 - n)
        labels = [1, 1, 1] if len(one) > len(other) else [2, 2, 2]
        rows.append(
            {
                "id": str(n),
                "instruction": f"Q{n}?",
                "response1": one,
                "response2": other,
                "labels": labels,
            }
        )
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = json.loads(
        run(
            "judge",
            "validate",
            "--judge",
            judge,
            "--pairs",
            pairs,
            "--out",
            tmp_path / "p",
            "--json",
        )
    )
    assert found["pairs"]["judge"]["accuracy"]["mean"] > 0.9
    assert found["pairs"]["cost"]["tokens"]
    (failing,) = doubts(passport=str(tmp_path / "p" / "passport.json"))
    assert "fails: " in failing  # it is no better than length, which is what it is
    (other,) = doubts(
        passport=str(tmp_path / "p" / "passport.json"),
        options={"model": {**model, "temperature": 0.5}},
    )[:1]
    assert "the judge in use is" in other
    lenient = ("--min-lead", "-1", "--max-length-bias", "1")
    run("judge", "validate", "--judge", judge, "--pairs", pairs, "--out", tmp_path / "q", *lenient)
    assert doubts(passport=str(tmp_path / "q" / "passport.json")) == []
    assert load_judge(str(judge)).pairs is not None
