"""Reads one JSON-like object or list of a judge's reply: forgiving in form, strict in sense."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias, Union

_DEEPEST = 24
_SPACE = re.compile(r"(?:\s|```(?:json|python|text)?)*", re.IGNORECASE)
_QUOTED = r'"(?:[^"\\\n]|\\.){1,100}"|' + r"'(?:[^'\\\n]|\\.){1,100}'"
_BARE_KEY = r"[^\W\d]\w{0,60}(?:[ -]\w{1,60}){0,3}"
_KEY = re.compile(rf"({_QUOTED})|({_BARE_KEY})")
_NEXT_KEY = re.compile(rf"(?:{_QUOTED})\s*:")
_NEXT_BARE_KEY = re.compile(rf"(?:{_QUOTED}|{_BARE_KEY})\s*:")
_BARE = re.compile(r"""[^,{}\[\]"'\n]{1,200}""")
_STOP = {'"': re.compile(r'["\\]'), "'": re.compile(r"['\\]")}
_NUMBER = re.compile(r"-?[0-9]{1,30}(?:\.[0-9]{1,30})?(?:[eE][-+]?[0-9]{1,3})?")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "none": None}
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}

Value: TypeAlias = Union[str, float, bool, "Obj", list["Value"], None]


@dataclass(frozen=True, slots=True)
class Obj:
    """An object as it was written: its pairs in order, keys that occur twice included.

    Attributes:
        pairs: Keys and values.
        start: Where its brace stands in the text.
        loose: Whether it stands on its own, not as the value of a key that could not be read.
    """

    pairs: tuple[tuple[str, Value], ...]
    start: int = 0
    loose: bool = False


class BrokenError(Exception):
    """The text does not go on as an object does; at which position."""

    def __init__(self, position: int, *, cut: bool = False) -> None:
        super().__init__(position)
        self.position, self.cut = position, cut


class Reader:
    """Reads one object or list; `keys` are those seen, whatever becomes of it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.keys: list[str] = []

    def read_object(self, position: int, depth: int) -> tuple[Obj, int]:
        """Reads the object whose brace is at `position`; gives it and the place after it."""
        start, pairs = position, list[tuple[str, Value]]()
        position = self._skip(self._deeper(position, depth))
        while self._at(position) != "}":
            key, bare, position = self._key(position)
            value, position = self._value(position, depth, _NEXT_BARE_KEY if bare else _NEXT_KEY)
            pairs.append((key, value))
            after = self._skip(position)
            if self._at(after) == ",":
                after = self._skip(after + 1)
            elif self._at(after) != "}" and not self._new_line_key(position, after, _NEXT_KEY):
                raise BrokenError(after)
            position = after
        return Obj(tuple(pairs), start), position + 1

    def read_list(self, position: int, depth: int) -> tuple[list[Value], int]:
        """Reads the list whose bracket is at `position`; gives it and the place after it."""
        values: list[Value] = []
        position = self._skip(self._deeper(position, depth))
        while self._at(position) != "]":
            value, position = self._value(position, depth, None)
            values.append(value)
            position = self._skip(position)
            if self._at(position) == ",":
                position = self._skip(position + 1)
            elif self._at(position) != "]":
                raise BrokenError(position)
        return values, position + 1

    def _at(self, position: int) -> str:
        if position >= len(self.text):
            raise BrokenError(position, cut=True)
        return self.text[position]

    def _skip(self, position: int) -> int:
        match = _SPACE.match(self.text, position)
        return match.end() if match else position

    def _deeper(self, position: int, depth: int) -> int:
        if depth > _DEEPEST:
            raise BrokenError(position)
        return position + 1

    def _key(self, position: int) -> tuple[str, bool, int]:
        match = _KEY.match(self.text, position)
        if match is None:
            raise BrokenError(position, cut=position + 100 >= len(self.text))
        quoted, bare = match.groups()
        position = self._skip(match.end())
        if self._at(position) != ":":
            raise BrokenError(position)
        key = bare if quoted is None else _unescaped(quoted[1:-1])
        self.keys.append(key)
        return key, quoted is None, self._skip(position + 1)

    def _value(
        self, position: int, depth: int, next_key: re.Pattern[str] | None
    ) -> tuple[Value, int]:
        opening = self._at(position)
        if opening == "{":
            return self.read_object(position, depth + 1)
        if opening == "[":
            return self.read_list(position, depth + 1)
        if opening in _STOP:
            return self._string(position, depth, next_key)
        match = _BARE.match(self.text, position)
        if match is None:
            raise BrokenError(position)
        word = match.group().strip("` \t\r")
        if _NUMBER.fullmatch(word):
            return float(word), match.end()
        return _WORDS.get(word.casefold(), word), match.end()

    def _string(
        self, position: int, depth: int, next_key: re.Pattern[str] | None
    ) -> tuple[str, int]:
        """Reads a text up to the first quote after which its object or list plausibly goes on."""
        stop, start = _STOP[self.text[position]], position + 1
        position = start
        while (match := stop.search(self.text, position)) is not None:
            if match.group() == "\\":
                position = match.end() + 1
                continue
            position = match.end()
            if self._closes(position, depth, next_key):
                return _unescaped(self.text[start : position - 1]), position
        raise BrokenError(len(self.text), cut=True)

    def _closes(self, position: int, depth: int, next_key: re.Pattern[str] | None) -> bool:
        """Whether a text may end before `position`; inside a list where `next_key` is None."""
        after = self._skip(position)
        sign = self.text[after : after + 1]
        if sign == ("]" if next_key is None else "}"):
            follows = self._skip(after + 1)
            return depth == 1 or self.text[follows : follows + 1] in (",", "}", "]", '"', "")
        if sign == ",":
            after = self._skip(after + 1)
            if next_key is None:
                return self.text[after : after + 1] in tuple("\"'[{]-0123456789TtFfNn")
            return self.text[after : after + 1] == "}" or bool(next_key.match(self.text, after))
        return next_key is not None and self._new_line_key(position, after, next_key)

    def _new_line_key(self, position: int, after: int, next_key: re.Pattern[str]) -> bool:
        """Whether a forgotten comma is followed by a new line and the next key."""
        new_line = "\n" in self.text[position:after]
        return new_line and next_key.match(self.text, after) is not None


def _unescaped(text: str) -> str:
    """Resolves JSON's and Python's usual escapes; an unknown one stays as it is written."""
    if "\\" not in text:
        return text
    plain = _ESCAPE.sub(_character, text)
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _character(match: re.Match[str]) -> str:
    code = match.group(1)
    if len(code) > 1:
        return chr(int(code[1:], 16))
    if code in "\"'\\/":
        return code
    return _ESCAPES.get(code, match.group())


def walk(item: Value) -> Iterator[Obj]:
    """Gives an object, or those of a list."""
    if isinstance(item, Obj):
        yield item
    elif isinstance(item, list):
        for value in item:
            yield from walk(value)
