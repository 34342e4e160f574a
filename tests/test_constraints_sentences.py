"""Sentences and words, as IFEval counts them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_align.scorers.constraints.sentences import sentences
from icl_align.scorers.constraints.words import count_words, tokens


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("", []),
        (" \n ", []),
        ("No end", ["No end"]),
        ("The U.S. team paid 3.50 to J. Smith, i.e. to Dr. Who.", ["The U.S. team paid 3.50 to J. Smith, i.e. to Dr. Who."]),
        ("At 5 p.m. She left.", ["At 5 p.m.", "She left."]),
        ("Tea, milk, etc. are sold.", ["Tea, milk, etc. are sold."]),
        ("1. Go. 2. come back.", ["1.", "Go.", "2. come back."]),
        ("Well... so it is.", ["Well... so it is."]),
        ('"Stop!" he said. (Really.) Then', ['"Stop!"', "he said.", "(Really.)", "Then"]),
        ("**Bold.** Next", ["**Bold.", "** Next"]),
        ("It is bold.**", ["It is bold.", "**"]),
        ("Why ?! Go", ["Why ?", "!", "Go"]),
        ("Why?! Go", ["Why?!", "Go"]),
        ("a.b c.d", ["a.b c.d"]),
        ("你好。再见。", ["你好。再见。"]),
    ],
)  # fmt: skip
def test_sentences_end_where_punkt_ends_them(text: str, expected: list[str]) -> None:
    """Cases found equal in NLTK's untrained Punkt, but for the abbreviations."""
    assert sentences(text) == expected


@given(st.text(alphabet="aB1.?! \n\"')*-,(", max_size=60))
def test_sentences_lose_nothing(text: str) -> None:
    """Put together, the sentences are the text but for white space; none is empty."""
    found = sentences(text)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I DON'T.", ["I", "DO", "N'T", "."]),
        ("YOU CANNOT (EVER)", ["YOU", "CAN", "NOT", "(", "EVER", ")"]),
        ("AC/DC: WELL-KNOWN, U.S. bands", ["AC/DC", ":", "WELL-KNOWN", ",", "U.S.", "bands"]),
        ("It's 3:45, I'll go", ["It", "'s", "3:45", ",", "I", "'ll", "go"]),
        ("'TIS \u201cON\u201d--OFF...", ["'T", "IS", "\u201c", "ON", "\u201d", "--", "OFF", "..."]),
    ],
)
def test_tokens_are_those_of_the_penn_treebank(text: str, expected: list[str]) -> None:
    """Words stay whole, contractions and punctuation are parted."""
    assert list(tokens(text)) == expected


def test_words_are_runs_of_letters_and_digits() -> None:
    """Apostrophes and hyphens part words, underscores do not; any script counts."""
    assert count_words("Don't half_do it: 你好 3.5") == 7
