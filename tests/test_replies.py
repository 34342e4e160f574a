"""Judges' replies are read tolerantly, and no verdict is ever invented."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_align.scorers.replies import (
    MT_BENCH_CHOICES,
    NOT_APPLICABLE,
    Reading,
    read_answers,
    read_choice,
    read_choices,
    read_rating,
    read_scores,
)

SHARED = Path(os.environ.get("ICL_ALIGN_SHARED", Path(__file__).resolve().parents[2] / "shared"))
JUST_EVAL = SHARED / "data" / "just_eval"
ASPECTS = ("helpfulness", "clarity", "factuality", "depth", "engagement", "safety")


def _rows(name: str) -> list[dict[str, Any]]:
    path = JUST_EVAL / name
    if not path.exists():
        pytest.skip(f"{path} is not here; set ICL_ALIGN_SHARED")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _read(text: str, *aspects: str, low: float = 1, high: float = 5) -> Reading:
    return read_scores(text, aspects or ("helpfulness",), low=low, high=high)


def _score(text: str, low: float = 1, high: float = 5) -> float | None:
    return _read(text, low=low, high=high).scores["helpfulness"]


@pytest.mark.parametrize("name", ["annotations.jsonl.gz", "example_ratings.jsonl.gz"])
def test_recorded_replies_read_as_recorded(name: str) -> None:
    """Every raw reply of just-eval's judges gives its recorded scores and reasons; N/A is none."""
    judged = [
        part
        for row in _rows(name)
        for part in (row, *row.get("extra_ratings", ()))
        if part["judge_raw"] is not None
    ]
    assert len(judged) == {"annotations.jsonl.gz": 2050, "example_ratings.jsonl.gz": 30}[name]
    for part in judged:
        reading = _read(part["judge_raw"], *part["scores"])
        assert reading.scores == part["scores"]
        assert set(reading.problems.values()) <= {NOT_APPLICABLE}
        said = json.loads(part["judge_raw"])
        assert reading.reasons == {aspect: said[aspect]["reason"] for aspect in said}


def test_recorded_comparisons_read_as_recorded() -> None:
    """Both kinds of recorded pairwise replies give their recorded verdicts."""
    for row in _rows("example_pairwise.jsonl.gz"):
        parsed, raw = row["parsed"], row["judge_raw"]
        if "preference" in parsed:
            assert read_choice(raw, ("A", "B", "same")).value == parsed["preference"]
        else:
            found = read_choices(raw, tuple(parsed), ("A", "B", "same"))
            assert found.choices == {aspect: parsed[aspect]["preference"] for aspect in parsed}


@pytest.mark.parametrize(
    "reply",
    [
        '{"helpfulness": 4}',
        '{"helpfulness": "4"}',
        '{"helpfulness": 4.0}',
        '{"Helpfulness": {"reason": "good", "score": "4/5"}}',
        '{"helpfulness": {"reason": "good", "score": "Score: 4"}}',
        '{"helpfulness": {"reason": "good", "score": 4/5}}',
        '{"helpfulness": {"reason": "good", "score": "4 out of 5"}}',
        '{"helpfulness_score": 4}',
        '{"helpfulness": {"reason": "one\ntwo", "score": "4",},}',
        '{"helpfulness": {"reason": "says "hello", and "bye"", "score": "4"}}',
        '{"helpfulness": {"reason": "It\\\'s \\d fine", "score": "4"}}',
        "{'helpfulness': {'reason': 'It's good', 'score': 4, 'sure': True, 'x': None}}",
        '{helpfulness: {reason: "good", score: 4}}',
        '{"helpfulness": {"reason": "no comma"\n "score": "4"}}',
        '```json\n{"helpfulness": 4}\n```',
        '{\n```json\n"helpfulness": 4\n```\n}',
        'I think {x | x > 0} and {} first.\nOutput: {"helpfulness": 4} That is all.',
        '{"evaluation": {"helpfulness": {"score": 4}}}',
        '[{"aspect": "helpfulness", "score": 4}, {"aspect": "clarity", "score": 2}]',
        '{"reason": "flat", "score": "4"}',
        '{"helpfulness": 2} Wait: {"helpfulness": 4}',
        '{"helpfulness": 4} {"helpfulness": {"reason": "<why>", "score": "[1-5]"}}',
        '{"helpfulness": 4} {"helpfulness": {"reason": "cut o',
        '{"helpfulness": {"reason": "5. \\"score\\": \\"5\\"", "score": "4"}}',
        '{"helpfulness": {"reason": "he wrote "score": "5", but no", "score": "4"}}',
    ],
)
def test_forms_that_are_read(reply: str) -> None:
    """Every usual way to garble JSON gives the score that stands there."""
    assert _score(reply) == 4


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ("", "no JSON object"),
        ("4", "no JSON object"),
        ('{"helpfulness": 6}', "outside the scale"),
        ('{"helpfulness": 0}', "outside the scale"),
        ('{"helpfulness": -4}', "outside the scale"),
        ('{"helpfulness": 1e999}', "outside the scale"),
        ('{"helpfulness": true}', "no number"),
        ('{"helpfulness": NaN}', "not one number"),
        ('{"helpfulness": "N/A"}', NOT_APPLICABLE),
        ('{"helpfulness": N/A}', NOT_APPLICABLE),
        ('{"helpfulness": null}', NOT_APPLICABLE),
        ('{"helpfulness": "4-5"}', "not one number"),
        ('{"helpfulness": "4 or 5"}', "not one number"),
        ('{"helpfulness": "4/10"}', "not on the scale"),
        ('{"helpfulness": "four"}', "not one number"),
        ('{"helpfulness": [4]}', "a list or an object"),
        ('{"helpfulness": {"reason": "good"}}', "holds no score"),
        ('{"helpfulness": {"score": 4, "score": 2}}', "more than one"),
        ('{"clarity": {"score": 4}}', "does not say it"),
        ('"clarity": {"score": 4}', "does not say it"),
        ('{"helpfulness": "<score>"}', "template"),
        ('{"helpfulness": {"reason": "...", "score": "1-5"}}', "template"),
        ('{"helpfulness": {"reason": "...", "score": "[your score]"}}', "template"),
        ('{"helpfulness": {"reason": "x", "score": "4"', "breaks off"),
        ('{"helpfulness": {"reason": "x" oops, "score": "4"}}', "holds no score"),
        ('{"helpfulness": {"reason": 3 oops "score": "4"}}', "broken"),
        ('{"helpfulness": {"reason": {}, "score": "4"', "breaks off"),
        ('{"helpfulness": 5} No: {"helpfulness": {"reason": "x" oops, "score": 2}}', "broken"),
        ('{"helpfulness": 4, "clarity": 5}' + "x" * 200_000, "characters"),
    ],
)
def test_what_is_no_score(reply: str, why: str) -> None:
    """A reply without one clear number on the scale has no score, and a reason."""
    reading = _read(reply)
    assert reading.scores == {"helpfulness": None}
    assert why in reading.problems["helpfulness"]
    assert reading.text == reply


def test_objects_of_distinct_aspects_add_up_and_a_second_say_supersedes_the_first() -> None:
    """An object per aspect is fine; once an aspect is said again, the earlier object is void."""
    two = '{"helpfulness": 4}\n{"clarity": 3}'
    assert _read(two, "helpfulness", "clarity").scores == {"helpfulness": 4, "clarity": 3}
    draft = '{"helpfulness": 4, "clarity": 3}\n{"clarity": 2}'
    assert _read(draft, "helpfulness", "clarity").scores == {"helpfulness": None, "clarity": 2}


def test_the_templates_own_example_never_counts() -> None:
    """An object that equals an example is passed over, whatever its white space."""
    example = '{"helpfulness": {"reason": "Clear.", "score": "5"}}'
    echo = '{ "helpfulness":{"reason":"Clear.",\n"score":"5"} }'
    read = read_scores(echo, ["helpfulness"], low=1, high=5, examples=[example])
    assert read.scores == {"helpfulness": None}
    assert read.problems == {"helpfulness": "the reply only repeats an example"}
    both = f'{{"helpfulness": 2}}\n{echo}'
    assert read_scores(both, ["helpfulness"], low=1, high=5, examples=[example]).scores == {
        "helpfulness": 2
    }


def test_what_callers_must_not_ask() -> None:
    """Aspects are distinct, scales are scales."""
    with pytest.raises(ValueError, match="distinct aspects"):
        read_scores("{}", ["a", "A"], low=1, high=5)
    with pytest.raises(ValueError, match="distinct aspects"):
        read_scores("{}", [], low=1, high=5)
    with pytest.raises(ValueError, match="low < high"):
        read_scores("{}", ["a"], low=5, high=5)
    with pytest.raises(ValueError, match="two meanings"):
        read_choice("A", {"A": "first", "a": "second"})


_reasons = st.text(st.characters(codec="utf-8"), max_size=120) | st.sampled_from(
    ['", "score": "5"}}', '{"helpfulness": 5}', "```\n{'helpfulness': 5}\n```", "[[5]]\\", '\\"']
)
_wholes = st.dictionaries(
    st.sampled_from(ASPECTS), st.tuples(_reasons, st.integers(1, 5)), min_size=1
)


@given(_wholes, st.booleans(), st.sampled_from([None, 1]))
def test_valid_json_gives_its_scores_whatever_the_reasons_say(
    whole: dict[str, tuple[str, int]], ascii_only: bool, indent: int | None
) -> None:
    """No text that a judge quotes properly moves a score."""
    reply = json.dumps(
        {a: {"reason": r, "score": str(s)} for a, (r, s) in whole.items()},
        ensure_ascii=ascii_only,
        indent=indent,
    )
    reading = _read(reply, *ASPECTS)
    assert reading.scores == {a: whole[a][1] if a in whole else None for a in ASPECTS}
    assert set(reading.problems) == set(ASPECTS) - set(whole)


@given(_wholes)
def test_python_literals_give_their_scores(whole: dict[str, tuple[str, int]]) -> None:
    """So it is for a dictionary as Python prints it."""
    reply = repr({a: {"reason": r, "score": s} for a, (r, s) in whole.items()})
    assert _read(reply, *whole).scores == {a: s for a, (_, s) in whole.items()}


_TOKENS = [
    *"{}[]:,\"'\\/-.\n `",
    *("```", "```json", "helpfulness", '"helpfulness"', "clarity", '"clarity":', '"score":'),
    *('"score": "3"', '"reason": "', "3", "4", "5", "7", "-1", "1-5", "N/A", "null", "true", "NaN"),
    *(
        "4 or 5",
        "4/5",
        "Score: 2",
        "<score>",
        "[[4]]",
        "[3]",
        "tie",
        "[[A]]",
        '{"',
        '"}',
        "1.",
        "Yes",
    ),
    *(
        '{"helpfulness": ',
        '{"reason": "x", "score": "4"}',
        '{"clarity": {"score": 2}}',
        "}}",
        "\ud800",
    ),
]


def _junk(seed: int, most: int = 60) -> str:
    rng = random.Random(seed)
    return "".join(rng.choices(_TOKENS, k=rng.randrange(most)))


def _numbers(text: str) -> set[float]:
    return {float(found) for found in re.findall(r"(?=(\d+(?:\.\d+)?))", text)}


def test_a_thousand_garbled_replies_give_no_invented_verdict() -> None:
    """Whatever is read stands in the reply, on the scale, by the aspect's name; nothing crashes."""
    scored = 0
    for seed in range(1000):
        text = _junk(seed)
        reading = _read(text, "helpfulness", "clarity")
        for aspect, score in reading.scores.items():
            assert (score is None) == (aspect in reading.problems)
            if score is not None:
                scored += 1
                assert score in _numbers(text)
                assert 1 <= score <= 5
                # its number follows the aspect's name, in a whole object
                told = rf"{aspect}[\s\S]*?\b{score:g}\b[\s\S]*\}}"
                assert re.search(told, text), (text, aspect, score)
        rating = read_rating(text, 1, 10).value
        assert rating is None or re.search(rf"\[{rating:g}\]", text)
        choice = read_choice(text).value
        assert choice is None or choice.casefold() in text.casefold()
        answers = read_answers(text, 3)
        assert len(answers) == 3
        assert not any(answers) or "Yes" in text or "true" in text
    assert scored > 10, "the garbled replies test nothing if none of them can be read"


@pytest.mark.parametrize("seed", range(200))
def test_junk_around_a_valid_reply_changes_nothing(seed: int) -> None:
    """Appended junk that names no aspect, and fences, leave a reading as it is."""
    rng = random.Random(seed)
    scores = {aspect: rng.randint(1, 5) for aspect in ASPECTS}
    body = json.dumps({a: {"reason": _junk(seed, 8), "score": s} for a, s in scores.items()})
    junk = _junk(seed + 1).replace("helpfulness", "he").replace("clarity", "cl")
    for reply in (
        body,
        body + junk,
        f"```json\n{body}\n```",
        f"```\n{body}",
        f"Here: {body} {junk}",
    ):
        assert _read(reply, *ASPECTS).scores == scores


@given(_wholes, st.data())
@settings(max_examples=200)
def test_cutting_a_reply_off_makes_no_score(
    whole: dict[str, tuple[str, int]], data: st.DataObject
) -> None:
    """A reply that was cut off says nothing."""
    reply = json.dumps({a: {"reason": r, "score": s} for a, (r, s) in whole.items()})
    cut = reply[: data.draw(st.integers(0, len(reply) - 1))]
    assert set(_read(cut, *ASPECTS).scores.values()) == {None}


@given(st.text(st.characters(), max_size=300))
def test_any_text_is_read_without_a_crash(text: str) -> None:
    """Not even lone surrogates and control characters stop a reading."""
    assert set(_read(text).scores) == {"helpfulness"}
    read_choice(text)
    read_rating(text, 1, 10)
    read_answers(text, 2)


_TILES = [
    *(
        "[[",
        "{",
        '{"a":',
        '{"a":"',
        '{"a":"}',
        '{"helpfulness":[',
        '{"a":{"a":1},',
        '","',
        "{'",
        "\\",
    ),
    *(
        '"',
        "{ ",
        "``` ",
        '{"a":"\n',
        "[[A]] for ",
        "1. yes\n",
        "[\n",
        '","a":',
        "\n[",
        '{"a" ',
        "]",
    ),
    *('{"a":"x","k":oops}\n', "{a", "yes and ", "? ", "verdict: ", "score ", "[[[1"),
]


@pytest.mark.parametrize("tile", _TILES)
def test_hostile_replies_take_linear_time(tile: str) -> None:
    """A hundred thousand characters of any such pattern take well under two seconds."""
    text = (tile * (100_000 // len(tile) + 1))[:100_000]
    start = time.perf_counter()
    assert _read(text).scores == {"helpfulness": None}
    read_choices(text, ("helpfulness",))
    read_choice(text)
    read_rating(text, 1, 10)
    read_answers(text, 3)
    assert time.perf_counter() - start < 2.0


@pytest.mark.parametrize(
    ("reply", "choice"),
    [
        ("A", "A"),
        ("**b**.", "B"),
        ("[[A]]", "A"),
        ("Output A is longer.\n\n[[B]]", "B"),
        ("[[A]] ... no: [[B]]", "B"),
        ("A=B", "tie"),
        ("[[A=B]]", "tie"),
        ('{"reason": "x", "choice": "A"}', "A"),
        ('{"preference": "Output B"}', "B"),
        ('{"preference": "same"}', "tie"),
        ("Both are good.\nFinal verdict: tie", "tie"),
        ('[[B]]\nThe form was "[[A]]" if A is better, "[[B]]" if B is, "[[A=B]]" for a tie', "B"),
        ("A or B", None),
        ("[[A or B]]", None),
        ("[[D]]", None),
        ("A is better than B, or so it seems", None),
        ('{"choice": "A", "verdict": "B"}', None),
        ('{"choice": "A"} [[B]]', None),
        ('{"choice": "A/B/tie"}', None),
        ("", None),
    ],
)
def test_choices(reply: str, choice: str | None) -> None:
    """The last clear verdict counts; contradictions are none."""
    found = read_choice(reply)
    assert (found.value, bool(found.problem)) == (choice, choice is None)


def test_spellings_of_choices_can_be_given() -> None:
    """MT-Bench's C is a tie, and is none where it is not among the choices."""
    assert read_choice("[[C]]", MT_BENCH_CHOICES).value == "tie"
    assert read_choice("[[C]]").value is None
    several = read_choices('{"depth": {"preference": "A"}, "x": "B"}', ["depth", "x", "y"])
    assert several.choices == {"depth": "A", "x": "B", "y": None}
    assert set(several.problems) == {"y"}


@pytest.mark.parametrize(
    ("reply", "rating"),
    [
        ("Good. Rating: [[7]]", 7),
        ("Rating: [[7.5]]", 7.5),
        ("Rating: [7]", 7),
        ("[[3]] and then [[8]]", 8),
        ("[[10/10]]", 10),
        ("Rating: [[8]] [3]", 8),
        ('"[[rating]]", for example: "Rating: [[5]]"', None),
        ('Rating: [[6]]\nwith "[[rating]]", for example: "Rating: [[5]]"', 6),
        ("[[11]]", None),
        ("[[3]] [[11]]", None),
        ("[[4-5]]", None),
        ("7", None),
        ("x[3]", None),
    ],
)
def test_ratings(reply: str, rating: float | None) -> None:
    """The last rating in brackets counts, on the scale only."""
    found = read_rating(reply, 1, 10)
    assert (found.value, bool(found.problem)) == (rating, rating is None)


@pytest.mark.parametrize(
    ("reply", "answers"),
    [
        ("1. Yes\n2. No, it is not\n3) yes - it is", (True, False, True)),
        ("Q1: **No**\nQ2: [Yes]\nQ3: yes because", (False, True, True)),
        ('["yes", "no", "unsure"]', (True, False, None)),
        ("[true, false, null]", (True, False, None)),
        ('{"1": "yes", "q2": "no", "3": {"answer": "Yes."}}', (True, False, True)),
        ('[{"answer": "yes"}, {"answer": "no"}, {}]', (True, False, None)),
        ("1. Is it short? Yes\n2. Yes and no\n3. yes/no", (True, None, None)),
        ("1. yes\n1. no", (False, None, None)),
        ('["yes", "no"]', (None, None, None)),
        ("yes", (None, None, None)),
        ("1. Nobody knows\n2. Yesterday\n3. Nothing", (None, None, None)),
    ],
)
def test_answers(reply: str, answers: tuple[bool | None, ...]) -> None:
    """Answers to a checklist are read by number or by place, each alone."""
    assert read_answers(reply, 3) == answers


def test_one_answer_needs_no_number() -> None:
    """A checklist of one may be answered plainly."""
    assert read_answers("Yes, it does.", 1) == (True,)
    with pytest.raises(ValueError, match="at least one question"):
        read_answers("", 0)


@pytest.mark.parametrize("tag", ["think", "THINKING", "reasoning"])
def test_a_verdict_in_a_thought_is_none(tag: str) -> None:
    """What a model thinks aloud before its reply does not count, least of all where it was cut off."""
    cut = f' <{tag}>Perhaps {{"depth": {{"reason": "r", "score": 1}}}} or [[A]] or [[1]]. 1. yes'
    assert read_scores(cut, ["depth"], low=1, high=5).scores == {"depth": None}
    assert read_choice(cut).value is None
    assert read_rating(cut, 1, 10).value is None
    assert read_answers(cut, 1) == (None,)
    whole = f'{cut}</{tag.lower()}>\n{{"depth": {{"reason": "the <{tag}> is open", "score": 4}}}}'
    assert read_scores(whole, ["depth"], low=1, high=5).scores == {"depth": 4.0}
    assert read_choice(f"{cut}</{tag}>[[B]]").value == "B"


def test_a_thought_whose_beginning_the_template_wrote_is_none() -> None:
    """Then the reply begins amid the thought, and its end stands on a line of its own."""
    thought = 'So [[A]], or {"choice": "A"}. 1. yes\n[[1]]\n</think>\n'
    assert read_choice(thought).value is None
    assert read_choice(f"{thought}[[B]]").value == "B"
    assert read_rating(thought, 1, 10).value is None
    assert read_answers(f"{thought}1. no", 1) == (False,)
    assert read_choice("It says </think> here. [[A]]").value == "A"


def test_broken_answers_void_earlier_ones() -> None:
    """Which of them it was to change is not known; answers after it count again."""
    text = '{"1": "yes", "2": "yes", "3": "no"}\nNo, rather:\n{"1": "no", "2": ]}'
    assert read_answers(text, 3) == (None, None, None)
    whole = '\n{"1": "no", "2": "yes"}'
    assert read_answers(f"{text}{whole}", 3) == (False, True, None)


def test_a_broken_choice_voids_an_earlier_one() -> None:
    """As with scores: who begins to say something else has not said the first."""
    assert read_choice('{"choice": "A"} No: {"choice": "B" "reason": ]}').value is None
