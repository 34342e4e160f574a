"""Rules on how much there is of something, and on which words occur.

Keywords are plain texts here, never regular expressions, and are found whatever their case.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from icl_align.scorers.constraints.sentences import sentences
from icl_align.scorers.constraints.values import compares, count, some, take, text
from icl_align.scorers.constraints.words import count_words

_DIVIDER = re.compile(r"\s?\*{3}\s?")
_FIRST_WORD = re.compile(r"""[^.,?!'"]*""")


def number_words(values: Sequence[str], answer: str) -> bool:
    """Values: relation, number. How many runs of letters and digits there are."""
    relation, number = take(values, "relation", "number")
    return compares(relation, count_words(answer), count(number, "number"))


def number_sentences(values: Sequence[str], answer: str) -> bool:
    """Values: relation, number. How many sentences there are; `1. Go` is two, as for Punkt."""
    relation, number = take(values, "relation", "number")
    return compares(relation, len(sentences(answer)), count(number, "number"))


def number_paragraphs(values: Sequence[str], answer: str) -> bool:
    """Values: number. So many paragraphs divided by `***`, none of them empty but at the ends."""
    (number,) = take(values, "number")
    wanted = count(number, "number", 1)
    full = [bool(part.strip()) for part in _DIVIDER.split(answer)]
    return all(full[1:-1]) and sum(full) == wanted


def nth_paragraph_first_word(values: Sequence[str], answer: str) -> bool:
    """Values: number of paragraphs, which one, its first word. Blank lines divide paragraphs."""
    number, nth, word = take(values, "paragraphs", "which one", "first word")
    wanted, place = count(number, "number of paragraphs", 1), count(nth, "paragraph", 1)
    first = text(word, "first word").lower()
    parts = [part.strip() for part in answer.split("\n\n")]
    full = sum(map(bool, parts))
    if full != wanted or place > full or not parts[place - 1]:
        return False
    opening = _FIRST_WORD.match(parts[place - 1].split()[0].lstrip("'").lstrip('"'))
    return opening is not None and opening.group().lower() == first


def existence(values: Sequence[str], answer: str) -> bool:
    """Values: the keywords. Each occurs, if only as a part of a word."""
    return all(_occurrences(word, answer) for word in some(values, "keyword"))


def frequency(values: Sequence[str], answer: str) -> bool:
    """Values: relation, number, keyword. How often it occurs, parts of words included."""
    relation, number, keyword = take(values, "relation", "number", "keyword")
    found = _occurrences(text(keyword, "keyword"), answer)
    return compares(relation, found, count(number, "number"))


def forbidden_words(values: Sequence[str], answer: str) -> bool:
    """Values: the words. None occurs as a whole word."""
    words = some(values, "word")
    return not any(
        re.search(rf"(?<!\w){re.escape(word)}(?!\w)", answer, re.IGNORECASE) for word in words
    )


def letter_frequency(values: Sequence[str], answer: str) -> bool:
    """Values: relation, number, one character (also `#` or `!`), of which case does not count."""
    relation, number, letter = take(values, "relation", "number", "letter")
    wanted = text(letter, "letter").lower()
    if len(wanted) != 1:
        raise ValueError(f"its letter must be one character, got {letter!r}")
    return compares(relation, answer.lower().count(wanted), count(number, "number"))


def _occurrences(word: str, answer: str) -> int:
    return len(re.findall(re.escape(word), answer, re.IGNORECASE))
