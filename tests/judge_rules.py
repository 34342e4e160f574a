"""Rules that stand in for a judging model: they read a question's fenced texts and reply in its form."""

from __future__ import annotations

import json
import re
from collections.abc import Callable


def fenced_texts(asked: str) -> dict[str, str]:
    """Takes a question apart, by its marks; the first mark names the code that counts."""
    first = re.search(r"<<<\w+ ([0-9a-f]{16})$", asked, re.MULTILINE)
    assert first is not None
    code = first[1]
    found = re.findall(rf"<<<(\w+) {code}\n(.*?)\n{code} \1>>>", asked, re.DOTALL)
    return {name.lower(): text for name, text in found}


def keys_of(asked: str) -> list[str]:
    """Gives the keys that the reply is to have."""
    return re.findall(r'"(\w[\w-]*)"', asked[asked.rindex("Reply with one JSON object that has") :])


def graded(grade: Callable[[str], float | str]) -> Callable[[str], str]:
    """Makes a judge that grades all aspects of a response alike."""

    def reply(asked: str) -> str:
        score = grade(fenced_texts(asked)["response"])
        return json.dumps({key: {"reason": "a rule", "score": score} for key in keys_of(asked)})

    return reply


def longest(asked: str) -> str:
    """Prefers the longer response."""
    texts = fenced_texts(asked)
    a, b = len(texts["response_a"]), len(texts["response_b"])
    return json.dumps({"reason": "length", "choice": "A" if a > b else "B" if b > a else "tie"})
