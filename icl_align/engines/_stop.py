"""When a row has finished: end of sequence, a stop string in its text, or the token bound."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from icl_align.engines._row import Row
from icl_align.types import Finish, Response

_BYTES_PER_CHARACTER = 4
_MARGIN = 8
"""Tokens decoded before a possible stop string, so that it does not start at an edge."""


class Watcher:
    """Sees when a row has finished and turns its tokens into text.

    Only generated text is searched. A stop string may straddle tokens, stand within one, or hold
    characters whose bytes came in several tokens.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str], ends: Collection[int]) -> None:
        """Stores what ends a row.

        Args:
            tokenizer: The model's tokenizer.
            stop: Stop strings, none empty.
            ends: End-of-sequence token ids.
        """
        self.tokenizer, self.stop, self.ends = tokenizer, tuple(stop), frozenset(ends)
        self._tail = _BYTES_PER_CHARACTER * max((len(mark) for mark in stop), default=0) + _MARGIN
        self._may_end: dict[int, bool] = {}

    def __call__(self, row: Row, bound: int) -> Response | None:
        """Gives the response of a row that has finished, None while it goes on."""
        last = row.new[-1]
        if last in self.ends:
            return self._response(row, self._text(row, row.new[:-1]), "stop")
        if self.stop and self._may_complete(last) and self._in_tail(row):
            text = self._text(row, row.new)
            if any(mark in text for mark in self.stop):
                return self._response(row, text, "stop")
        if len(row.new) >= bound:
            return self._response(row, self._text(row, row.new), "length")
        return None

    def _response(self, row: Row, text: str, finish: Finish) -> Response:
        cuts = [text.index(mark) for mark in self.stop if mark in text]
        if cuts:
            text, finish = text[: min(cuts)], "stop"
        return Response(text, len(row.new), finish, prompt_tokens=len(row.ids))

    def _may_complete(self, token: int) -> bool:
        """Whether a token can hold a stop string's last character; only then is text decoded."""
        if token not in self._may_end:
            piece = self._decoded([token])
            last = {mark[-1] for mark in self.stop}
            # A part of a character, or a space that decoding drops at a text's beginning, may be it.
            unclear = not piece or "\ufffd" in piece or " " in last
            self._may_end[token] = unclear or any(end in piece for end in last)
        return self._may_end[token]

    def _in_tail(self, row: Row) -> bool:
        """Whether the last tokens, enough for the longest stop string, hold one."""
        if len(row.new) <= self._tail:
            return True
        tail = self._decoded(row.new[-self._tail :])
        return any(mark in tail for mark in self.stop)

    def _text(self, row: Row, new: Sequence[int]) -> str:
        """The generated text; decoded behind the prompt's last token, a leading space stays."""
        head = row.ids[-1:]
        before = self._decoded(head)
        whole = self._decoded([*head, *new])
        return whole[len(before) :] if whole.startswith(before) else self._decoded(new)

    def _decoded(self, ids: Sequence[int]) -> str:
        return str(
            self.tokenizer.decode(
                list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )
