"""Completions from servers whose model's tokenizer is at hand: counted before, and scored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from os.path import commonprefix
from typing import Any

from icl_align.engines._completions import OpenAIEngine, only_choice, refused
from icl_align.engines._http import Servers, each
from icl_align.engines._reply import RefusedError
from icl_align.engines._request import check_length, in_order
from icl_align.errors import UserError
from icl_align.types import TokenLogProbs


class TokenizedOpenAIEngine(OpenAIEngine):
    """The engine with the model's tokenizer at hand: it counts tokens and scores texts."""

    def __init__(
        self,
        model: str,
        urls: Sequence[str],
        settings: Mapping[str, Any],
        identity: str,
        repetition_field: str | None,
        extra: Mapping[str, Any],
        tokenizer: str,
        context_length: int,
    ) -> None:
        """Stores what `connect` has checked; the tokenizer is loaded at first use."""
        super().__init__(model, urls, settings, identity, repetition_field, extra)
        self.tokenizer_id, self._context_length = tokenizer, context_length

    @property
    def context_length(self) -> int:
        """Most tokens of prompt and completion together."""
        return self._context_length

    def count_tokens(self, text: str) -> int:
        """Number of tokens of a prompt, special ones included."""
        return len(self._encode(text))

    def loglikelihood(self, pairs: Sequence[tuple[str, str]]) -> list[TokenLogProbs]:
        """Scores continuations; see `icl_align.engines.Scoring`. Servers do not tell ranks.

        Raises:
            ContextOverflowError: before any work, naming the first pair that does not fit.
            UserError: an empty prompt, or a server that does not give log-probabilities of prompts.
        """
        self._check_lengths([prompt + text for prompt, text in pairs], 1)
        for index, (prompt, _) in enumerate(pairs):
            if not self._encode(prompt):
                raise UserError(f"the prompt of pair {index} is empty")
        servers = Servers(self.urls, **self._settings)

        async def one(pair: tuple[str, str]) -> TokenLogProbs:
            return await self._score(servers, *pair)

        return in_order(each(servers, pairs, one), len(pairs))

    async def _score(self, servers: Servers, prompt: str, text: str) -> TokenLogProbs:
        ids, before = self._encode(prompt + text), self._encode(prompt)
        start = len(commonprefix([ids, before]))
        body = {
            "model": self.model,
            "prompt": prompt + text,
            "max_tokens": 1,
            "temperature": 0,
            "echo": True,
            "logprobs": 1,
        }
        try:
            found = await servers.ask(
                "/completions", body, lambda reply: only_choice(reply).get("logprobs")
            )
        except RefusedError as error:
            raise refused(error, "the server refuses to score texts") from error
        values = found.get("token_logprobs") if isinstance(found, dict) else None
        if not isinstance(values, list) or len(values) < len(ids):
            raise UserError(
                f"the server of {self.model} does not give log-probabilities of its prompts (it "
                "ignores echo or logprobs); use vLLM, or the engine hf"
            )
        extra = len(values) - len(ids)
        if extra not in (0, 1):
            raise UserError(
                f"the server of {self.model} splits a text into {len(values) - 1} tokens and "
                f"{self.tokenizer_id} into {len(ids)}; they do not belong together"
            )
        scored = values[start : len(ids)]
        if not all(isinstance(value, int | float) and -math.inf < value <= 0 for value in scored):
            raise UserError(f"the server of {self.model} gave no log-probability for some tokens")
        return TokenLogProbs(tuple(ids[start:]), tuple(map(float, scored)), prompt_tokens=start)

    def _check_lengths(self, prompts: Sequence[str], bound: int) -> None:
        for index, prompt in enumerate(prompts):
            tokens = self.count_tokens(prompt)
            check_length(f"prompt {index}", tokens, bound, self._context_length, self.model)

    def _count(self, text: str) -> int | None:
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer(text)["input_ids"])

    @cached_property
    def _tokenizer(self) -> Any:
        from icl_align.engines._load import load_tokenizer

        return load_tokenizer(self.tokenizer_id)
