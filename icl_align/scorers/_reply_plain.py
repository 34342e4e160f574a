"""Verdicts of a judge's reply that stand outside of JSON, or in JSON of another kind than scores."""

from __future__ import annotations

import re

from icl_align.scorers._reply_aspects import CHOICE_KEYS
from icl_align.scorers._reply_json import Torn, scan
from icl_align.scorers._reply_reader import Obj, Value
from icl_align.scorers._reply_values import placeholder, plainly, shown, yes_or_no

_BRACKETS = re.compile(r"\[\[([^\[\]\n]{1,60})\]\]")
_SINGLE = re.compile(r"(?<![\w\[\]])\[([^\[\]\n]{1,40})\](?!\])")
_ECHO_BEFORE = re.compile(r"(?:example|e\.g\.)[^\n]{0,24}\Z", re.IGNORECASE)
_ECHO_AFTER = re.compile(r"""["'\u201d\u2019`]?,? (?:if|for|when|means|in case)\b""", re.IGNORECASE)
_LABELLED = re.compile(
    r"(?:verdict|choice|preference|decision|winner|answer|better)[\s*\"']{0,4}(?:is|:|=)([^\n]{1,60})",
    re.IGNORECASE,
)
_NUMBERED = re.compile(
    r"^[ \t>*_#-]{0,8}(?:q|question|item|answer)?[ \t#]{0,2}([0-9]{1,4})[ \t]?[.):]([^\n]*)$",
    re.IGNORECASE | re.MULTILINE,
)


def json_choice(text: str) -> Value:
    """What the last object with a verdict chooses; its text where it holds two."""
    for item in reversed(scan(text)):
        if isinstance(item, Torn):
            if not item.cut and any(plainly(key) in CHOICE_KEYS for key in item.keys):
                return "a broken object"
            continue
        pairs = item.pairs
        values = [value for key, value in pairs if plainly(key) in CHOICE_KEYS]
        if values and not all(map(placeholder, values)):
            return values[0] if len(values) == 1 else f"several: {shown(values)}"
    return None


def bracketed(text: str) -> str | None:
    """The last text in two brackets."""
    return _last(_BRACKETS, text)


def single_bracketed(text: str) -> str | None:
    """The last text in one pair of brackets that begins with a digit."""
    return _last(_SINGLE, text, numeric=True)


def labelled(text: str) -> str | None:
    """The rest of the last line with a label such as "Verdict:"."""
    rests = _LABELLED.findall(text)
    return rests[-1].strip().rstrip(".") if rests else None


def numbered(text: str) -> dict[int, bool | None]:
    """Yes and no by number, from an object or else from numbered lines; a later, broken object voids."""
    answers: dict[int, bool | None] = {}
    for item in scan(text):
        pairs = item.pairs if isinstance(item, Obj) else [(key, None) for key in item.keys]
        keys = [(re.fullmatch(r"\D{0,12}([0-9]{1,4})", key), value) for key, value in pairs]
        said = {int(key.group(1)): yes(value) for key, value in keys if key}
        if said and isinstance(item, Torn):  # which others it was to change is not known
            answers = dict.fromkeys(answers)
        answers |= said
    return answers or {int(key): yes_or_no(rest) for key, rest in _NUMBERED.findall(text)}


def yes(value: Value) -> bool | None:
    """Yes or no as JSON holds it."""
    if isinstance(value, Obj):
        given = [v for key, v in value.pairs if plainly(key) in ("answer", "verdict", "choice")]
        return yes(given[0]) if len(given) == 1 and not isinstance(given[0], Obj) else None
    if isinstance(value, bool):
        return value
    return yes_or_no(value) if isinstance(value, str) else None


def _last(pattern: re.Pattern[str], text: str, *, numeric: bool = False) -> str | None:
    """The last bracketed text that is not the template's own."""
    for match in reversed(list(pattern.finditer(text))):
        before, after = text[max(0, match.start() - 40) : match.start()], match.end()
        echo = _ECHO_BEFORE.search(before) or _ECHO_AFTER.match(text, after)
        written = match.group(1).strip()
        if echo or plainly(written) in ("rating", "verdict", "score", "n", "choice"):
            continue
        if not numeric or written[:1].isdigit():
            return written
    return None
