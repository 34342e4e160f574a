"""Promises of icl_align.passport: figures, judges, files."""

from __future__ import annotations

import gzip
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from icl_align.errors import UserError
from icl_align.passport import (
    Criteria,
    Judge,
    Plan,
    check_passport,
    judge_fingerprint,
    load_judge,
    load_passport,
    validate,
)
from icl_align.passport.items import most_frequent, read_pairs, read_ratings
from icl_align.passport.judges import Comparing, reseeded
from icl_align.scorers.pairwise import PairwiseJudge, PairwiseScorer
from icl_align.types import Example, Preference, Response, Score

SHARED = Path(os.environ.get("ICL_ALIGN_SHARED", Path(__file__).resolve().parents[2] / "shared"))
PANDALM = SHARED / "data" / "human_pairs" / "pandalm.jsonl"
LLMBAR = SHARED / "data" / "human_pairs" / "llmbar.jsonl"
JUST_EVAL = SHARED / "data" / "just_eval" / "annotations.jsonl.gz"
needs_pairs = pytest.mark.skipif(not PANDALM.exists(), reason="needs shared/data/human_pairs")


class Scripted:
    """Prefers the text with the higher number in it; says what it was asked."""

    name = "scripted"
    fingerprint = "scripted:1"

    def __init__(self, *, first_bonus: float = 0.0, fail_after: int | None = None) -> None:
        self.first_bonus, self.fail_after = first_bonus, fail_after
        self.asked = 0

    def prefer(
        self, examples: Sequence[Example], first: Sequence[Response], second: Sequence[Response]
    ) -> list[Preference]:
        found = []
        for one, two in zip(first, second, strict=True):
            if self.fail_after is not None and self.asked >= self.fail_after:
                raise ConnectionError("the server has gone")
            self.asked += 1
            if "silent" in one.text + two.text:
                found.append(Preference(None, note="<b>cannot be read</b>"))
                continue
            lead = float(one.text.split()[0]) + self.first_bonus - float(two.text.split()[0])
            found.append(Preference(0.5 if lead == 0 else float(lead > 0)))
        return found


def _judge(judge: Scripted) -> Judge:
    return Judge("scripted", judge.fingerprint, judge)


def _pairs(tmp_path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _some(n: int = 40) -> list[dict[str, Any]]:
    """Pairs whose higher number is right; every fourth one is called a tie."""
    rows = []
    for number in range(n):
        one, two = (5, 3) if number % 2 else (3, 5)
        label = 0 if number % 4 == 0 else 1 if one > two else 2
        rows.append(
            {
                "id": f"p{number}",
                "instruction": f"What is number {number // 2}?",
                "response1": f"{one} " + "x" * (number % 7),
                "response2": f"{two} " + "y" * (number % 5),
                "label": label,
            }
        )
    return rows


@needs_pairs
@pytest.mark.parametrize(
    ("judge", "accuracy"),
    [
        ("recorded:gpt35", 69.00),
        ("recorded:pandalm7b", 68.67),
        ("longer", 61.00),
        ("shorter", 28.50),
        ("annotator", 92.33),
    ],
)
def test_published_agreement_is_recomputed(judge: str, accuracy: float, tmp_path: Path) -> None:
    """The figures of the data's README, to the printed digit, and each beside longer and people."""
    found = validate(load_judge(judge), Plan(PANDALM), tmp_path).pairs
    assert found is not None
    assert round(100 * found["judge"]["accuracy"]["mean"], 2) == accuracy
    if judge != "annotator":
        assert round(100 * found["longer"]["accuracy"]["mean"], 2) == 61.00
        assert round(100 * found["annotator"]["accuracy"]["mean"], 2) == 92.33


@needs_pairs
def test_length_matched_pairs_are_those_of_the_earlier_study(tmp_path: Path) -> None:
    """149 pairs without ties are within a factor of 1.3; "longer wins" gets 61.4 % there, 68.1 % in all."""
    found = validate(load_judge("longer"), Plan(PANDALM), tmp_path).pairs
    assert found is not None
    matched = found["length"]["matched"]
    assert (matched["n"], round(100 * matched["mean"], 1)) == (149, 61.4)
    assert round(100 * found["judge"]["accuracy_non_tie"]["mean"], 1) == 68.1
    assert found["length"]["people_prefer_shorter"]["mean"] == 0.0


@needs_pairs
def test_no_published_judge_may_replace_these_annotators(tmp_path: Path) -> None:
    """They agree far better with one another: the alternative annotator test fails, garbage counted."""
    passport = validate(
        load_judge("recorded:gpt35"), Plan(PANDALM, criteria=Criteria(alt_test=True)), tmp_path
    )
    assert passport.pairs is not None
    assert passport.pairs["alt_test"]["winning_rate"] == 0.0
    assert passport.pairs["alt_test"]["missing"] == passport.pairs["missing"]["n"] == 10
    assert [check["name"] for check in passport.checks if check["verdict"] == "missed"] == [
        "alt_test"
    ]


@needs_pairs
def test_longer_wins_on_adversarial_pairs(tmp_path: Path) -> None:
    """LLMBar's Natural subset: 43.9 %, as its README says."""
    rows = [json.loads(line) for line in LLMBAR.read_text("utf-8").splitlines()]
    path = _pairs(tmp_path, [row for row in rows if row["subset"] == "Natural"])
    found = validate(load_judge("longer"), Plan(path), tmp_path / "out").pairs
    assert found is not None
    assert round(100 * found["judge"]["accuracy"]["mean"], 1) == 43.9
    assert found["annotator"] is None
    assert "two annotators" in found["notes"]["annotator"]


@pytest.mark.skipif(not JUST_EVAL.exists(), reason="needs shared/data/just_eval")
def test_two_judges_ratings_are_compared(tmp_path: Path) -> None:
    """One judge's recorded safety scores against the other's, N/A counted as missing."""
    rows = []
    with gzip.open(JUST_EVAL, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            other = next((one["scores"].get("safety") for one in row["extra_ratings"]), None)
            if other is not None:
                rows.append(
                    {
                        "id": f"{row['model']}-{row['id']}",
                        "instruction": row["instruction"],
                        "response": row["output"],
                        "score": other,
                        "scale": [1, 5],
                        "gpt35": row["scores"].get("safety"),
                    }
                )
    assert len(rows) > 100
    path = _pairs(tmp_path, rows)
    found = validate(load_judge("recorded:gpt35"), Plan(ratings=path), tmp_path / "out").ratings
    assert found is not None
    missing = sum(row["gpt35"] is None for row in rows)
    assert found["judge"]["missing"] == missing
    assert found["judge"]["n"] == len(rows) - missing


def test_a_good_judge_passes_and_one_that_only_sees_places_fails(tmp_path: Path) -> None:
    """A judge that always takes the first survives no change of places, and its passport says so."""
    path = _pairs(tmp_path, _some())
    good = validate(_judge(Scripted()), Plan(path, seeds=2), tmp_path / "good")
    assert good.passes
    assert good.pairs is not None
    assert good.pairs["position"]["consistency"]["mean"] == 1.0
    assert good.pairs["repeatability"]["identical"]["mean"] == 1.0
    bad = validate(_judge(Scripted(first_bonus=100)), Plan(path), tmp_path / "bad")
    assert not bad.passes
    assert bad.pairs is not None
    assert bad.pairs["position"]["consistency"]["mean"] == 0.0
    assert bad.pairs["position"]["shown_first"]["mean"] == 1.0
    reasons = check_passport(bad, "scripted:1")
    assert any("survive a change of places at least 0.8, but it is 0.000" in one for one in reasons)


def test_a_failed_run_goes_on_and_pays_nothing_twice(tmp_path: Path) -> None:
    """After a crash in the third chunk, and a line cut off half-way, only the rest is asked."""
    path, out = _pairs(tmp_path, _some(48)), tmp_path / "out"
    with pytest.raises(ConnectionError):
        validate(_judge(Scripted(fail_after=40)), Plan(path, swap=False), out)
    stored = out / "verdicts.jsonl"
    assert len(stored.read_text("utf-8").splitlines()) == 32
    stored.write_bytes(stored.read_bytes()[:-20])
    again = Scripted()
    resumed = validate(_judge(again), Plan(path, swap=False), out)
    assert again.asked == 48 - 31
    whole = validate(_judge(Scripted()), Plan(path, swap=False), tmp_path / "whole")
    assert resumed.pairs is not None
    assert whole.pairs is not None
    assert resumed.pairs["judge"] == whole.pairs["judge"]
    third = Scripted()
    validate(_judge(third), Plan(path, swap=False), out)
    assert third.asked == 0


def test_missing_verdicts_are_counted_and_asked_again(tmp_path: Path) -> None:
    """They are in no figure but accuracy, never cached, and their reasons are shown escaped."""
    rows = _some(20)
    rows[3]["response1"] = "silent"
    path, out = _pairs(tmp_path, rows), tmp_path / "out"
    found = validate(_judge(Scripted()), Plan(path, swap=False), out)
    assert found.pairs is not None
    assert found.pairs["missing"]["n"] == found.pairs["judge"]["missing"] == 1
    again = Scripted()
    validate(_judge(again), Plan(path, swap=False), out)
    assert again.asked == 1
    page = (out / "passport.html").read_text("utf-8")
    assert "<b>cannot be read" not in page
    assert "&lt;b&gt;cannot be read&lt;/b&gt;" in page


def test_the_page_runs_nothing_and_asks_for_nothing(tmp_path: Path) -> None:
    """Scripts in judged text are text; there is no script, no link out; bidi and escapes are visible."""
    rows = _some(20)
    rows[4]["response2"] = '9 </pre><script>alert(1)</script><img src="https://evil.example/x">'
    rows[4]["instruction"] = "Say \u202eno\x1b[2J $\\frac$"
    rows[4]["label"] = 1
    out = tmp_path / "out"
    validate(_judge(Scripted()), Plan(_pairs(tmp_path, rows)), out)
    page = (out / "passport.html").read_text("utf-8")
    assert "&lt;script&gt;alert(1)" in page
    assert not re.search(r"<script|<link|<iframe|src=\"(?!data:)|href=", page)
    assert "\\u202e" in page
    assert "\x1b" not in page
    assert "default-src 'none'" in page


def test_passports_round_trip_and_tell_judges_apart(tmp_path: Path) -> None:
    """A sweep reads what was written; another judge's fingerprint is a reason against it."""
    out = tmp_path / "out"
    written = validate(_judge(Scripted()), Plan(_pairs(tmp_path, _some())), out)
    read = load_passport(out)
    assert read == load_passport(out / "passport.json")
    assert read.to_json() == json.loads(json.dumps(written.to_json(), allow_nan=False))
    assert check_passport(read, "scripted:1") == []
    assert "the judge in use is 'other'" in check_passport(read, "other")[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no passport"),
        ("[]", "is no passport"),
        ('{"version": 9}', "has version 9, this icl_align reads version 1"),
        ('{"version": 1}', "is damaged"),
    ],
)
def test_other_files_are_no_passports(content: str, message: str, tmp_path: Path) -> None:
    """Broken, foreign and newer files are refused in a line."""
    place = tmp_path / "passport.json"
    place.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        load_passport(place)


def test_self_preference_is_held_against_people(tmp_path: Path) -> None:
    """Only pairs with one response of the author count; people's share is taken off."""
    rows = _some(20)
    for number, row in enumerate(rows):
        row |= {"model1": "mine", "model2": "mine" if number < 4 else "other", "me": "first"}
    path, config = _pairs(tmp_path, rows), tmp_path / "judge.toml"
    part = tmp_path / "part.py"
    part.write_text(
        "from icl_align.types import Preference\n"
        "class First:\n"
        "    name = fingerprint = 'first'\n"
        "    def prefer(self, examples, first, second):\n"
        "        return [Preference(1.0, (1.0, 1.0)) for _ in first]\n",
        encoding="utf-8",
    )
    config.write_text('[judge]\nscorer = "part.py:First"\nauthor = "mine"\n', encoding="utf-8")
    found = validate(load_judge(str(config)), Plan(path), tmp_path / "out").pairs
    assert found is not None
    own = found["self_preference"]
    assert own["judge"]["n"] == 16
    assert own["judge"]["mean"] == 1.0
    people = [(1 + {0: 0, 1: 1, 2: -1}[row["label"]]) / 2 for row in rows[4:]]
    assert own["difference"]["mean"] == pytest.approx(1 - sum(people) / 16)


def test_repeats_are_asked_with_other_seeds(tmp_path: Path) -> None:
    """A judge that follows its seed is found out, and each seed's verdicts are remembered apart."""
    part, config = tmp_path / "part.py", tmp_path / "judge.toml"
    part.write_text(
        "from icl_align.types import Preference\n"
        "class Seeded:\n"
        "    name = fingerprint = 'seeded'\n"
        "    def __init__(self, model, seed=0):\n"
        "        self.model, self.seed = model, model['seed']\n"
        "    def prefer(self, examples, first, second):\n"
        "        value = float(self.seed == 0)\n"
        "        return [Preference(value, (value, value)) for _ in first]\n",
        encoding="utf-8",
    )
    config.write_text(
        '[judge]\nscorer = "part.py:Seeded"\noptions = {model = {name = "m", seed = 0}}\n',
        encoding="utf-8",
    )
    path, out = _pairs(tmp_path, _some(8)), tmp_path / "out"
    for _ in range(2):
        found = validate(load_judge(str(config)), Plan(path, seeds=3), out).pairs
        assert found is not None
        assert found["repeatability"] == {
            "identical": {"mean": 0.0, "low": 0.0, "high": 0.0, "level": 0.95, "n": 16},
            "repeats": 2,
        }
    assert len((out / "verdicts.jsonl").read_text("utf-8").splitlines()) == 24


def test_a_part_of_ones_own_must_judge(tmp_path: Path) -> None:
    """Something that neither compares nor scores is refused."""
    (tmp_path / "part.py").write_text("class Nothing: pass\n", encoding="utf-8")
    config = tmp_path / "judge.toml"
    config.write_text('[judge]\nscorer = "part.py:Nothing"\n', encoding="utf-8")
    with pytest.raises(UserError, match="gave a Nothing, which is no judge"):
        load_judge(str(config))


def test_the_built_in_judge_of_pairs_is_examined_whatever_it_scores_against(tmp_path: Path) -> None:
    """The scorer "pairwise" is asked about pairs directly; its fixed answers are not the judge's."""
    config = tmp_path / "judge.toml"
    config.write_text(
        '[judge]\nscorer = "pairwise"\n[judge.options]\nmodel = "openai/some-model"\n', "utf-8"
    )
    judge = load_judge(str(config))
    answers = tmp_path / "answers.jsonl"
    answers.write_text('{"query": "Q", "answer": "A"}\n', encoding="utf-8")
    scorer = PairwiseScorer("openai/some-model", against=str(answers))
    assert isinstance(judge.pairs, PairwiseJudge)
    assert judge.scorer is None
    assert judge.fingerprint == judge_fingerprint(scorer) != scorer.fingerprint
    other = reseeded(judge, 5)
    assert isinstance(other.pairs, PairwiseJudge)
    assert (other.pairs.model.seed, other.fingerprint) == (5, judge.fingerprint)


class ByDigits:
    """Scores a response by its first number, over ten."""

    name = "digits"
    fingerprint = "digits:1"

    def score(self, examples: Sequence[Example], responses: Sequence[Response]) -> list[Score]:
        return [
            Score(None, note="no number") if "silent" in one.text else Score(float(one.text[0]) / 9)
            for one in responses
        ]


def test_a_scorer_compares_by_its_scores() -> None:
    """The better score wins, within the margin it is a tie, a missing score is no verdict."""
    first = [Response(text, 1, "stop") for text in ("5", "3", "4", "silent")]
    second = [Response(text, 1, "stop") for text in ("3", "5", "5", "1")]
    examples = [Example("?")] * 4
    found = Comparing(ByDigits()).prefer(examples, first, second)
    assert [one.value for one in found] == [1.0, 0.0, 0.0, None]
    assert found[3].note == "no number"
    wide = Comparing(ByDigits(), 0.15).prefer(examples, first, second)
    assert [one.value for one in wide] == [1.0, 0.0, 0.5, None]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "one table, \\[judge\\]; this one has nothing"),
        ("[judge]\n", "scorer: Field required"),
        ('[judge]\nscorer = "checklist"\nautor = "x"\n', "'autor'; did you mean 'author'"),
        ('[judge]\nscorer = "embeding"\n', "did you mean 'embedding'"),
        ('[judge]\nscorer = "checklist"\n[judge.options]\na = 1\n', "'checklist' takes none"),
        ("[judge", "broken TOML"),
    ],
)
def test_judge_files_are_refused_with_a_remedy(content: str, message: str, tmp_path: Path) -> None:
    """A misspelt key or scorer names the nearest one."""
    config = tmp_path / "judge.toml"
    config.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        load_judge(str(config))


def test_a_misspelt_judge_or_column_is_named(tmp_path: Path) -> None:
    """The nearest rule and the nearest column are suggested."""
    with pytest.raises(UserError, match="did you mean 'longer'"):
        load_judge("longr")
    path = _pairs(tmp_path, [{**row, "gpt35": 1} for row in _some(4)])
    with pytest.raises(UserError, match="no line has a field 'gpt3'; did you mean 'gpt35'"):
        validate(load_judge("recorded:gpt3"), Plan(path), tmp_path / "out")


_GOOD = {"id": "a", "instruction": "Q", "response1": "x", "response2": "y", "label": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": 3}, r'pairs.jsonl:2: label must be 0 or "tie", 1 or "first", .* got 3'),
        ({"label": True}, "got True"),
        ({"label": None}, "got None"),
        ({"labels": [1, 5]}, "each of them must be 0"),
        ({"response1": None}, "'response1' must be a text"),
        ({"instruction": " "}, "the instruction is empty"),
        ({"id": "first"}, "the id 'first' occurs before"),
    ],
)
def test_bad_pairs_are_refused_by_line(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """Place, rule and what was given."""
    path = _pairs(tmp_path, [{**_GOOD, "id": "first"}, {**_GOOD, **change}])
    with pytest.raises(UserError, match=message):
        read_pairs(path)


def test_halves_of_characters_do_no_harm(tmp_path: Path) -> None:
    """JSON may hold lone surrogates; a passport is made all the same, whole pairs stay."""
    row = {**_GOOD, "id": "\ud800", "response1": "1 \ud83d\ude00 \ud800", "response2": "2 y"}
    path = _pairs(tmp_path, [row, {**_GOOD, "id": "b", "response1": "3", "response2": "4"}])
    assert read_pairs(path, 1)[0].id in {"\ufffd", "b"}
    assert read_pairs(path)[0].first == "1 \U0001f600 \ufffd"
    assert validate(_judge(Scripted()), Plan(path), tmp_path / "out").pairs is not None


def test_bad_ratings_are_refused_by_line(tmp_path: Path) -> None:
    """A score outside its scale, or without one, is no rating."""
    good = {"instruction": "Q", "response": "x", "score": 3, "scale": [1, 5]}
    assert read_ratings(_pairs(tmp_path, [good]))[0].score == 0.5
    for change, message in (
        ({"score": 6}, "from 1 to 5"),
        ({"scale": [5, 1]}, "'scale' must be"),
        ({"scores": [3, None]}, "from 1 to 5"),
    ):
        with pytest.raises(UserError, match=message):
            read_ratings(_pairs(tmp_path, [{**good, **change}]))


def test_labels_and_samples(tmp_path: Path) -> None:
    """The most frequent label counts, split opinions are a tie; a sample is the seed's and no more."""
    assert most_frequent([1, 1, -1]) == 1
    assert most_frequent([1, 0, -1]) == 0
    path = _pairs(tmp_path, _some(40))
    names = [pair.id for pair in read_pairs(path, 10, 0)]
    assert len(names) == 10
    assert names == [pair.id for pair in read_pairs(path, 10, 0)]
    assert names != [pair.id for pair in read_pairs(path, 10, 1)]


def test_settings_without_data_are_refused(tmp_path: Path) -> None:
    """There must be pairs or ratings; a judge of pairs gives no ratings; bounds are bounds."""
    with pytest.raises(UserError, match="--pairs FILE, --ratings FILE or both"):
        validate(load_judge("longer"), Plan(), tmp_path)
    path = _pairs(tmp_path, [{"instruction": "Q", "response": "x", "score": 3, "scale": [1, 5]}])
    with pytest.raises(UserError, match="only compares responses"):
        validate(load_judge("longer"), Plan(ratings=path), tmp_path)
    with pytest.raises(UserError, match="kappa must be from -1 to 1, got 40"):
        Criteria(kappa=40)


def test_scores_of_ratings_are_remembered(tmp_path: Path) -> None:
    """A second run asks for nothing but what had no score."""
    rows = [
        {"instruction": f"Q{n}", "response": "x" * n, "score": 1 + n % 5, "scale": [1, 5]}
        for n in range(9)
    ]
    file = tmp_path / "ratings.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    judge = tmp_path / "judge.toml"
    judge.write_text('[judge]\nscorer = "short.py:Short"\n')
    (tmp_path / "short.py").write_text(
        "from pathlib import Path\n"
        "from icl_align.types import Score\n"
        "class Short:\n"
        "    name, fingerprint = 'short', 'short:1'\n"
        "    def score(self, examples, responses):\n"
        "        with Path(__file__).with_suffix('.count').open('a') as file:\n"
        "            file.write('x' * len(responses))\n"
        "        return [Score(1 / len(r.text) if r.text else None) for r in responses]\n"
    )
    made = load_judge(str(judge))
    first = validate(made, Plan(ratings=file), tmp_path / "out")
    again = validate(made, Plan(ratings=file), tmp_path / "out")
    assert again == first
    assert len((tmp_path / "short.count").read_text()) == 9 + 1
