"""Promises of icl_align.dashboard: a real server, asked as its page asks it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_run import HOSTILE, small_experiment, small_run

from icl_align.cli import dashboard as verb
from icl_align.dashboard import markdown
from icl_align.errors import UserError
from icl_align.prove import prove
from icl_align.run import Run, open_run, start

pytestmark = pytest.mark.skipif(
    find_spec("optuna_dashboard") is None, reason="needs the extra dashboard"
)
COMMAND = [sys.executable, "-c", "from icl_align.cli import main; main()"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run with hostile texts."""
    return small_run(tmp_path_factory.mktemp("dashboard"))


@pytest.fixture
def run(made: Run, tmp_path: Path) -> Run:
    """A copy of it, to be written to."""
    folder = shutil.copytree(made.folder, tmp_path / "run")
    return open_run(folder)


@contextmanager
def served(run: Run, **more: Any) -> Iterator[tuple[httpx.Client, Any]]:
    """A dashboard that answers, and a client that asks it."""
    from icl_align.dashboard import serving

    with serving(run, port=0, **more) as found:
        thread = threading.Thread(target=found.server.serve_forever, args=(0.02,))
        thread.start()
        try:
            with httpx.Client(base_url=found.url.partition("/dashboard")[0], timeout=60) as client:
                yield client, found
        finally:
            found.server.shutdown()
            thread.join()


def detail(client: httpx.Client, study: int = 1) -> dict[str, Any]:
    """What the page asks for."""
    found: dict[str, Any] = client.get(f"/api/studies/{study}").raise_for_status().json()
    return found


@given(st.text(alphabet=st.sampled_from("`a\n ~\u202e\x1b<"), max_size=60))
def test_nothing_ends_a_fence(text: str) -> None:
    """Only the last line is a fence of that length or a longer one; nothing hides or turns text."""
    lines = markdown.fenced(text, 1000).split("\n")
    fence = lines[0]
    assert set(fence) == {"`"} and len(fence) >= 3 and lines[-1] == fence
    assert not [one for one in lines[1:-1] if one.strip(" ").startswith(fence)]
    assert "\u202e" not in "".join(lines) and "\x1b" not in "".join(lines)


def test_every_trial_has_a_note(run: Run) -> None:
    """Prompt, diff, scores and cost of each trial; the run's own note says what it is."""
    with served(run) as (client, found):
        assert client.get(found.url).status_code == 200
        names = [one["study_name"] for one in client.get("/api/studies").json()["study_summaries"]]
        content = detail(client)
    assert names == ["sweep"]
    records = run.trials()
    assert len(content["trials"]) == len(records) == 30
    for row, record in zip(content["trials"], records, strict=True):
        body = row["note"]["body"]
        assert record.evaluation is not None and record.evaluation.mean is not None
        assert row["note"]["version"] == 0
        assert f"mean      {record.evaluation.mean:.3f}" in body
        assert "verdicts  19, missing 1" in body
        assert record.evaluation.prompt.digest[:16] in body
        assert f"K = {len(record.evaluation.prompt.exemplars)}" in body
        worst = min(value for value in record.evaluation.values)
        assert f"\n{worst:.3f}  dev-" in body
        if record.evaluation.prompt.system:
            assert f"```\n{record.evaluation.prompt.system}\n```" in body
            assert f"\n+{record.evaluation.prompt.system}" in body
    assert content["best_trials"][0]["note"]["body"].startswith("### Trial")
    whole = content["note"]["body"]
    assert "Not proved yet" in whole and "icl-align run experiment.toml" in whole


def test_a_proof_is_the_headline(tmp_path: Path) -> None:
    """After `confirm` the run's note says by how much the winner won."""
    run = small_run(tmp_path, dev=15)
    prove(run)
    with served(run) as (client, _):
        assert "untouched instructions" in detail(client)["note"]["body"]


def test_the_winner_says_so_once_proved(tmp_path: Path) -> None:
    """Also in a page that was open before `confirm`; no other prompt says so, and costs say whose they are."""
    run = small_run(tmp_path, dev=15)
    with served(run) as (client, _):
        assert "The winner" not in json.dumps(detail(client))
        proof = prove(run).confirmation
        content = detail(client)
    assert "untouched instructions" in content["note"]["body"]
    won = {row["number"] for row in content["trials"] if "**The winner.**" in row["note"]["body"]}
    digest = proof.prompt.digest
    assert won == {
        one.number
        for one in run.trials()
        if one.evaluation and one.evaluation.prompt.digest == digest
    }
    body = content["trials"][min(won)]["note"]["body"]
    gap = proof.to_json()["difference"]
    assert f"{gap['mean']:+.3f} against zero-shot (95% interval of the difference:" in body
    assert "its prompt measured on 15 instructions in all" in body
    (run.folder / "confirmation.json").write_text("{}")
    with served(run) as (client, _):
        assert "The winner" not in json.dumps(detail(client)["trials"])


def test_peoples_notes_stay(run: Run) -> None:
    """What a person writes over our note is kept and shown, now and later; an old edit is refused."""
    mine = {"body": "mine", "version": 1}
    for place in ("1/note", "1/1/note"):
        with served(run) as (client, _):
            assert client.put(f"/api/studies/{place}", json=mine).status_code == 204
            assert client.put(f"/api/studies/{place}", json=mine).status_code == 409
    with served(run) as (client, _):
        content = detail(client)
        assert content["note"] == {"body": "mine", "version": 1}
        assert content["trials"][0]["note"] == {"body": "mine", "version": 1}
        assert content["trials"][1]["note"]["body"].startswith("### Trial 1")


def test_the_page_changes_nothing_else(run: Run) -> None:
    """Deleting, renaming, telling and judging the run are refused, and it is as it was."""
    before = run.ranking(), run.trials()
    with served(run) as (client, _):
        for method, path, body in (
            ("DELETE", "/api/studies/1", {}),
            ("POST", "/api/studies/1/rename", {"study_name": "x"}),
            ("POST", "/api/studies", {"study_name": "x", "directions": ["minimize"]}),
            ("POST", "/api/trials/1/tell", {"state": "Fail"}),
            ("POST", "/api/trials/1/user-attrs", {"user_attrs": {"trial": "x"}}),
            ("POST", "/api/studies/1/preference",
             {"mode": "ChooseWorst", "candidates": [0, 1], "clicked": 1}),
            ("POST", "/api/studies/1/1/skip", {}),
            ("POST", "/incompatible-rdb-schema", {}),
            ("DELETE", "//api/studies/1", {}),
            ("DELETE", "/api/studies/1/", {}),
        ):  # fmt: skip
            answer = client.request(method, path, json=body)
            assert answer.status_code == 403, path
            assert "--writable" in answer.json()["reason"]
        strange = client.get("/api/studies", headers={"Host": "evil.example:80"})
        assert strange.status_code == 403
        assert "evil.example" in strange.json()["reason"]
    assert (run.ranking(), run.trials()) == before
    again = start(run.experiment, run.folder).sweep()  # its identity is what it was
    assert len(again.trials) == 30


@pytest.mark.parametrize("writable", [False, True])
def test_other_sites_pages_write_nothing(run: Run, writable: bool) -> None:
    """A form anywhere on the web can be sent here without asking first; what it says is not heard."""
    with served(run, prefer=(3, 2), writable=writable) as (client, found):
        study = int(found.preferences.rpartition("/")[2])
        trial = detail(client, study)["trials"][0]["trial_id"]
        path = f"/api/studies/{study}/{trial}/skip"
        for origin in ("http://evil.example", "null"):
            assert client.post(path, headers={"Origin": origin}).status_code == 403
        own = str(client.base_url).rstrip("/")
        assert client.post(path, headers={"Origin": own}).status_code == 204


def test_writable_lets_studies_go(run: Run) -> None:
    """With `writable` the page can do all that it can."""
    with served(run, writable=True) as (client, _):
        assert client.request("DELETE", "/api/studies/1", json={}).status_code == 204
        assert client.get("/api/studies").json()["study_summaries"] == []


def judge(client: httpx.Client, study: int, clicked: int, candidates: list[int]) -> None:
    """Chooses the worst, as the page does."""
    body = {"mode": "ChooseWorst", "candidates": candidates, "clicked": clicked}
    client.post(f"/api/studies/{study}/preference", json=body).raise_for_status()


def test_people_compare_blind_and_are_heard(run: Run) -> None:
    """Rounds show answers without names; what people choose becomes strengths beside the objective."""
    from icl_align.dashboard import read_preferences

    with pytest.raises(
        UserError, match="nobody has compared prompts of .*; start with: icl-align dash"
    ):
        read_preferences(run)
    seen: list[tuple[str, ...]] = []
    for _ in range(2):
        with served(run, prefer=(3, 2)) as (client, found):
            asked = found.asked
            assert asked.new and len(asked.contenders) == 4
            assert "zero-shot" in {one.role for one in asked.contenders}
            seen.append(asked.instructions)
            content = detail(client, asked.study_id)
            assert content["is_preferential"]
            assert content["feedback_component_type"] == {"output_type": "note"}
            answers = [row["note"]["body"] for row in content["trials"]]
            assert [text.split("\n")[0] for text in answers] == [
                f"### Answers of card {place} (the page says: trial {place})"
                for place in range(len(asked.cards))
            ]
            assert len(set(map(_texts, answers))) == len(answers) == len(asked.cards) > 1
            shown = json.dumps(content)
            for record in run.trials():
                assert record.evaluation is not None
                assert record.evaluation.prompt.digest not in shown
            assert not re.search("zero-shot|winner|Be kind|Be brief", shown)
            _best(client, asked, "zero-shot")
    assert not {*seen[0]} & {*seen[1]}
    told = read_preferences(run)
    assert told["rounds"] == 2 and told["comparisons"] == 6
    assert told["prompts"][0]["role"] == "zero-shot"
    assert told["prompts"][0]["win_rate"] == 1.0
    assert told["prompts"][0]["low"] is not None
    assert told["prompts"][0]["rank"] == max(row["rank"] for row in told["prompts"])
    assert told["spearman"]["mean"] < 0
    assert any("never lost" in one for one in told["warnings"])
    json.dumps(told, allow_nan=False)


def _texts(note: str) -> str:
    return note.partition("\n")[2]


def _best(client: httpx.Client, asked: Any, role: str) -> None:
    """Decides a round for a role."""
    left = list(range(len(asked.cards)))
    good = next(
        place for place, card in enumerate(asked.cards) if any(one.role == role for one in card)
    )
    for clicked in sorted(left, key=lambda place: place == good)[:-1]:
        judge(client, asked.study_id, clicked, left)
        left.remove(clicked)


def test_prompts_that_answer_alike_share_a_card(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """No click tells apart what looks the same: such prompts tie, with one strength, and it is said."""
    from icl_align.dashboard import read_preferences

    with served(run, prefer=(3, 2)) as (client, found):
        asked = found.asked
        ((first, second),) = asked.alike
        verb._announce(found, as_json=False)
        err = capsys.readouterr().err
        assert f"begins: {len(asked.cards)} cards on 2 instructions" in err
        assert f"trial {first} and trial {second} answer alike here: one card stands for" in err
        _best(client, asked, "zero-shot")
    told = read_preferences(run)
    assert told["comparisons"] == 3  # of three cards, though four prompts
    by_trial = {row["trial"]: row for row in told["prompts"]}
    assert by_trial[first]["strength"] == pytest.approx(by_trial[second]["strength"], abs=1e-9)
    assert by_trial[first]["win_rate"] == by_trial[second]["win_rate"]
    assert [first, second] in told["cards"]["preferences-1"]
    verb.dashboard(run.folder, preferences=True)
    out = capsys.readouterr().out
    assert f"is trial {first} and trial {second}" in out and "answered alike" in out
    with served(run, prefer=(3, 2)) as (_, found):
        assert found.asked.new and not {*found.asked.instructions} & {*asked.instructions}


def test_nothing_differs(tmp_path: Path) -> None:
    """Where all answer the same there is no round, and it says what to do."""
    space = {"systems": ["Be brief.", "Be short."], "pool": "pool.jsonl", "k": [0, 0],
             "formats": ["block"]}  # fmt: skip
    run = small_run(tmp_path, space=space)
    with (
        pytest.raises(
            UserError, match=r"all \d prompts answer alike on the 20 .*\(--top 4 or so\)"
        ),
        served(run, prefer=(2, 2)),
    ):
        pass
    with served(run) as (client, _):
        assert len(client.get("/api/studies").json()["study_summaries"]) == 1


def test_clicks_at_once(run: Run) -> None:
    """Of many people who judge at the same moment none is told of an inner error, and one decides."""
    with served(run, prefer=(3, 2)) as (client, found):
        path = f"/api/studies/{found.asked.study_id}/preference"

        def click(clicked: int) -> int:
            body = {"mode": "ChooseWorst", "candidates": [0, 1, 2], "clicked": clicked}
            return client.post(path, json=body).status_code

        with ThreadPoolExecutor(6) as pool:
            codes = sorted(pool.map(click, [0, 1] * 6))
        assert set(codes) == {204, 403}


def test_an_older_round_is_read(run: Run) -> None:
    """A round in which every prompt had a card of its own."""
    from icl_align.dashboard import read_preferences
    from icl_align.search.study import DEFAULT_STUDY, opened_study

    with served(run, prefer=(3, 2)) as (client, found):
        _best(client, found.asked, "zero-shot")
    with opened_study(run.url, DEFAULT_STUDY, create=False) as study:
        rows = [
            {"digest": card[0].digest, "trial": card[0].trial, "role": card[0].role}
            for card in found.asked.cards
        ]
        names = list(found.asked.instructions)
        old: Any = {"version": 1, "contenders": rows, "instructions": names}
        study._storage.set_study_system_attr(found.asked.study_id, "icl_align:preferences", old)
    told = read_preferences(run)
    assert len(told["prompts"]) == len(rows) == 3


def test_a_decided_round_says_so(run: Run) -> None:
    """The card that is left says what to do next; a click more is refused, and taking back is not."""
    with served(run, prefer=(3, 2)) as (client, found):
        asked = found.asked
        assert "Decided" not in json.dumps(detail(client, asked.study_id))
        _best(client, asked, "zero-shot")
        content = detail(client, asked.study_id)
        assert content["note"]["body"].startswith("**Decided.**")
        (best,) = content["best_trials"]
        told = [row for row in content["trials"] if "**Decided.**" in row["note"]["body"]]
        assert [row["number"] for row in told] == [best["number"]]
        assert f"icl-align dashboard {run.folder} --preferences" in told[0]["note"]["body"]
        place = f"/api/studies/{asked.study_id}"
        body = {"mode": "ChooseWorst", "candidates": [0, 1], "clicked": 1}
        for path, sent in (
            (f"{place}/preference", body),
            (f"{place}/{best['trial_id']}/skip", {}),
        ):
            refused = client.post(path, json=sent)
            assert refused.status_code == 403
            assert "this round is decided" in refused.json()["reason"]
        last = content["preference_history"][-1]["history"]["id"]
        client.request("DELETE", f"{place}/preference/{last}").raise_for_status()
        assert "Decided" not in json.dumps(detail(client, asked.study_id))
        client.post(f"{place}/preference/{last}").raise_for_status()
        assert "Decided" in json.dumps(detail(client, asked.study_id))


def test_an_open_round_goes_on_and_verdicts_can_be_taken_back(run: Run) -> None:
    """The same round is shown until it is decided; a verdict taken back does not count."""
    from icl_align.dashboard import read_preferences

    with served(run, prefer=(3, 2)) as (client, found):
        judge(client, found.asked.study_id, 2, [0, 1, 2])
        judge(client, found.asked.study_id, 1, [0, 1])
        assert read_preferences(run)["comparisons"] == 3
        (last,) = [
            row["history"]["id"]
            for row in detail(client, found.asked.study_id)["preference_history"]
            if row["history"]["clicked"] == 1
        ]
        place = f"/api/studies/{found.asked.study_id}/preference/{last}"
        client.request("DELETE", place).raise_for_status()
    told = read_preferences(run)
    assert told["comparisons"] == 2
    assert all(row["low"] is None for row in told["prompts"])  # one round says nothing of intervals
    with served(run, prefer=(2, 1)) as (client, found):
        assert found.asked.name == "preferences-1" and not found.asked.new
        trial = detail(client, found.asked.study_id)["trials"][0]
        client.post(
            f"/api/studies/{found.asked.study_id}/{trial['trial_id']}/skip", json={}
        ).raise_for_status()
    with served(run, prefer=(2, 1)) as (client, found):
        assert found.asked.name == "preferences-2" and found.asked.new


def test_too_little_to_compare(run: Run) -> None:
    """More instructions than prompts have answers to are refused; nothing is left behind."""
    with (
        pytest.raises(UserError, match="0 have answers to 99 common development instructions; let"),
        served(run, prefer=(3, 99)),
    ):
        pass
    with served(run) as (client, _):
        assert len(client.get("/api/studies").json()["study_summaries"]) == 1


def test_mistakes_are_one_line(run: Run, tmp_path: Path) -> None:
    """A taken port, a host that is none, and a run that is none."""
    from icl_align.dashboard import serving

    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(UserError, match=r"port \d+ of 127.0.0.1 is taken; choose another --port"),
        serving(run, port=taken.getsockname()[1]),
    ):
        pass
    with (
        pytest.raises(UserError, match="cannot listen at 203.0.113.7:0: .*; choose another --host"),
        serving(run, host="203.0.113.7", port=0),
    ):
        pass
    empty = start(small_experiment(tmp_path / "empty"), tmp_path / "empty" / "run")
    with pytest.raises(UserError, match="there is no run at"), serving(empty, port=0):
        pass


def test_without_the_package(run: Run) -> None:
    """The remedy is named, and the verb exits with 2."""
    code = (
        "import sys, importlib.util as u; real = u.find_spec\n"
        "u.find_spec = lambda name, *more: None if name == 'optuna_dashboard' else real(name, *more)\n"
        "from icl_align.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "dashboard", str(run.folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "icl-align: optuna_dashboard is not installed; pip install 'icl-align[dashboard]'"
    )


@contextmanager
def verb_process(*arguments: str) -> Iterator[tuple[dict[str, Any], subprocess.Popen[str]]]:
    """The verb as a process, once it has said where it is."""
    with subprocess.Popen(
        [*COMMAND, "dashboard", *arguments, "--port", "0", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        text = ""
        while not text.rstrip().endswith("}"):
            line = process.stdout.readline()
            assert line, process.stderr.read() if process.stderr else ""
            text += line
        try:
            yield json.loads(text), process
        finally:
            if process.poll() is None:
                process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_when_it_is_told_to(run: Run, number: signal.Signals) -> None:
    """Ctrl-C ends it at once, quietly, with 0, as `serve` does."""
    with verb_process(str(run.folder), "--prefer") as (told, process):
        assert told["pid"] == process.pid
        assert httpx.get(told["preferences"]).status_code == 200
        os.kill(process.pid, number)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out, err) == (0, "", "")


def test_it_says_what_people_preferred(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """`--preferences` prints a table, or JSON, and serves nothing."""
    with served(run, prefer=(2, 2)) as (client, found):
        judge(client, found.asked.study_id, 0, [*range(len(found.asked.cards))])
        count = len(found.asked.cards) - 1
    verb.dashboard(run.folder, preferences=True)
    out = capsys.readouterr().out
    assert re.match(r"\d comparisons? in 1 round:", out)
    assert "1 comparisons" not in out and "-0.000" not in out
    assert "zero-shot" in out
    verb.dashboard(run.folder, preferences=True, as_json=True)
    assert json.loads(capsys.readouterr().out)["comparisons"] == count


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"top": 4}, "--top says what people compare, so it needs --prefer"),
        ({"instructions": 3}, "--instructions says what people compare, so it needs --prefer"),
        ({"preferences": True, "top": 4}, "--top says what people compare"),
        ({"preferences": True, "prefer": True}, "give one of the two"),
    ],
)
def test_options_that_would_do_nothing(run: Run, options: dict[str, Any], told: str) -> None:
    """They are refused, not passed over."""
    with pytest.raises(UserError, match=told):
        verb.dashboard(run.folder, **options)


def test_a_sweep_goes_on_meanwhile(tmp_path: Path) -> None:
    """New trials of a running sweep get notes, a person writes amid it, and its result is what it was."""
    experiment = small_experiment(tmp_path / "quiet", search={"sampler": "random", "trials": 120})
    alone = start(experiment, tmp_path / "quiet" / "run").sweep()
    live = start(
        small_experiment(tmp_path / "live", search={"sampler": "random", "trials": 120}),
        tmp_path / "live" / "run",
    )
    code = (
        "import sys; from pathlib import Path; from icl_align.run import open_run\n"
        "open_run(Path(sys.argv[1])).sweep(lambda now: __import__('time').sleep(0.02))"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(live.folder)]) as sweep:
        counts: list[int] = []
        heads: list[str] = []
        end = time.monotonic() + 60
        while not _trials(live):
            assert time.monotonic() < end and sweep.poll() is None
            time.sleep(0.05)
        with served(live) as (client, _):
            client.put(
                "/api/studies/1/1/note", json={"body": "mine", "version": 1}
            ).raise_for_status()
            while sweep.poll() is None:
                content = detail(client)
                counts.append(len(content["trials"]))
                assert all(row["note"]["body"] for row in content["trials"])
                heads.append(content["note"]["body"])
                time.sleep(0.3)
            end = time.monotonic() + 60
            while (
                len((last := detail(client))["trials"]) < 120
            ):  # it keeps trials for a few seconds
                assert time.monotonic() < end
                time.sleep(0.5)
    assert sweep.returncode == 0
    assert len(set(counts)) > 1, counts
    assert "The search goes on: " in heads[0]  # the first trials need not be whole
    assert any("The search goes on: trial" in one for one in heads)
    assert "Not proved yet" in last["note"]["body"]
    assert last["trials"][0]["note"]["body"] == "mine"
    assert all(row["note"]["body"].startswith("### Trial") for row in last["trials"][1:])
    assert [one.digest for one in _prompts(live)] == [
        trial.evaluation.prompt.digest for trial in alone.trials if trial.evaluation
    ]


def _trials(run: Run) -> int:
    """Looks without opening the study, which would make tables while the sweep makes them."""
    if not (place := run.folder / "run.db").exists():
        return 0
    try:
        with closing(sqlite3.connect(f"file:{place}?mode=ro", uri=True)) as database:
            return int(database.execute("SELECT count(*) FROM trials").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def _prompts(run: Run) -> list[Any]:
    return [trial.evaluation.prompt for trial in run.trials() if trial.evaluation]


def test_hostile_texts_are_escaped(run: Run) -> None:
    """Characters that steer or turn text are written out in every note."""
    with served(run, prefer=(2, 2)) as (client, found):
        bodies = [
            row["note"]["body"]
            for study in (1, found.asked.study_id)
            for row in detail(client, study)["trials"]
        ]
    assert any(HOSTILE[:30] in body for body in bodies)
    assert not [body for body in bodies if re.search("[\u202a-\u202e\x00-\x08\x1b]", body)]
