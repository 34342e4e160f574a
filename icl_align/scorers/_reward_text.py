"""Conversations as a reward model reads them: chat template or text pair, cut to fit, unforgeable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl_align.errors import UserError
from icl_align.scorers.fence import whole
from icl_align.types import Example

_NO_BOUND = 1 << 20
"""Tokenizers without a bound of their own name an absurdly large one."""
_BROKEN = "\u200b"


@dataclass(frozen=True, slots=True)
class Encoded:
    """A conversation as token ids.

    Attributes:
        ids: Token ids; empty where the conversation alone leaves no room for an answer.
        types: Which part of a text pair each belongs to; all 0 where the model does not care.
        kept: Share of the answer's characters that fitted, in [0, 1].
        broken: How many control tokens were found spelt out in the texts, and broken up.
    """

    ids: tuple[int, ...]
    types: tuple[int, ...]
    kept: float = 1.0
    broken: int = 0


class RewardText:
    """Encodes conversations with answers for a reward model.

    Attributes:
        bound: Tokens that a row may have, padding included.
    """

    def __init__(self, tokenizer: Any, config: Any, folder: Path, max_tokens: int) -> None:
        """Reads bounds and control tokens from a model's tokenizer and text configuration."""
        self.bound = min(max_tokens, *_bounds(tokenizer, config))
        self._tokenizer, self._folder = tokenizer, folder
        self._specials = _specials(tokenizer)
        self._between = "" if _separates(tokenizer) else "\n\n"

    def encode(self, example: Example, answer: str) -> Encoded:
        """Encodes a conversation and its answer, the answer's end cut off where it must be.

        With a chat template the turns, query and answer are its messages; without one the
        conversation and the answer are a text pair. A control token that a text spells out is broken
        up by a zero-width space, so that no text can close its own message.

        Raises:
            UserError: the model's chat template fails.
        """
        asked = [text for turn in example.turns for text in (turn.query, turn.answer)]
        broken, texts = 0, []
        for text in (*asked, example.query, answer):
            clean, found = self._plain(text)
            texts.append(clean)
            broken += found
        *context, full = texts
        if not self._fits(self._tokens(context, full[:1])[0]):
            return Encoded((), (), 0.0, broken)
        size = len(full)
        while True:
            ids, types = self._tokens(context, full[:size])
            if self._fits(ids):
                return Encoded(tuple(ids), tuple(types), size / len(full), broken)
            over = len(ids) - self.bound + 1
            size = max(1, min(size - 1, int(size * (1 - over / len(ids)))))

    def _fits(self, ids: Sequence[int]) -> bool:
        return len(ids) < self.bound

    def _plain(self, text: str) -> tuple[str, int]:
        """Breaks up control tokens that a text spells out; gives how many there were."""
        count, text = 0, whole(text)
        for token in self._specials:
            found = text.count(token)
            if found:
                count += found
                first = token[0] if len(token) > 1 else ""
                text = text.replace(token, first + _BROKEN + token[1:])
        return text, count

    def _tokens(self, context: Sequence[str], answer: str) -> tuple[list[int], list[int]]:
        if self._tokenizer.chat_template:
            text = self._templated(context, answer)
            ids = list(self._tokenizer(text, add_special_tokens=False)["input_ids"])
            return ids, [0] * len(ids)
        asked = "\n\n".join(context) + self._between
        encoded = self._tokenizer(asked, answer, truncation=False, verbose=False)
        ids = list(encoded["input_ids"])
        return ids, list(encoded.get("token_type_ids", [0] * len(ids)))

    def _templated(self, context: Sequence[str], answer: str) -> str:
        messages = [
            {"role": "assistant" if number % 2 else "user", "content": text}
            for number, text in enumerate((*context, answer))
        ]
        try:
            return str(self._tokenizer.apply_chat_template(messages, tokenize=False))
        except Exception as error:  # a template is a program of the model's; anything may go wrong
            reason = " ".join(str(error).split())[:160]
            raise UserError(
                f"the chat template of the reward model {self._folder} fails: {reason}; check its "
                "tokenizer files"
            ) from error


def _bounds(tokenizer: Any, config: Any) -> list[int]:
    """How many tokens the model can read, as its files say, none where they say nothing."""
    named = (tokenizer.model_max_length, getattr(config, "max_position_embeddings", None))
    return [int(bound) for bound in named if bound and bound < _NO_BOUND] or [_NO_BOUND]


def _specials(tokenizer: Any) -> tuple[str, ...]:
    """Every control token that a tokenizer reads out of plain text, the longest first."""
    added = tokenizer.added_tokens_decoder.values()
    named = {str(token) for token in added if token.special} | set(tokenizer.all_special_tokens)
    return tuple(sorted((t for t in named if t.strip()), key=lambda t: (-len(t), t)))


def _separates(tokenizer: Any) -> bool:
    """Whether the tokenizer puts anything between the two texts of a pair."""
    pair, single = (tokenizer.num_special_tokens_to_add(pair=two) for two in (True, False))
    return bool(pair > single)
