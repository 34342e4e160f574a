"""Rules on language and case. Which language a text is in is told by langdetect, from seed 0."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

from icl_align.scorers.constraints.values import compares, count, take, text
from icl_align.scorers.constraints.words import tokens

_LOCK = Lock()


def response_language(values: Sequence[str], answer: str) -> bool:
    """Values: a language code of langdetect, for example `de`. The text is in that language."""
    wanted = text(take(values, "language")[0], "language")
    known = _factory().get_lang_list()
    if wanted not in known:
        raise ValueError(f"its language must be one of {', '.join(known)}, got {wanted!r}")
    return language_of(answer) == wanted


def english_capital(values: Sequence[str], answer: str) -> bool:
    """No values. English, without any lower-case letter."""
    take(values)
    return answer.isupper() and language_of(answer) == "en"


def english_lowercase(values: Sequence[str], answer: str) -> bool:
    """No values. English, without any capital letter."""
    take(values)
    return answer.islower() and language_of(answer) == "en"


def capital_word_frequency(values: Sequence[str], answer: str) -> bool:
    """Values: relation, number. How many words have capitals only; `I` and `COVID-19` count."""
    relation, number = take(values, "relation", "number")
    found = sum(token.isupper() for token in tokens(answer))
    return compares(relation, found, count(number, "number"))


@lru_cache(maxsize=256)
def language_of(answer: str) -> str:
    """Gives the code of a text's language, empty where nothing in it tells one.

    The same text gives the same code in any order and from any thread: each call draws from a
    detector of its own.
    """
    from langdetect.lang_detect_exception import LangDetectException  # type: ignore[import-untyped]

    detector = _factory().create()
    detector.append(answer)
    try:
        return str(detector.detect())
    except LangDetectException:
        return ""


def _factory() -> Any:
    with _LOCK:
        return _loaded()


@lru_cache(maxsize=1)
def _loaded() -> Any:
    """Reads langdetect's profiles once, in an order of their names, apart from its global state."""
    from langdetect.detector_factory import (  # type: ignore[import-untyped]
        PROFILES_DIRECTORY,
        DetectorFactory,
    )

    profiles = sorted(place for place in Path(PROFILES_DIRECTORY).iterdir() if place.is_file())
    factory = DetectorFactory()
    factory.load_json_profile([place.read_text(encoding="utf-8") for place in profiles])
    factory.set_seed(0)
    return factory
