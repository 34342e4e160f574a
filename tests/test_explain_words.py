"""Promises of `explain` about other words: system texts by rule, file and writer; instructions by file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from judge_rules import fenced_texts
from judge_server import ChatServer, chat_server
from small_run import HOSTILE, asked, small_run
from typer.testing import CliRunner

from icl_align.cli import reports
from icl_align.engines import ContextOverflowError
from icl_align.engines.scripted import ScriptedEngine
from icl_align.errors import UserError
from icl_align.evaluate import EngineEvaluator
from icl_align.explain import OtherWords, explain
from icl_align.explain.measure import Wanted, measured
from icl_align.explain.shown import explanation_text
from icl_align.explain.wording import RESTATED, collected
from icl_align.explain.writer import MANNERS, writer_model, written
from icl_align.ledger import Ledger, sqlite_url
from icl_align.prompt import FORMATS, Prompt
from icl_align.report import write_report
from icl_align.run import Run
from icl_align.scorers.checklist import ChecklistScorer
from icl_align.scorers.judge_model import of_engine
from icl_align.types import Decoding, Example, Response

KIND = {"systems": ["Be kind."], "pool": "pool.jsonl", "k": [1, 2], "formats": ["block"]}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose winner has a system text; "Be kind" in a prompt is worth 0.05."""
    return small_run(tmp_path_factory.mktemp("words"), space=KIND)


def anew(question: str) -> str:
    """A writer that says what it was asked for; the last manner it does not understand."""
    texts = fenced_texts(question)
    if texts["manner"] == MANNERS[-1]:
        return "Pardon?"
    said = f"Be kind {texts['manner']}." if "more" in texts["manner"] else "Be good."
    return json.dumps({"paraphrase": f"{said} {HOSTILE}" if "plain" in texts["manner"] else said})


@pytest.fixture(scope="module")
def server() -> Iterator[ChatServer]:
    with chat_server(anew) as made:
        yield made


def judge_file(folder: Path, server: ChatServer) -> Path:
    file = folder / "writer.toml"
    lines = ["[judge]", 'scorer = "questions"', "[judge.options.model]", 'name = "openai/anew"']
    file.write_text("\n".join([*lines, "attempts = 2", f'base_url = "{server.url}"']))
    return file


def test_rules_keep_the_words() -> None:
    """Each rule changes case, marks, breaks or a heading, and nothing else."""
    text = "Be kind. Be brief!\nAnswer in English, always."
    found = {name: restate(text) for name, restate in RESTATED.items()}
    assert found["with other line breaks"] == "Be kind. Be brief! Answer in English, always."
    assert RESTATED["with other line breaks"]("Be kind. Be brief!") == "Be kind.\nBe brief!"
    for said in found.values():
        words = re.findall(r"\w+", said.removeprefix("Instructions: ").lower())
        assert words == re.findall(r"\w+", text.lower())


@given(st.text(max_size=80), st.lists(st.text(max_size=20), max_size=4))
def test_no_paraphrase_is_the_text_or_another_one(system: str, texts: list[str]) -> None:
    """What is left out is counted; an empty text has none."""
    there = {f"f:{number}": text for number, text in enumerate(texts)}
    found = collected(system, OtherWords(there), {})
    said = [one.text for one in found.kept]
    assert system not in said
    assert len({*said}) == len(said)
    whole = len(texts) + len(RESTATED) if system.strip() else 0
    assert len(said) + found.same == whole


def test_paraphrases_by_rule_are_measured_beside_leaving_the_text_out(run: Run) -> None:
    """The engine sees "Be kind" or does not: lower case loses what leaving the text out loses."""
    part = explain(run, budget=2000)["paraphrases"]
    lost = {row["name"]: row["difference"]["mean"] for row in part["rows"]}
    assert part["left_out"]["mean"] == pytest.approx(0.05)
    assert lost["in lower case"] == pytest.approx(-0.05)
    assert lost["without its last mark"] == lost["with 'Instructions:' before it"] == 0
    assert part["worst"] == "in lower case"
    assert part["loss"]["mean"] == pytest.approx(0.05 / 3)
    assert part["sd"] == pytest.approx(0.025)
    assert part["same"] == 1  # one sentence has no other line breaks
    assert (part["unmeasured"], part["too_long"], part["writer"]) == (0, 0, None)


def test_what_the_budget_does_not_reach_is_told(run: Run) -> None:
    """Given texts come before those by rule."""
    words = OtherWords({f"f:{number}": f"Be kind, {number}." for number in range(9)})
    for budget in range(240, 600, 15):
        found = explain(run, budget=budget, words=words)
        if found["paraphrases"]["unmeasured"] and found["paraphrases"]["rows"]:
            break
    part = found["paraphrases"]
    assert len(part["rows"]) + part["unmeasured"] == 9 + 3
    assert part["rows"][0]["name"] == "f:0"
    text = explanation_text(found)
    assert f"{part['unmeasured']} beyond --budget" in text
    assert found["beyond"]["names"][-1] == "without its last mark"
    need = found["beyond"]["budget"]
    assert f"left out: {found['beyond']['names'][0]!r}" in text
    assert f"; --budget {need} measures " in text
    whole = explain(run, budget=need, words=words)
    assert (whole["beyond"], whole["paraphrases"]["unmeasured"]) == (None, 0)
    assert "left out:" not in explanation_text(whole)


def test_by_default_all_that_is_given_is_measured(run: Run) -> None:
    """The budget grows with what a person adds, so that what is by rule is never pushed out."""
    words = OtherWords({f"f:{number}": f"Be kind, {number}." for number in range(300)})
    found = explain(run, words=words)
    assert found["budget"] > 4200
    assert len(found["paraphrases"]["rows"]) == 300 + 3
    assert found["beyond"] is None
    assert explain(run)["budget"] == 4200


def test_a_writer_is_asked_once_and_named(run: Run, server: ChatServer, tmp_path: Path) -> None:
    """Its texts are measured, kept with its name and escaped; what it did not give is asked again."""
    app = typer.Typer()
    app.command()(reports.explain)
    arguments = [str(run.folder), "--budget", "2000", "--writer", str(judge_file(tmp_path, server))]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    part = json.loads(done.stdout)["paraphrases"]
    mine = [row for row in part["rows"] if row["by"] == "openai/anew"]
    assert [row["name"] for row in mine] == [MANNERS[0], MANNERS[1], MANNERS[3]]
    assert [round(row["difference"]["mean"], 6) for row in mine] == [-0.05, -0.05, 0]
    assert (part["same"], part["unread"]) == (2 + 1, 1)
    assert part["writer"]["model"] == "openai/anew"
    sent, generated = len(server.requests), len(asked(run))
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 0, again.output
    assert len(server.requests) == sent + 2  # the two attempts at the one that could not be read
    assert len(asked(run)) == generated
    assert "1 no readable reply of the writer" in again.stdout
    assert "\u202e" not in again.stdout and "\x1b" not in again.stdout
    write_report(run, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "In other words" in page and "openai/anew" in page
    assert "<script>window" not in page and "\u202e" not in page
    assert "&lt;script&gt;window" in page.partition("In other words")[2].partition("</table>")[0]


def test_a_local_model_can_write(tmp_path: Path) -> None:
    """An engine of ours is asked as a server is; its replies are remembered by manner."""
    ledger = Ledger(sqlite_url(tmp_path / "notes.db"))
    model = of_engine(ScriptedEngine(lambda _: '{"paraphrase": "Kindly."}'))
    assert written(model, "Be kind.", ledger.notes) == dict.fromkeys(MANNERS, "Kindly.")
    silent = replace(of_engine(ScriptedEngine(lambda _: "")), identity=model.identity)
    assert written(silent, "Be kind.", ledger.notes) == dict.fromkeys(MANNERS, "Kindly.")
    endless = of_engine(ScriptedEngine(lambda _: json.dumps({"paraphrase": "x" * 500})))
    assert written(endless, "Be kind.", {}) == dict.fromkeys(MANNERS)


def test_a_writer_is_not_asked_in_vain(run: Run, server: ChatServer, tmp_path: Path) -> None:
    """Where the budget reaches none of its texts it is not paid for them."""
    writer, before = writer_model(str(judge_file(tmp_path, server))), len(server.requests)
    with pytest.raises(UserError, match="a budget of 100 reaches no paraphrase by the writer"):
        explain(run, budget=100, words=OtherWords(writer=writer), out=tmp_path / "why.json")
    assert len(server.requests) == before


def test_a_writer_that_cannot_be_used_is_told(tmp_path: Path, server: ChatServer) -> None:
    """A missing file, a judge without a model, and a server that refuses."""
    with pytest.raises(UserError, match="there is no none.toml"):
        writer_model("none.toml")
    (tmp_path / "rule.toml").write_text('[judge]\nscorer = "checklist"\n')
    with pytest.raises(UserError, match="this judge has no model that could write; give it one"):
        writer_model(str(tmp_path / "rule.toml"))
    model = writer_model(str(judge_file(tmp_path, server)))
    server.status = 401
    try:
        with pytest.raises(UserError, match="--writer: the judge 'openai/anew' cannot be asked"):
            written(model, "Be kind.", {})
    finally:
        server.status = 0


def test_no_system_text_says_so(tmp_path: Path) -> None:
    """Nothing is restated, nobody is asked, and terminal and page say why."""
    run = small_run(tmp_path, space={**KIND, "systems": [""]})
    dead = writer_model("openai/nobody")
    found = explain(run, budget=600, words=OtherWords({"f:1": "Be kind."}, dead))
    assert found["paraphrases"] is None
    assert "it has no system text that could be put in other words" in explanation_text(found)
    write_report(run, tmp_path / "page.html")
    assert "It has no system text that could be put" in (tmp_path / "page.html").read_text("utf-8")


def test_a_system_text_without_exemplars_is_left_out_too(tmp_path: Path) -> None:
    """With K = 0 there is no interaction, but what the text is worth is still told."""
    run = small_run(tmp_path, space={**KIND, "k": [0, 0]})
    found = explain(run, budget=600)
    assert (found["k"], found["factorial"]) == (0, None)
    assert found["paraphrases"]["left_out"]["mean"] == pytest.approx(0.05)
    assert "the winner has no exemplars" in explanation_text(found)


def test_an_older_explanation_is_still_shown(run: Run, tmp_path: Path) -> None:
    """One without this section, as earlier versions wrote it."""
    found = explain(run, budget=600)
    del found["paraphrases"], found["generations"]
    (run.folder / "explanation.json").write_text(json.dumps(found))
    write_report(run, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "Why it won" in page and "no system text" not in page


def test_instructions_in_given_words(run: Run, tmp_path: Path) -> None:
    """Those that the file names are put as it says, and graded as they were; others are not asked."""
    file = tmp_path / "mine.jsonl"
    rows = [{"id": f"confirm-{n}", "query": f"Say, Question {10_006}?"} for n in (1, 2, 13)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    app = typer.Typer()
    app.command()(reports.explain)
    arguments = [str(run.folder), "--budget", "2000", "--phrasings", str(file), "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["given"] == {"phrasings": "mine.jsonl"}
    write_report(run, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "icl-align explain again --budget 2000 --phrasings mine.jsonl\n" in page
    told = json.loads(done.stdout)["phrasings"]["as in mine.jsonl"]
    # An instruction is worth a hundredth of its number modulo 7; the 13th has no verdict.
    worth = [0.01 * ((10_000 + n) % 7 - 10_006 % 7) for n in (1, 2)]
    assert told["mean"] == pytest.approx(sum(worth) / 2)
    assert told["n"] == 2


class Narrow:
    """An engine with room for 60 characters."""

    name = fingerprint = "narrow"

    def generate(
        self, prompts: Sequence[str], *, stop: Sequence[str], decoding: Decoding
    ) -> list[Response]:
        for prompt in prompts:
            if len(prompt) > 60:
                raise ContextOverflowError(f"{len(prompt)} characters, but there is room for 60")
        return [Response("yes", 1, "stop", 1) for _ in prompts]


def test_other_words_that_do_not_fit_are_left_out() -> None:
    """A long paraphrase stops nothing; a prompt that must be measured is told."""
    evaluator = EngineEvaluator(Narrow(), ChecklistScorer())
    examples = [Example("Why?", id=str(number)) for number in range(3)]
    short, long = (Prompt(text, (), FORMATS["colon"]) for text in ("Be kind.", "Be kind. " * 9))
    work = {
        ("subset", 0): Wanted(short, examples, examples),
        ("paraphrase", 0): Wanted(long, examples, examples),
        ("paraphrase", 1): Wanted(short, examples, examples),
    }
    assert [*measured(evaluator, work)] == [("subset", 0), ("paraphrase", 1)]
    with pytest.raises(UserError, match="there is room for 60"):
        measured(evaluator, {("subset", 1): Wanted(long, examples, examples)})
