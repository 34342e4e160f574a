"""Engine `scripted`: replies from a function, for tests, documentation and dry runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from icl_align.engines._request import check_length, check_stop
from icl_align.types import Decoding, Response


class ScriptedEngine:
    """Continues a prompt with what a function, or a mapping from prompts, says.

    It keeps the contract of an engine: stop strings and the token bound hold, and a prompt too long
    for its context is refused. Its tokens are words with the white space before them.
    """

    def __init__(
        self,
        reply: Callable[[str], str] | Mapping[str, str],
        *,
        name: str = "scripted",
        context_length: int = 4096,
    ) -> None:
        """Stores the script.

        Args:
            reply: Gives the completion of a prompt, always the same for the same prompt; a mapping
                gives "" for prompts it does not hold.
            name: Name and fingerprint; change it with the script, or a ledger serves old replies.
            context_length: Most tokens of prompt and completion together.
        """
        self.reply, self._name, self._context_length = reply, name, context_length
        self.calls = 0
        """Prompts continued so far."""

    @property
    def name(self) -> str:
        """The given name."""
        return self._name

    @property
    def fingerprint(self) -> str:
        """The given name, marked as a script's."""
        return f"scripted:{self._name}"

    @property
    def context_length(self) -> int:
        """Most tokens of prompt and completion together."""
        return self._context_length

    def count_tokens(self, text: str) -> int:
        """Number of words."""
        return len(text.split())

    def generate(
        self, prompts: Sequence[str], *, stop: Sequence[str], decoding: Decoding
    ) -> list[Response]:
        """Continues each prompt; see `icl_align.engines.Engine`.

        Raises:
            ContextOverflowError: before any work.
            UserError: an empty stop string.
        """
        check_stop(stop)
        for index, prompt in enumerate(prompts):
            tokens, bound = self.count_tokens(prompt), decoding.max_tokens
            check_length(f"prompt {index}", tokens, bound, self._context_length, self._name)
        return [self._continue(prompt, stop, decoding) for prompt in prompts]

    def _continue(self, prompt: str, stop: Sequence[str], decoding: Decoding) -> Response:
        self.calls += 1
        script = self.reply
        said = script.get(prompt, "") if isinstance(script, Mapping) else script(prompt)
        words = re.findall(r"\s*\S+|\s+$", said)
        prompt_tokens, text = self.count_tokens(prompt), ""
        for tokens, word in enumerate(words[: decoding.max_tokens], start=1):
            text += word
            cuts = [text.index(mark) for mark in stop if mark in text]
            if cuts:
                return Response(text[: min(cuts)], tokens, "stop", prompt_tokens=prompt_tokens)
        if len(words) > decoding.max_tokens:
            return Response(text, decoding.max_tokens, "length", prompt_tokens=prompt_tokens)
        return Response(text, len(words), "stop", prompt_tokens=prompt_tokens)
