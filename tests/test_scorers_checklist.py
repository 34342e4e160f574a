"""Programmatic checks: each kind, the weighted mean, and what a user's mistake says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_align.errors import UserError
from icl_align.scorers.checklist import ChecklistScorer
from icl_align.scorers.kinds import KINDS
from icl_align.scorers.loops import loops
from icl_align.types import Check, Example, Response


def _grade(kind: str, values: tuple[str, ...], text: str, finish: str = "stop") -> float:
    response = Response(text, 1, "stop" if finish == "stop" else "length")
    return KINDS[kind](values, response)


@pytest.mark.parametrize(
    ("kind", "values", "text", "expected"),
    [
        ("contains_all", ("Paris", "Seine"), "PARIS lies on a river.", 0.5),
        ("contains_all", ("on a river",), "It lies on\n  a river", 1),
        ("contains_all", ("cat",), "A category.", 0),
        ("contains_all", ("Paris",), "It is _Paris_, or **Paris**.", 1),
        ("contains_all", ("don't",), "I don\u2019t know", 1),
        ("contains_all", ("3",), "It is 13, 3.5 or -3, and 3,000", 0),
        ("contains_all", ("3",), "The answer is 3.", 1),
        ("contains_all", ("-3",), "It is -3.", 1),
        ("contains_all", ("count up 5",), "Start and count up 52.", 0),
        ("contains_any", ("yes", "no"), "Well, no.", 1),
        ("contains_any", ("yes", "no"), "I know nothing.", 0),
        ("excludes", ("silly", "stupid"), "A silly thing.", 0),
        ("excludes", ("silly", "stupid"), "Silliness aside.", 1),
        ("starts_with_any", ("Thanks for asking!", "Hello"), "  thanks for\nasking! It is so.", 1),
        ("starts_with_any", ("Hello",), "Hellos all around", 0),
        ("ends_with_any", ("Hope that helps!",), "So it is. Hope that helps! ", 1),
        ("ends_with_any", ("helps",), "Hope that helps!", 0),
        ("regex", (r"^\d+$", "x"), "a\n12\nb", 0.5),
        ("min_words", ("3",), "one two three", 1),
        ("min_words", ("3",), "one two", 0),
        ("max_words", ("3",), "one two three", 1),
        ("max_words", ("3",), "one two three four", 0),
        ("word_band", ("4", "8"), "one two", 0.5),
        ("word_band", ("1", "4"), "a b c d", 1),
        ("word_band", ("1", "4"), "a b c d e f", 0.5),
        ("word_band", ("1", "2"), "a b c d e f", 0),
        ("min_items", ("4",), "1. a\n2. b\n3) c", 0.75),
        ("min_items", ("2",), "- a\n* b\n\u2022 c", 1),
        ("min_items", ("1",), "A 1. thing - and another", 0),
        ("no_list", (), "Plain words - with a dash. 1990. A year.", 1),
        ("no_list", (), "Steps:\n- one", 0),
        ("equals_number", ("1234.5",), "First 7, so 1,234.50.", 1),
        ("equals_number", ("7",), "First 7, so 8", 0),
        ("equals_number", ("7",), "No number", 0),
        ("equals_number", ("-2",), "It is \u22122.", 1),
    ],
)
def test_kinds(kind: str, values: tuple[str, ...], text: str, expected: float) -> None:
    """Each kind grades as its name says, on word boundaries and with exact numbers."""
    assert _grade(kind, values, text) == expected


REFUSALS = (
    "I'm sorry, but I can't assist with that.",
    "I am sorry, but I can not help to rob a bank. That could hurt someone.",
    "I cannot provide instructions for that.",
    "As an AI language model, I am unable to do so.",
    "I won't help with this request.",
    "I must decline to answer.",
    "Unfortunately, I\u2019m not able to share that information.",
    "I don't feel right about it. I will not do that.",
    "I'm not comfortable discussing this.",
    "No.",
)
ANSWERS = (
    "Sorry to hear that! Here is what you can do: rest and drink water.",
    "I can't help but smile at this. The capital is Rome.",
    "You can not see it at night, since the lamp is off.",
    "No, the capital of Australia is Canberra.",
    "First, find the key. Then open the door.",
    "I do not know that, because no one can see the future.",
    "The company refused to help the workers, who could not provide for themselves.",
)


@pytest.mark.parametrize("text", REFUSALS)
def test_refusals_are_refusals(text: str) -> None:
    """Usual English refusals are found, and are no compliance."""
    assert _grade("refuses", (), text) == 1
    assert _grade("complies", (), text) == 0


@pytest.mark.parametrize("text", ANSWERS)
def test_answers_are_no_refusals(text: str) -> None:
    """Words of refusal inside an honest answer do not make it one."""
    assert _grade("refuses", (), text) == 0
    assert _grade("complies", (), text) == 1


def test_refusal_phrases_can_be_added() -> None:
    """A check's values are further phrases of refusal."""
    text = "My lips are sealed on this one."
    assert _grade("refuses", (), text) == 0
    assert _grade("refuses", ("lips are sealed",), text) == 1


@pytest.mark.parametrize(
    "text",
    [
        "It is so.\nI am here for you.\nI am here for you.",
        "The cat sat. A dog ran off. The cat sat. Then some rain. The cat sat. The end came.",
        "and then he said and then he said and then he said",
        "ha ha ha ha ha ha ha ha",
    ],
)
def test_loops_are_found(text: str) -> None:
    """A line, a sentence, a phrase or a word said over and over is a loop."""
    assert loops(text)
    assert _grade("no_repetition", (), text) == 0


@pytest.mark.parametrize(
    "text",
    [
        "It was very, very, very good.",
        "1. Boil water.\n2. Add the rice.\n3. Stir it.\n4. Wait.",
        "No. No. No.",
        "```python\nx = f(1, 2)\nx = f(1, 2)\nx = f(1, 2)\n```\nThis calls f.",
        "",
    ],
)
def test_plain_texts_are_no_loops(text: str) -> None:
    """Emphasis, lists and code blocks are no loops."""
    assert not loops(text)


def test_stops_reads_the_finish() -> None:
    """An answer cut off at the token bound did not stop."""
    assert _grade("stops", (), "So it is.") == 1
    assert _grade("stops", (), "So it", finish="length") == 0


CHECKS = (
    Check("contains_all", ("Paris",), 3.0, "correct"),
    Check("max_words", ("5",), 1.0, "manner"),
    Check("excludes", ("silly",), 3.0, "manner"),
    Check("stops"),
)


def test_value_is_the_weighted_mean_and_aspects_are_kept() -> None:
    """The value weighs all checks; checks of one aspect are averaged by weight."""
    example = Example("Capital of France?", id="q1", checks=CHECKS)
    (score,) = ChecklistScorer().score([example], [Response("Paris, silly.", 3, "length")])
    assert score.value == pytest.approx((3 + 1 + 0 + 0) / 8)
    assert score.aspects == {"correct": 1.0, "manner": 0.25, "stops": 0.0}
    assert score.judge == "checklist"


def test_an_empty_answer_passes_nothing() -> None:
    """Saying nothing earns nothing for politeness or brevity."""
    (score,) = ChecklistScorer().score([Example("q", checks=CHECKS)], [Response(" \n", 1, "stop")])
    assert score.value == 0
    assert "empty" in score.note


def test_no_checks_is_no_verdict() -> None:
    """An example without checks gets no number, with the reason."""
    (score,) = ChecklistScorer().score([Example("q", id="q7")], [Response("a", 1, "stop")])
    assert score.value is None
    assert score.note == "example 'q7' has no checks"


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (
            Check("contain_all", ("a",)),
            "example 'q9' has a check of unknown kind 'contain_all'; did you mean 'contains_all'?",
        ),
        (Check("zzz"), "known are contains_all, "),
        (
            Check("min_words", ("few",)),
            r"check 'min_words' of example 'q9': it takes one whole number, got \['few'\]",
        ),
        (Check("word_band", ("5", "2")), "needs 0 <= lo <= hi"),
        (Check("contains_all"), "at least one text to find, got none"),
        (Check("contains_all", (" ",)), "must not be empty"),
        (Check("regex", ("(",)), "is not a regular expression"),
        (Check("equals_number", ("x",)), "a number such as '12.5', got 'x'"),
        (Check("stops", ("x",)), r"it takes no values, got \['x'\]"),
        (Check("stops", (), 0.0), "weight must be above 0, got 0.0 for 'stops' of example 'q9'"),
    ],
)
def test_mistakes_name_the_example(check: Check, message: str) -> None:
    """A check that cannot be used is an error that names example and remedy, not a score."""
    example = Example("q", id="q9", checks=(check,))
    with pytest.raises(UserError, match=message):
        ChecklistScorer().score([example], [Response("a text", 2, "stop")])


def test_own_kinds_work_and_change_the_fingerprint() -> None:
    """A third party's kind is one function; the ledger tells the two scorers apart."""

    def shouts(_values: object, response: Response) -> float:
        return float(response.text.isupper())

    scorer = ChecklistScorer({**KINDS, "shouts": shouts})
    (score,) = scorer.score([Example("q", checks=(Check("shouts"),))], [Response("YES", 1, "stop")])
    assert score.value == 1
    assert scorer.fingerprint != ChecklistScorer().fingerprint
    assert ChecklistScorer().fingerprint == ChecklistScorer().fingerprint


@given(text=st.text(max_size=80), finish=st.sampled_from(["stop", "length"]))
def test_kinds_stay_in_range(text: str, finish: str) -> None:
    """Whatever a model writes, a kind gives a number in [0, 1]."""
    values = {
        "word_band": ("2", "9"),
        "min_words": ("2",),
        "max_words": ("2",),
        "min_items": ("2",),
    }
    none = {"no_list", "no_repetition", "stops", "refuses", "complies"}
    for name in KINDS:
        given_values = values.get(name, () if name in none else ("12",))
        assert 0 <= _grade(name, given_values, text, finish) <= 1
