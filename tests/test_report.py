"""Promises of icl_align.report."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import tomllib
import unicodedata
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import escape
from small_run import asked, small_experiment, small_run
from typer.testing import CliRunner

from icl_align.cli import reports
from icl_align.config import Experiment, bundled_experiment
from icl_align.errors import UserError
from icl_align.explain import explain
from icl_align.pack import Pack
from icl_align.prompt import FORMATS, Prompt
from icl_align.proof_scores import SCORES_FILE, read_scores
from icl_align.prove import prove
from icl_align.report import write_report
from icl_align.report.aspects import aspects, paired
from icl_align.report.clean import shown
from icl_align.report.collect import collect
from icl_align.report.grid import embedded
from icl_align.report.page import rendered
from icl_align.report.plots import history, racing
from icl_align.report.telling import GLOSS, changes, headline
from icl_align.report.toml import experiment_toml
from icl_align.run import Run, open_run, start
from icl_align.types import Example, Score


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A proved and explained run with hostile texts everywhere."""
    made = small_run(tmp_path_factory.mktemp("report"))
    prove(made)
    explain(made, budget=600)
    return made


@pytest.fixture(scope="module")
def page(run: Run) -> str:
    """Its report."""
    write_report(run, run.folder / "report.html")
    return (run.folder / "report.html").read_text("utf-8")


class Tags(HTMLParser):
    """Every start tag of a page, with its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, list[tuple[str, str | None]]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, attrs))


def data_of(page: str) -> Any:
    """The grid's data, as the page's script reads it."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def parts_of(page: str) -> list[Any]:
    """The answers, as the page's script unpacks them."""
    packed = re.findall(r'<script type="text/plain" class="part">(.*?)</script>', page)
    return [row for part in packed for row in json.loads(gzip.decompress(base64.b64decode(part)))]


def test_texts_of_models_are_only_text(page: str) -> None:
    """No script, image, template or bidi character of an answer, instruction, tag or exemplar lives."""
    assert "<script>window" not in page
    assert "<img" not in page
    assert "&lt;script&gt;window.hacked=1" in page
    assert "{{ 7*7 }}" in page
    assert "\u202e" not in page
    assert "\x1b" not in page
    assert "\\u202e" in page
    own = re.findall(r"<script[ >]", page)
    assert len(own) == 2 + len(re.findall(r'class="part"', page))


def test_the_page_asks_for_nothing(page: str) -> None:
    """No address in it, and a policy that allows one script alone: its own, by digest."""
    tags = Tags()
    tags.feed(page)
    assert not {name for name, _ in tags.found} & {
        "link",
        "img",
        "iframe",
        "object",
        "form",
        "base",
    }
    for name, attributes in tags.found:
        for key, value in attributes:
            assert key != "src" and not key.startswith("on"), (name, key)
            assert key not in {"href", "xlink:href"} or str(value).startswith("#")
    assert not re.search(r"@import|url\((?!#)", page)
    script = page[page.rindex("<script>") + 8 : page.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page.replace("&#39;", "'").replace("&#34;", '"')
    assert "default-src" in page


def test_the_headline_says_what_won_by_how_much_and_how_sure(run: Run, page: str) -> None:
    """The proof's numbers stand first, with the interval; what explain found stands under them."""
    proof = json.loads((run.folder / "confirmation.json").read_text())
    said, mood = headline(collect(run))
    assert mood == "good"
    assert f"{proof['tuned']['mean']:.3f} on {proof['tuned']['n']} untouched" in said
    assert f"{proof['difference']['mean']:.3f} more than zero-shot" in said
    assert said.replace("+", "&#43;") in page or said in page
    why = json.loads((run.folder / "explanation.json").read_text())
    start = "With its system text, its" if why["system"] else "Its"
    assert f"{start} {why['k']} exemplars are worth" in page


def test_the_page_says_what_it_means(page: str) -> None:
    """Signs have one meaning, intervals are not joint, terms are explained, an empty text is told."""
    assert "In all differences plus is better and minus is worse." in page
    assert "-0.000" not in page and "+0.000" not in page and "loses &#43;" not in page
    assert "Each interval is 95 % by itself, not jointly." in page
    for text in GLOSS.values():
        assert page.count(str(escape(text))) >= 2, text
    assert '<td class="said text">(none)</td>' in page
    row = page[page.index("<th>prompt</th>") :]
    assert row.index("winner minus it") < row.index("<th>mean</th>")
    assert "asked for by explain, paid or from the ledger" in page
    assert "without the sampler" in page


def test_legends_name_only_what_is_drawn(run: Run) -> None:
    """Trials that were all stopped have no series of whole ones, and the other way round."""
    whole = [trial for trial in run.trials() if trial.state == "complete"]
    some = [replace(trial, state="pruned") for trial in whole]
    assert "on all" not in history(some) and "measured on all" not in racing(some)
    assert "on some" not in history(whole) and "stopped" not in racing(whole)
    assert "on all instructions" in history(whole) and "stopped" in racing(some)


def test_a_worse_or_unclear_winner_is_not_praised(run: Run) -> None:
    """The headline's mood follows the interval, not the mean."""
    found = collect(run)
    assert found.proof is not None
    gap = found.proof["difference"]
    for low, high, mean, mood in (
        (-0.1, 0.2, 0.1, "open"),
        (-0.3, -0.1, -0.2, "bad"),
        (None, None, 0.1, "open"),
    ):
        proof = {**found.proof, "difference": {**gap, "low": low, "high": high, "mean": mean}}
        said, given_mood = headline(replace(found, proof=proof))
        assert given_mood == mood
        assert ("less than" in said) == (mean < 0)


def test_the_grid_holds_the_studys_scores_and_the_ledgers_answers(run: Run, page: str) -> None:
    """Each score is the trial's, each answer the one that was scored, a missing verdict has its reason."""
    head, rows = data_of(page), parts_of(page)
    found = collect(run)
    assert len(head["rows"]) == len(rows) == 50
    names = [(row["split"], row["id"]) for row in head["rows"]]
    assert [split for split, _ in names] == ["test"] * 15 + ["confirm"] * 15 + ["dev"] * 20
    assert head["columns"][head["winner"]]["role"] == "winner"
    assert head["columns"][head["rival"]]["role"] == "zero-shot"
    for place, column in enumerate(found.columns):
        for where, score in column.scores.items():
            row = names.index(where)
            answer, note, aspects = rows[row][place]
            if score.value is None:
                assert head["scores"][place][row] is None
                assert note == "reading: lost"
                continue
            assert head["scores"][place][row] == round(1000 * score.value)
            assert float(answer.split()[0]) == pytest.approx(score.value, abs=1e-4)
            assert "reading" in "".join(aspects)
            assert "\u202e" not in answer


def test_the_proofs_answers_are_in_the_grid(run: Run, page: str) -> None:
    """Winner and baseline have score and answer on every untouched instruction; their means are the proof's."""
    head, rows = data_of(page), parts_of(page)
    proof = json.loads((run.folder / "confirmation.json").read_text())
    test = [i for i, row in enumerate(head["rows"]) if row["split"] == "test"]
    for column, name in ((head["winner"], "tuned"), (head["rival"], "baseline")):
        assert all(rows[i][column][0] for i in test)
        scores = [s for i in test if (s := head["scores"][column][i]) is not None]
        assert sum(scores) / len(scores) / 1000 == pytest.approx(proof[name]["mean"], abs=1e-3)


def test_prompts_from_outside_the_space_have_columns(tmp_path: Path) -> None:
    """A pack that the proof compares with was never in the search, but its answers are to be read too."""
    run = small_run(tmp_path)
    other = Pack(Prompt("Be odd.", (), FORMATS["colon"]), {"id": "none"}, {})
    other.save(tmp_path / "rival.json")
    prove(run, [tmp_path / "rival.json"])
    found = collect(run)
    column = next(column for column in found.columns if column.role == "rival")
    assert column.prompt == other.prompt
    assert {split for split, _ in column.scores} == {"test"}
    assert [column.role for column in found.columns[:3]] == ["winner", "zero-shot", "rival"]


def test_aspects_are_compared_where_the_winner_was_not_chosen() -> None:
    """On the proof's instructions if both have them there; else on those of the search that both have."""
    one, two = Score(1.0, {"clear": 1.0, "deep": 0.5}), Score(0.0, {"clear": 0.25, "wide": 1.0})
    winner = {("dev", "a"): one, ("dev", "b"): two, ("test", "c"): one, ("test", "d"): one}
    found = paired(winner, {("dev", "a"): two, ("dev", "b"): two, ("test", "c"): two})
    assert found.split == "test"
    assert found.rows == [{"aspect": "clear", "winner": 1.0, "baseline": 0.25, "n": 1}]
    assert paired(winner, {("dev", "a"): two, ("dev", "b"): one}).rows[0] == {
        "aspect": "clear",
        "winner": 0.625,
        "baseline": 0.625,
        "n": 2,
    }
    assert paired(winner, {("dev", "z"): two}).rows == []


@pytest.mark.parametrize(("count", "round_"), [(2, False), (3, True), (12, True), (13, False)])
def test_a_few_aspects_make_a_radar(count: int, round_: bool) -> None:
    """Fewer than three have no area, more than a dozen no room."""
    rows = [
        {"aspect": f"a{i}$x_{i}", "winner": 0.5, "baseline": 0.25, "n": 3} for i in range(count)
    ]
    drawn = aspects(rows, "hand-written")
    assert drawn.startswith("<svg")
    assert f"a{count - 1}$x_{count - 1}" in drawn
    assert ("fill-opacity: 0.12" in drawn or "opacity: 0.12" in drawn) == round_
    assert aspects([], "x") == ""


def test_trials_after_the_proof_are_told(tmp_path: Path) -> None:
    """The page's proof is of an earlier state of the search then."""
    run = small_run(tmp_path)
    prove(run)
    assert "ended since this proof" not in rendered(collect(run))
    more = start(run.experiment.override(trials=35), run.folder)
    more.sweep()
    assert "5 trials have ended since this proof" in rendered(collect(more))


def test_damaged_scores_are_told(tmp_path: Path) -> None:
    """The file beside the proof is checked like any other; without it the page has the search's rows."""
    run = small_run(tmp_path)
    prove(run)
    place = run.folder / SCORES_FILE
    whole = place.read_text("utf-8")
    for damage, message in (
        (whole[:100], "is damaged"),
        ('{"version": 2, "measured": []}', "has version 2, this icl_align reads 1"),
        ('{"version": 1, "measured": [{}]}', "is damaged .*make it anew with icl-align confirm"),
    ):
        place.write_text(damage, "utf-8")
        with pytest.raises(UserError, match=message):
            collect(run)
    place.unlink()
    assert {row.place[0] for row in collect(run).rows} == {"dev"}


@pytest.mark.parametrize("name", ["confirmation", "explanation"])
def test_files_without_their_parts_are_told(tmp_path: Path, name: str) -> None:
    """A file that somebody has shortened is named, with how to make it anew."""
    run = small_run(tmp_path)
    (run.folder / f"{name}.json").write_text('{"version": 1}')
    with pytest.raises(UserError, match=rf"{name}.json is damaged \(it lacks '.*make it anew"):
        collect(run)


def test_a_pack_called_winner_is_not_taken_for_it(tmp_path: Path) -> None:
    """Its column has its path as a name."""
    run = small_run(tmp_path)
    other = Pack(Prompt("Be odd.", (), FORMATS["colon"]), {"id": "none"}, {})
    other.save(tmp_path / "winner.json")
    proof = prove(run, [tmp_path / "winner.json"])
    names = [one.name for one in proof.confirmation.comparisons]
    assert names == ["zero-shot", str(tmp_path / "winner.json")]
    assert sum(column.role == "winner" for column in collect(run).columns) == 1


def test_a_report_needs_no_model(tmp_path: Path) -> None:
    """Neither engine nor scorer is made: the page comes without them, and before any proof."""
    run = small_run(tmp_path)
    before = len(asked(run))
    (tmp_path / "parts.py").write_text("raise RuntimeError('a part is made')")
    found = write_report(open_run(run.folder), tmp_path / "page.html")
    assert len(asked(run)) == before
    assert found["headline"].startswith("Not proved yet: the best prompt so far")
    assert found["prompts"] > 10
    text = (tmp_path / "page.html").read_text("utf-8")
    assert "icl-align confirm" in text
    assert any(cell and cell[0] for row in parts_of(text) for cell in row)


def test_the_same_run_gives_the_same_page(run: Run) -> None:
    """No clock and no chance in it."""
    assert rendered(collect(run)) == rendered(collect(run))


def test_an_explanation_of_another_winner_is_left_out(run: Run) -> None:
    """What `explain` said of an earlier winner is not shown as this one's."""
    place = run.folder / "explanation.json"
    kept = place.read_text("utf-8")
    try:
        place.write_text(json.dumps({**json.loads(kept), "digest": "0" * 64}), "utf-8")
        assert collect(run).explanation is None
    finally:
        place.write_text(kept, "utf-8")


def test_nothing_half_written(run: Run, tmp_path: Path) -> None:
    """A place that cannot be written is told in a line, and leaves nothing behind."""
    with pytest.raises(UserError, match="cannot write .*choose another --out"):
        write_report(run, tmp_path / "none" / "page.html")
    assert not list(tmp_path.iterdir())


def test_a_run_without_a_trial_is_told(tmp_path: Path) -> None:
    """There is nothing to report before the first trial."""
    made = start(small_experiment(tmp_path), tmp_path / "run")
    with pytest.raises(UserError, match="there is no run at"):
        write_report(made, tmp_path / "page.html")


def test_the_experiment_starts_again_from_the_page(tmp_path: Path) -> None:
    """The TOML shown is the experiment; logins in it and the database's address are left out."""
    for experiment in (bundled_experiment(3), small_experiment(tmp_path)):
        again = Experiment.from_json(tomllib.loads(experiment_toml(experiment)), base=tmp_path)
        assert again.to_json() == experiment.to_json()
        assert 'scorer = ""' not in experiment_toml(experiment)
        assert not re.search(r"(?m)^\[.*\]\n+(\[|\Z)", experiment_toml(experiment))
    hidden = small_experiment(
        tmp_path,
        database="postgresql://me:secret@host/db",
        model={
            "id": "m",
            "engine": "openai",
            "options": {
                "base_url": "http://me:secret@host/v1",
                "api_key": "secret",
                "headers": {"Authorization": "secret"},
                "more": [{"authToken": "secret"}],
                "max_tokens": 7,
            },
        },
    )
    assert "secret" not in experiment_toml(hidden)
    assert "http://host/v1" in experiment_toml(hidden)
    assert "max_tokens = 7" in experiment_toml(hidden)


def test_changes_tell_lines_apart() -> None:
    """What is in both is kept, the rest taken out or put in."""
    before = Prompt("Be kind.", (Example("Q", "A"),), FORMATS["colon"])
    after = replace(before, system="Be brief.")
    found = changes(before, after)
    assert ("-", "Be kind.") in found
    assert ("+", "Be brief.") in found
    assert (" ", "Assistant:") in found


@given(st.text())
def test_shown_text_has_nothing_hidden(text: str) -> None:
    """Controls, bidi characters and half surrogates are written out; cuts say how much is gone."""
    found = shown(text)
    joiners = "\n\t\u200c\u200d"
    assert all(
        c in joiners or unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
        for c in found
    )
    assert shown("a" * 50, 10) == "a" * 10 + " \u2026 (40 more characters)"


@given(st.text())
def test_embedded_json_cannot_end_its_element(text: str) -> None:
    """Data in the page is read back as it was and holds no sign that HTML knows."""
    found = embedded(json.dumps(text, ensure_ascii=False))
    assert not set(found) & set("<>&\u2028\u2029")
    assert json.loads(found) == text


def test_the_verbs_print_data_on_stdout(run: Run, tmp_path: Path) -> None:
    """`report` and `explain` have --json, and write where they are told."""
    app = typer.Typer()
    app.command()(reports.report)
    app.command()(reports.explain)
    page, why = tmp_path / "page.html", tmp_path / "why.json"
    done = CliRunner().invoke(app, ["report", str(run.folder), "--out", str(page), "--json"])
    assert json.loads(done.stdout)["bytes"] == page.stat().st_size
    done = CliRunner().invoke(app, ["report", str(run.folder), "--out", str(page)])
    assert "50 instructions x " in done.stdout
    arguments = ["explain", str(run.folder), "--budget", "600", "--out", str(why)]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert json.loads(done.stdout)["generations"]["paid"] == 0
    assert "Shapley (exact)" in CliRunner().invoke(app, arguments).stdout
    assert json.loads(why.read_text("utf-8"))["version"] == 1


def test_a_baseline_of_the_same_prompt_hides_no_other(tmp_path: Path) -> None:
    """Winner and main baseline are compared also where a second baseline is the same prompt."""
    rules = {"baselines": {"a": "zero-shot", "b": "zero-shot"}, "main": "b"}
    run = small_run(tmp_path, confirm={"finalists": 2} | rules)
    head = json.loads(collect(run).grid.head)
    assert head["columns"][head["rival"]]["role"] == "b"


def test_other_scores_are_told_by_their_version(tmp_path: Path) -> None:
    """What a later icl_align has written is not damaged."""
    (tmp_path / SCORES_FILE).write_text('{"version": 9}')
    with pytest.raises(UserError, match=r"json has version 9, this icl_align reads 1$"):
        read_scores(tmp_path)
    (tmp_path / SCORES_FILE).write_text('{"version": 1}')
    with pytest.raises(UserError, match="is damaged .*; make it anew with icl-align confirm"):
        read_scores(tmp_path)
