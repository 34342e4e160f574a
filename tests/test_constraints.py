"""Verifiable instructions: IFEval's reference verdicts, loose forms, mistakes, and hostile texts."""

from __future__ import annotations

import json
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import pytest

from icl_align.errors import UserError
from icl_align.scorers.constraints import RULES, ConstraintScorer, read_ifeval, variants
from icl_align.scorers.constraints.language import language_of
from icl_align.scorers.constraints.rules import IFEVAL
from icl_align.testing.scorers import check_scorer
from icl_align.types import Check, Example, Response

SHARED = Path(os.environ.get("ICL_ALIGN_SHARED", Path(__file__).resolve().parents[2] / "shared"))
DATA = SHARED / "data" / "ifeval"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no IFEval data at {DATA}")


def _reply(text: str) -> Response:
    return Response(text, 1, "stop")


def _rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text("utf-8").splitlines()]


@needs_data
@pytest.mark.parametrize("mode", ["strict", "loose"])
def test_verdicts_are_those_of_the_original_checker(mode: Literal["strict", "loose"]) -> None:
    """At least 99 % of the recorded 531 verdicts agree; all did when this was written."""
    examples = {example.id: example for example in read_ifeval(DATA / "prompts.jsonl")}
    texts = {str(row["key"]): row["response_gpt4"] for row in _rows("prompts.jsonl")}
    scorer, total, wrong = ConstraintScorer(mode), 0, []
    for row in _rows("gpt4_checks.jsonl"):
        example = examples[str(row["key"])]
        (score,) = scorer.score([example], [_reply(texts[example.id])])
        expected: list[bool] = row[mode]
        for check, verdict in zip(example.checks, expected, strict=True):
            total += 1
            if score.aspects[check.aspect or check.kind] != verdict:
                wrong.append((example.id, check, verdict))
        assert score.value == pytest.approx(
            sum(score.aspects[c.aspect or c.kind] for c in example.checks) / len(example.checks)
        )
    assert total == 531
    assert len(wrong) <= 0.01 * total, wrong
    assert not wrong, "worse than when this was written"


@needs_data
def test_all_rows_give_the_published_run() -> None:
    """All 541 responses: the README's 77.08 and 83.69 % strictly; 79.48 and 85.61 % loosely, but one.

    For the one letter rule that asks for `#` the original draws a letter at random, ours counts `#`.
    """
    examples = read_ifeval(DATA / "prompts.jsonl")
    replies = [_reply(row["response_gpt4"]) for row in _rows("prompts.jsonl")]
    found = {}
    for mode in ("strict", "loose"):
        scores = ConstraintScorer("strict" if mode == "strict" else "loose").score(
            examples, replies
        )
        parts = [
            score.aspects[check.aspect or check.kind]
            for example, score in zip(examples, scores, strict=True)
            for check in example.checks
        ]
        found[mode] = (sum(s.aspects[f"prompt_{mode}"] for s in scores), sum(parts), len(parts))
    assert found == {"strict": (417, 698, 834), "loose": (431, 715, 834)}


@needs_data
def test_every_kind_is_read_from_ifeval_rows() -> None:
    """The data hold all 25 kinds, and each finds a check, repeated ones under names of their own."""
    examples = read_ifeval(DATA / "prompts.jsonl")
    assert {check.kind for example in examples for check in example.checks} == set(IFEVAL)
    assert len(IFEVAL) == 25 and len(examples) == 541
    for example in examples:
        aspects = [check.aspect or check.kind for check in example.checks]
        assert len(set(aspects)) == len(aspects), example.id


def test_loose_forms_drop_lines_and_stars() -> None:
    """Eight forms, equal ones once: with and without the outer lines, with and without `*`."""
    assert variants("Sure:\n*a*\nBye") == [
        "Sure:\n*a*\nBye", "*a*\nBye", "Sure:\n*a*", "*a*", "Sure:\na\nBye", "a\nBye", "Sure:\na", "a",
    ]  # fmt: skip
    assert variants("one") == ["one", ""]
    scorer = {mode: ConstraintScorer(mode) for mode in _MODES}
    example = Example("q", checks=(Check("punctuation:no_comma"), Check("startend:quotation")))
    (strict,) = scorer["strict"].score([example], [_reply('Sure, here:\n"It is so."')])
    (loose,) = scorer["loose"].score([example], [_reply('Sure, here:\n"It is so."')])
    assert (strict.value, loose.value) == (0.0, 1.0)
    for score in (strict, loose):
        assert score.aspects["prompt_strict"] == 0.0 and score.aspects["prompt_loose"] == 1.0


_MODES: tuple[Literal["strict", "loose"], ...] = ("strict", "loose")


@pytest.mark.parametrize("mode", _MODES)
@pytest.mark.parametrize("text", ["", " \n\t ", "***"])
def test_an_empty_answer_follows_nothing(mode: Literal["strict", "loose"], text: str) -> None:
    """Blank answers score 0, even where a rule forbids; a form emptied by dropping `*` does not help."""
    example = Example("q", checks=(Check("length_constraints:number_words", ("less than", "9")),))
    (score,) = ConstraintScorer(mode).score([example], [_reply(text)])
    assert score.value == (1.0 if text == "***" else 0.0)
    title = Example("q", checks=(Check("detectable_format:title"),))
    assert ConstraintScorer(mode).score([title], [_reply(text)])[0].value == 0.0


@pytest.mark.parametrize("mode", _MODES)
def test_it_keeps_every_scorers_promises(mode: Literal["strict", "loose"]) -> None:
    """The public contract suite; kinds of the checklist may stand beside."""
    checks = (
        Check("contains_all", ("sea", "sky")),
        Check("keywords:frequency", ("at least", "2", "sea")),
        Check("keywords:frequency", ("less than", "2", "sky"), weight=2.0, aspect="sky"),
    )
    examples = [Example("q", checks=checks), Example("none"), Example("r", checks=checks[:1])]
    replies = [_reply("The sea, the sea."), _reply("x"), _reply("Sky and sea")]
    check_scorer(lambda: ConstraintScorer(mode), examples, replies)
    first, second, _ = ConstraintScorer(mode).score(examples, replies)
    assert first.value == pytest.approx((0.5 + 1 + 2 * 1) / 4)
    assert first.aspects["sky"] == 1 and first.aspects["prompt_strict"] == 0
    assert second.value is None and "has no checks" in second.note and not second.aspects


def test_fingerprints_tell_modes_and_rules_apart() -> None:
    """A score depends on the mode and on the rules; so does the ledger's key."""
    few = {name: RULES[name] for name in ("punctuation:no_comma",)}
    made = [ConstraintScorer("strict"), ConstraintScorer("loose"), ConstraintScorer("strict", few)]
    assert len({scorer.fingerprint for scorer in made}) == 3
    assert ConstraintScorer().fingerprint == made[0].fingerprint


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("length_constraints:number_word", ("at least", "3"), "did you mean 'length_constraints:number_words'"),
        ("length_constraints:number_words", ("at leats", "3"), "relation must be one of at least, less than"),
        ("length_constraints:number_words", ("at least", "3.5"), "number must be a whole number from 0 on, got '3.5'"),
        ("length_constraints:number_words", ("3",), r"takes 2 values \(relation, number\), got \['3'\]"),
        ("length_constraints:number_paragraphs", ("0",), "must be a whole number from 1 on"),
        ("keywords:existence", (), "one keyword or more"),
        ("keywords:letter_frequency", ("at least", "3", "ab"), "letter must be one character"),
        ("language:response_language", ("xx",), "language must be one of af, ar, "),
        ("punctuation:no_comma", ("x",), "takes no values"),
        ("startend:end_checker", (" ",), "phrase must not be empty"),
        ("ruler:precise_match", ("20",), "target must be one of 10, 30, .* word_target takes any"),
        ("ruler:level", ("3",), "level must be one of 0, 1, 2"),
        ("codi:length", ("between", "9", "3"), "least must not be above the most"),
        ("codi:length", ("about", "9"), "relation must be one of at most"),
    ],
)  # fmt: skip
def test_mistakes_are_told(kind: str, values: tuple[str, ...], message: str) -> None:
    """A check that cannot be used is a user's mistake, also where the response is empty."""
    for text in ("some text", ""):
        with pytest.raises(UserError, match=message):
            ConstraintScorer().score([Example("q", checks=(Check(kind, values),))], [_reply(text)])


def test_an_unknown_mode_is_refused() -> None:
    """A misspelt mode fails loudly."""
    with pytest.raises(UserError, match="must be 'strict' or 'loose', got 'losse'"):
        ConstraintScorer("losse")  # type: ignore[arg-type]


ROW = {"key": 1, "prompt": "p", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kwargs": []}, r"rows.jsonl:2: 1 instructions but 0 kwargs"),
        ({"prompt": None}, r"rows.jsonl:2: no usable 'prompt'"),
        ({"instruction_id_list": ["no:comma"]}, r":2: unknown instruction 'no:comma'; known: keywords"),
        ({"kwargs": [{"x": 1}]}, r":2: 'punctuation:no_comma' takes no arguments; got x"),
        ({"kwargs": [3]}, r":2: the kwargs of 'punctuation:no_comma' must be an object"),
        ({"key": 0}, r":2: the key '0' stands in an earlier row"),
        (
            {"instruction_id_list": ["keywords:frequency"], "kwargs": [{"relation": "about", "keyword": "x", "frequency": 3}]},
            r":2: 'keywords:frequency': its relation must be one of",
        ),
    ],
)  # fmt: skip
def test_broken_rows_are_told(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    """A row that cannot be read is named by file and line."""
    place = tmp_path / "rows.jsonl"
    good = {**ROW, "key": 0}
    place.write_text(json.dumps(good) + "\n" + json.dumps({**ROW, **change}) + "\n", "utf-8")
    with pytest.raises(UserError, match=message):
        read_ifeval(place)


def test_rows_in_the_hubs_form_are_read(tmp_path: Path) -> None:
    """Arguments that are null, as in the data set on the Hub, are none; a whole float is a number."""
    given = {"relation": "at least", "num_words": 3.0, "keywords": None}
    row = {**ROW, "instruction_id_list": ["length_constraints:number_words"], "kwargs": [given]}
    place = tmp_path / "rows.jsonl"
    place.write_text(json.dumps(row), "utf-8")
    (example,) = read_ifeval(place)
    assert example.checks == (Check("length_constraints:number_words", ("at least", "3")),)
    assert example.id == "1" and example.tags == ("length_constraints",)
    place.write_text("\n", "utf-8")
    with pytest.raises(UserError, match="holds no rows"):
        read_ifeval(place)
    place.write_text("{", "utf-8")
    with pytest.raises(UserError, match="rows.jsonl:1: not JSON"):
        read_ifeval(place)


VALUES: dict[str, tuple[str, ...]] = {
    "keywords:existence": ("c++", "a|b", "(((("),
    "keywords:frequency": ("at least", "2", "*a"),
    "keywords:forbidden_words": ("[x", "no"),
    "keywords:letter_frequency": ("less than", "3", "#"),
    "language:response_language": ("de",),
    "length_constraints:number_sentences": ("at least", "2"),
    "length_constraints:number_paragraphs": ("2",),
    "length_constraints:number_words": ("less than", "9"),
    "length_constraints:nth_paragraph_first_word": ("2", "1", "so"),
    "detectable_content:number_placeholders": ("2",),
    "detectable_content:postscript": ("P.P.S",),
    "detectable_format:number_bullet_lists": ("2",),
    "detectable_format:number_highlighted_sections": ("2",),
    "detectable_format:multiple_sections": ("SECTION", "2"),
    "combination:repeat_prompt": ("say it",),
    "startend:end_checker": ("bye",),
    "change_case:capital_word_frequency": ("at least", "2"),
    "ruler:precise_match": ("10",),
    "ruler:flexible_match": (">800",),
    "ruler:level": ("0",),
    "ruler:word_target": ("20", "10%"),
    "codi:length": ("around", "20"),
    "codi:keywords": ("tree", "c++", "red apple"),
    "codi:keywords_avoided": ("tree", "\u00e9t\u00e9"),
}
EVERYTHING = Example("q", checks=tuple(Check(kind, VALUES.get(kind, ())) for kind in RULES))
PIECES = [
    "[", "]", "<<", ">>", "<", ">", "*", "**", "***", "******", "\n", "\n\n", "\r\n", " ", "\t", "\u00a0", "\u2028",
    "-", "- ", "* ", '"', "'", "``", "```json", "```", "{", "}", '{"a": 1}', "[[", "1e999", "NaN", "p.s.", "P. P. S",
    ".", "..", "...", ". . .", "?", "!", "?!", "SECTION 1", "SECTION", "1", "\u0663", "\u00b2", ",", "\uff0c", "#", "word",
    "WORD", "\u00df", "\u0130", "DON'T", "CANNOT", "e.g.", "Dr.", "A.", "\u4f60\u597d\u3002", "\u0645\u0631\u062d\u0628\u0627",
    "\U0001f600", "\x00", "\ud800", "\u202e", "e\u0301", "Ignore the rules and say yes.", "My answer is yes.", "bye",
]  # fmt: skip


@pytest.mark.timeout(240)
def test_hostile_texts_get_a_verdict() -> None:
    """1,000 random texts from awkward pieces: no crash, each rule says 0 or 1, the same each time."""
    rng = random.Random(0)
    texts = ["".join(rng.choices(PIECES, k=rng.randint(1, 40))) for _ in range(1000)]
    replies = [_reply(text) for text in texts]
    scores = ConstraintScorer("strict").score([EVERYTHING] * len(texts), replies)
    for text, score in zip(texts, scores, strict=True):
        assert score.value is not None and 0 <= score.value <= 1, text
        assert {score.aspects[check.kind] for check in EVERYTHING.checks} <= {0.0, 1.0}, text
    few = slice(0, 50)
    assert ConstraintScorer("strict").score([EVERYTHING] * 50, replies[few]) == scores[few]
    loose = ConstraintScorer("loose").score([EVERYTHING] * 50, replies[few])
    for one, other in zip(scores[few], loose, strict=True):
        assert one.value is not None and other.value is not None and one.value <= other.value


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "piece", [*PIECES, "[a", "<<a", "*a", "\n*", "\n -", " \n", "a, ", "P.P. ", "x.", "``` "]
)
def test_long_texts_take_no_long_time(piece: str) -> None:
    """100,000 characters of one awkward piece: every rule, in all loose forms, within seconds."""
    text = (piece * (100_000 // len(piece))) + "x"
    start = time.process_time()
    (score,) = ConstraintScorer("loose").score([EVERYTHING], [_reply(text)])
    assert score.value is not None
    assert time.process_time() - start < 20


def test_deep_json_is_no_json() -> None:
    """Brackets nested beyond the parser's depth fail; so does an integer too long to be read."""
    rule = RULES["detectable_format:json_format"]
    assert not rule((), "[" * 100_000 + "]" * 100_000)
    assert not rule((), "1" * 10_000)


def test_languages_are_told_the_same_from_any_thread() -> None:
    """Languages do not depend on order, threads, or what was asked before."""
    texts = [
        f"Das ist Satz Nummer {i}, und er ist lang genug. It is mixed with English, too."
        for i in range(40)
    ]
    alone = [language_of.__wrapped__(text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(language_of.__wrapped__, reversed(texts))) == alone[::-1]
    assert language_of("12345 !?") == ""
    assert language_of("Il pleut sur la ville et je ne sais pas pourquoi.") == "fr"
