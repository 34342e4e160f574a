"""Each rule on the cases at its edges."""

from __future__ import annotations

import pytest

from icl_align.scorers.constraints import RULES

CASES: dict[str, list[tuple[tuple[str, ...], str, bool]]] = {
    "keywords:existence": [
        (("Ink", "memoirs"), "Thinking of MEMOIRS", True),
        (("ink", "memoirs"), "Ink only", False),
        (("c++",), "I like C++.", True),
        (("c++",), "I like ccc.", False),
    ],
    "keywords:frequency": [
        (("at least", "2", "fake"), "Fake and unFAKEd", True),
        (("less than", "2", "the"), "the other", False),
        (("less than", "1", "x.y"), "xay", True),
    ],
    "keywords:forbidden_words": [
        (("no",), "I know nothing.", True),
        (("no",), "I say NO!", False),
        (("rock",), "rock-hard", False),
        (("c++",), "in C++, of course", False),
    ],
    "keywords:letter_frequency": [
        (("at least", "3", "Q"), "Quite qualified, q", True),
        (("at least", "2", "#"), "#one", False),
        (("less than", "1", "e"), "No such mark in this", True),
    ],
    "language:response_language": [
        (("de",), "Das ist ein Satz, den niemand für Englisch hält.", True),
        (("hi",), "यह एक हिंदी वाक्य है और काफी लंबा है।", True),
        (("de",), "This is plainly an English sentence.", False),
        (("de",), "123 !!", False),
    ],
    "length_constraints:number_sentences": [
        (("at least", "3"), "One. Two! Three?", True),
        (("less than", "3"), "One. Two! Three?", False),
    ],
    "length_constraints:number_paragraphs": [
        (("2",), "one\n***\ntwo", True),
        (("2",), "***\none\n***\ntwo\n***", True),
        (("2",), "one *** *** two", False),
        (("2",), "one\n\ntwo", False),
    ],
    "length_constraints:number_words": [
        (("at least", "5"), "Don't half-do", False),
        (("at least", "4"), "Don't half-do", True),
        (("less than", "5"), "Don't half-do", True),
    ],
    "length_constraints:nth_paragraph_first_word": [
        (("2", "2", "So"), "One.\n\n\"so's it.", True),
        (("2", "2", "so"), "One.\nso", False),
        (("2", "2", "so"), "One.\n\nSo.\n\nMore", False),
        (("2", "1", "elm"), "Elms\n\nb", False),
        (("2", "2", "b"), "a\n\n\n\nb", False),
    ],
    "detectable_content:number_placeholders": [
        (("2",), "[name] and [address]", True),
        (("2",), "[[name] and [ad\ndress]", False),
        (("1",), "[]", True),
    ],
    "detectable_content:postscript": [
        (("P.S.",), "Bye\np. s. More", True),
        (("P.P.S",), "Bye. P.P. S: More", True),
        (("P.P.S",), "P.S. More", False),
        (("P.S.",), "P.S: More", False),
        (("Nota bene",), "nota BENE: More", True),
    ],
    "detectable_format:number_bullet_lists": [
        (("3",), "* a\n  - b\n-c", True),
        (("1",), "* a\n**bold** text\n1. x", True),
        (("2",), "* a\n- b\n---", False),
        (("1",), "*\nafter", True),
        (("1",), "before\n*", False),
    ],
    "detectable_format:constrained_response": [
        ((), "Well: My answer is maybe. Yes.", True),
        ((), "my answer is yes.", False),
        ((), "My answer is yes", False),
        (("Aye.", "Nay."), "Nay.", True),
    ],
    "detectable_format:number_highlighted_sections": [
        (("2",), "*one* and **two**", True),
        (("1",), "** and * *", False),
        (("1",), "*one\ntwo*", False),
        (("2",), "***both***", True),
    ],
    "detectable_format:multiple_sections": [
        (("SECTION", "2"), "SECTION 1\na\nSECTION2\nb", True),
        (("SECTION", "2"), "Section 1\nSection 2", False),
        (("SECTION", "1"), "SECTION I", False),
    ],
    "detectable_format:json_format": [
        ((), '```json\n{"a": [1, 2]}\n```', True),
        ((), '{"a": 1,}', False),
        ((), 'Here: {"a": 1}', False),
        ((), "```python\n{}\n```", False),
    ],
    "detectable_format:title": [
        ((), "<<A title>>\nText", True),
        ((), "<<   >>", False),
        ((), "<<A\ntitle>>", False),
        ((), "<A title>", False),
        ((), "<<>> <<x>>", True),
    ],
    "combination:two_responses": [
        ((), "one\n******\ntwo", True),
        ((), "one ****** one", False),
        ((), "one", False),
        ((), "******a******b******", True),
        ((), "a******   ******b", False),
        ((), "a******b******c", False),
    ],
    "combination:repeat_prompt": [
        (("Write a poem.",), "  write a POEM. Roses", True),
        (("Write a poem.",), "Sure! Write a poem.", False),
    ],
    "startend:end_checker": [
        (("Is it?",), 'Well. "is it?"\n', True),
        (("Is it?",), "Is it? Yes", False),
        (("Is it?",), "Is it?*", False),
    ],
    "startend:quotation": [
        ((), ' "All of it." ', True),
        ((), '"', False),
        ((), "\u201cAll of it.\u201d", False),
    ],
    "change_case:capital_word_frequency": [
        (("at least", "3"), "I saw COVID-19 in the USA", True),
        (("less than", "1"), "No Such Word", True),
        (("at least", "2"), "DON'T", True),
        (("at least", "2"), "AC/DC", False),
        (("exactly", "2"), "YOU CANNOT", False),
        (("exactly", "3"), "YOU CANNOT", True),
    ],
    "change_case:english_capital": [
        ((), "THIS IS WRITTEN IN CAPITAL LETTERS AND IN ENGLISH, 24 HOURS A DAY.", True),
        ((), "THIS IS ALMOST WRITTEN iN CAPITALS.", False),
        ((), "DAS IST EIN DEUTSCHER SATZ MIT VIELEN GROSSEN BUCHSTABEN.", False),
        ((), "123", False),
    ],
    "change_case:english_lowercase": [
        ((), "this is written in small letters, and in english.", True),
        ((), "This is not written in small letters.", False),
        ((), "das ist ein deutscher satz mit vielen kleinen buchstaben.", False),
    ],
    "punctuation:no_comma": [((), "Semicolons; dashes \u2014 \u060c", True), ((), "1,000", False)],
    "ruler:precise_match": [
        (("80",), "w " * 70, False),
        (("80",), "w " * 71, True),
        (("80",), "w " * 90, True),
        (("80",), "w " * 91, False),
        ((">800",), "w " * 801, True),
        ((">800",), "w " * 800, False),
    ],
    "ruler:flexible_match": [
        (("80",), "w " * 61, True),
        (("80",), "w " * 100, True),
        (("80",), "w " * 101, False),
        (("10",), "w", True),
    ],
    "ruler:level": [
        (("0",), "w " * 60, True),
        (("1",), "w " * 60, False),
        (("2",), "w " * 900, True),
    ],
    "ruler:word_target": [
        (("20", "2"), "w " * 18, True),
        (("20", "2"), "w " * 17, False),
        (("20", "10%"), "w " * 22, True),
        (("20", "10%"), "w " * 23, False),
        (("20", "0"), "w " * 20, True),
    ],
    "codi:length": [
        (("at most", "3"), "one two three", True),
        (("at most", "3"), "one two three four", False),
        (("at least", "3"), "one two", False),
        (("equal to", "2"), "one two", True),
        (("around", "20"), "w " * 22, True),
        (("around", "20"), "w " * 23, False),
        (("between", "2", "3"), "one", False),
        (("between", "2", "3"), "one two three", True),
    ],
    "codi:keywords": [
        (("try", "Stop"), "He tried and stopped.", True),
        (("make",), "Making it", True),
        (("cat",), "category", False),
        (("red apple",), "two Red\napples", True),
        (("c++",), "C++ it is", True),
    ],
    "codi:keywords_avoided": [
        (("cat",), "a category", True),
        (("cat",), "two cats", False),
    ],
}


def test_every_rule_has_cases() -> None:
    """A rule that is added gets its cases here."""
    assert set(CASES) == set(RULES)


@pytest.mark.parametrize(
    ("kind", "values", "text", "expected"),
    [(kind, *case) for kind, cases in CASES.items() for case in cases],
)
def test_rules_at_their_edges(
    kind: str, values: tuple[str, ...], text: str, expected: bool
) -> None:
    """Each rule says of each text what its docstring promises."""
    assert RULES[kind](values, text) is expected


@pytest.mark.parametrize("kind", list(RULES))
def test_every_rule_tells_its_values(kind: str) -> None:
    """The docstring of a rule says which values it takes."""
    doc = RULES[kind].__doc__ or ""
    assert doc.startswith(("Values: ", "No values."))
