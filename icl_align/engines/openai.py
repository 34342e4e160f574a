"""Engine `openai`: any server with an OpenAI-compatible `/v1/completions`.

vLLM, SGLang, TGI, llama.cpp's server and `transformers serve` are such servers. What comes back is
checked: servers accept settings and then ignore them.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import secrets
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from http import HTTPStatus
from os.path import commonprefix
from typing import Any

from icl_align.engines import ContextOverflowError
from icl_align.engines._http import Servers, each
from icl_align.engines._options import (
    check_numbers,
    check_seconds,
    check_texts,
    checked_urls,
    key_from,
)
from icl_align.engines._reply import BadReplyError, RefusedError
from icl_align.errors import UserError
from icl_align.types import Decoding, Finish, Response, TokenLogProbs

_VERSION = "1"
_LONGEST_ECHO = 20
"""Characters of a prompt that a completion may well begin with by itself."""

_LONGEST_BEHIND_STOP = 100
"""Characters of a stop string, and of the token that completed it, that a server may leave standing."""

_OVERFLOW = re.compile(
    r"context (length|size|window)|max_model_len|max_total_tokens|max_new_tokens|too long"
    r"|(maximum|max) (model|input|allowed|sequence) (length|tokens)|maximum number of tokens",
    re.IGNORECASE,
)
_TOO_MUCH = frozenset({400, 413, 422})
"""Statuses with which servers refuse a prompt that is too long."""

_FINISHES: dict[object, Finish] = {
    "stop": "stop",
    "length": "length",
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
}
"""What servers say when a completion is whole; else they were stopped in the middle."""

_OWN = frozenset(
    (
        *("model", "prompt", "suffix", "max_tokens", "temperature", "top_p", "seed", "stop"),
        *("n", "best_of", "stream", "echo", "logprobs"),
    )
)
"""Fields of a request that `extra` may not set."""


def connect(  # noqa: PLR0913 (they are the options of an experiment file)
    model: str,
    *,
    base_url: str | list[str],
    identity: str = "",
    tokenizer: str | None = None,
    context_length: int | None = None,
    concurrency: int = 16,
    timeout_s: float = 600.0,
    attempts: int = 8,
    backoff_s: float = 0.5,
    api_key_env: str = "ICL_ALIGN_API_KEY",
    repetition_field: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> OpenAIEngine:
    """Makes the engine; nothing is sent yet.

    Args:
        model: The model's name at the server.
        base_url: Where the server is, such as http://127.0.0.1:8000/v1; several serve one model.
        identity: What else decides its text: revision, dtype, server version. Part of the ledger's
            key, as the URL is not: change it when the server behind a URL changes.
        tokenizer: Folder or Hub id of the model's tokenizer. With it, and `context_length`, prompts
            are counted before they are sent, and texts can be scored.
        context_length: Most tokens of prompt and completion together.
        concurrency: Most requests at once to one server, >= 1.
        timeout_s: How long a server may be silent.
        attempts: How often a request is sent at most, >= 1.
        backoff_s: First wait after a failure, doubling each time.
        api_key_env: Environment variable that holds the key; none is sent where it is not set.
        repetition_field: What the server calls a repetition penalty over prompt and completion
            ("repetition_penalty" with vLLM, SGLang and TGI, "repeat_penalty" with llama.cpp). It is
            then sent with every request, as a server may have a default of its own.
        extra: More fields of each request, against defaults of the server's own: {"top_k": -1}
            with vLLM and SGLang, {"top_k": 0, "min_p": 0} with llama.cpp. Part of the ledger's key.

    Raises:
        UserError: a setting of the wrong kind or outside its range.
    """
    check_numbers(concurrency=concurrency, attempts=attempts, context_length=context_length)
    check_seconds(timeout_s=timeout_s, backoff_s=backoff_s)
    check_texts(
        identity=identity,
        api_key_env=api_key_env,
        tokenizer=tokenizer,
        repetition_field=repetition_field,
    )
    if (tokenizer is None) != (context_length is None):
        raise UserError("tokenizer and context_length go together; give both or neither")
    more = dict(extra or {})
    if taken := sorted((_OWN | {repetition_field or ""}).intersection(more)):
        raise UserError(f"extra must not hold {taken[0]!r}: the engine sets it")
    urls = checked_urls(base_url)
    key = key_from(api_key_env)
    settings = {
        "concurrency": concurrency,
        "timeout_s": timeout_s,
        "attempts": attempts,
        "backoff_s": backoff_s,
        "headers": {"Authorization": f"Bearer {key}"} if key else {},
    }
    shared = (model, urls, settings, identity, repetition_field, more)
    if tokenizer is None or context_length is None:
        return OpenAIEngine(*shared)
    return TokenizedOpenAIEngine(*shared, tokenizer, context_length)


class OpenAIEngine:
    """Continues prompts on one or several servers; made by `connect`."""

    def __init__(
        self,
        model: str,
        urls: Sequence[str],
        settings: Mapping[str, Any],
        identity: str,
        repetition_field: str | None,
        extra: Mapping[str, Any],
    ) -> None:
        """Stores what `connect` has checked; see there."""
        self.model, self.urls, self.identity = model, list(urls), identity
        self.repetition_field, self.extra = repetition_field, dict(extra)
        self._settings = {**settings, "known": {}}
        self._warned: set[str] = set()

    @property
    def name(self) -> str:
        """The engine and its model."""
        return f"openai:{self.model}"

    @property
    def fingerprint(self) -> str:
        """Model, its given identity, fields of one's own and this engine's version; no URL."""
        more = json.dumps(self.extra, sort_keys=True) if self.extra else ""
        field = self.repetition_field or ""
        return f"openai:{self.model}:{self.identity}:{field}:{more}:{_VERSION}"

    def generate(
        self, prompts: Sequence[str], *, stop: Sequence[str], decoding: Decoding
    ) -> list[Response]:
        """Continues each prompt; see `icl_align.engines.Engine`, and `stream` for what it raises."""
        found = dict(self.stream(prompts, stop=stop, decoding=decoding))
        return [found[index] for index in range(len(prompts))]

    def stream(
        self, prompts: Sequence[str], *, stop: Sequence[str], decoding: Decoding
    ) -> Iterator[tuple[int, Response]]:
        """Continues each prompt; gives index and response of each as soon as it has come.

        Requests go out sorted by prompt, so that a server's own prefix cache finds its prefixes.

        Raises:
            ContextOverflowError: a prompt does not fit; before any work where the engine can count
                tokens, else when the server says so.
            UserError: settings that servers do not have, a server that refuses or cannot be reached.
                Responses that came before were given.
        """
        if isinstance(stop, str) or "" in stop:
            raise UserError(f"stop must be a list of strings that are not empty, got {stop!r}")
        for index, prompt in enumerate(prompts):
            if not _encodable(prompt):
                raise UserError(f"prompt {index} holds half a character, which cannot be sent")
        bodies = [self._body(prompt, stop, decoding) for prompt in prompts]
        self._check_lengths(prompts, decoding.max_tokens)
        return self._responses(bodies, decoding)

    def ask(self, path: str, body: Mapping[str, Any] | None) -> Any:
        """Sends one request of one's own, twice at most, and gives the decoded reply; for probes.

        Raises:
            RefusedError: the server says that the request is wrong.
            UserError: no reply could be had.
        """
        servers = Servers(self.urls, **{**self._settings, "attempts": 2})
        jobs = each(servers, [body], lambda sent: servers.ask(path, sent, lambda found: found))
        return next(jobs)[1]

    def _check_lengths(self, prompts: Sequence[str], bound: int) -> None:
        """Whether prompts fit; here only the server knows."""

    def _body(self, prompt: str, stop: Sequence[str], decoding: Decoding) -> dict[str, Any]:
        """What is sent for one prompt."""
        body: dict[str, Any] = {
            **self.extra,
            "model": self.model,
            "prompt": prompt,
            "max_tokens": decoding.max_tokens,
            "temperature": decoding.temperature,
        }
        if stop:
            body["stop"] = list(stop)
        if decoding.temperature > 0:
            seed = secrets.randbits(64) if decoding.seed is None else decoding.seed
            stream = hashlib.sha256(f"{seed}\0{prompt}".encode("utf-8", "surrogatepass")).digest()
            body |= {"top_p": decoding.top_p, "seed": int.from_bytes(stream[:4], "big") >> 1}
        theirs = self.repetition_field is not None and decoding.repetition_scope == "all"
        if decoding.repetition_penalty != 1 and not theirs:
            raise UserError(
                "completion servers have no repetition penalty over generated tokens; use "
                'repetition_penalty 1, or repetition_scope "all" with the option '
                "repetition_field naming the server's own"
            )
        if self.repetition_field is not None:  # 1 too: a server may have another default
            body[self.repetition_field] = decoding.repetition_penalty
        return body

    def _responses(
        self, bodies: Sequence[dict[str, Any]], decoding: Decoding
    ) -> Iterator[tuple[int, Response]]:
        repeatable = decoding.temperature == 0 or decoding.seed is not None
        twins: dict[object, list[int]] = {}
        for index, body in enumerate(bodies):
            twins.setdefault(body["prompt"] if repeatable else index, []).append(index)
        groups = sorted(twins.values(), key=lambda group: str(bodies[group[0]]["prompt"]))
        if not groups:
            return
        servers = Servers(self.urls, **self._settings)

        async def one(group: list[int]) -> Response:
            return await self._complete(servers, bodies[group[0]])

        for place, response in each(servers, groups, one):
            first, *others = groups[place]
            yield first, response
            for index in others:
                yield index, replace(response, reused_tokens=response.prompt_tokens)

    async def _complete(self, servers: Servers, body: Mapping[str, Any]) -> Response:
        try:
            response = await servers.ask(
                "/completions", body, lambda reply: self._read(reply, body)
            )
        except RefusedError as error:
            raise _refused(error, "the server refuses the request") from error
        stop = body.get("stop", ())
        cuts = [response.text.index(mark) for mark in stop if mark in response.text]
        if not cuts:
            return response
        if len(response.text) > min(cuts) + _LONGEST_BEHIND_STOP:
            self._warn(
                "the server ignores stop strings; its texts are cut here, but tokens are wasted"
            )
        return replace(response, text=response.text[: min(cuts)], finish="stop")

    def _read(self, reply: Any, body: Mapping[str, Any]) -> Response:
        """Takes one completion out of a reply, and checks that it is what was asked for."""
        choice = only_choice(reply)
        text, prompt = choice.get("text"), str(body["prompt"])
        if not isinstance(text, str):
            raise BadReplyError(f"a choice without text: {str(choice)[:100]}")
        if len(prompt) > _LONGEST_ECHO and text.startswith(prompt):
            raise UserError(
                f"the server of {self.model} gives the prompt back before the completion; "
                "turn its echo off"
            )
        finish = _FINISHES.get(choice.get("finish_reason"))
        if finish is None:
            raise BadReplyError(f"a completion that ended by {choice.get('finish_reason')!r}")
        usage = reply.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        bound: int = body["max_tokens"]
        told = usage.get("completion_tokens")
        if told is None or (told == 0 and text):  # counted again, a text may have other tokens
            counted = min(_count(None, self._count(text)), bound)
            told = bound if finish == "length" else counted
        tokens = _count(told, None)
        if tokens > body["max_tokens"]:
            raise UserError(
                f"the server of {self.model} gave {tokens} tokens where max_tokens is "
                f"{body['max_tokens']}: it ignores the bound, so nothing it says can be compared"
            )
        details = usage.get("prompt_tokens_details")
        reused = details.get("cached_tokens") if isinstance(details, dict) else None
        stopped = any(mark in text for mark in body.get("stop", ()))
        if finish == "length" and tokens < body["max_tokens"] and not stopped:
            raise ContextOverflowError(
                f"the server of {self.model} ended after {tokens} of {body['max_tokens']} tokens: its "
                "context is full; use fewer exemplars, a lower max_tokens or a longer context"
            )
        before = _count(usage.get("prompt_tokens"), self._count(prompt))
        return Response(text, tokens, finish, before, min(before, _count(reused, 0)))

    def _count(self, _text: str) -> int | None:
        """Tokens of a text where the server does not say; here nobody knows."""
        return None

    def _warn(self, what: str) -> None:
        """Says something once."""
        if what not in self._warned:
            self._warned.add(what)
            warnings.warn(f"{self.name}: {what}", stacklevel=2)


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

        found = dict(each(servers, pairs, one))
        return [found[index] for index in range(len(pairs))]

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
            raise _refused(error, "the server refuses to score texts") from error
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
            if tokens + bound > self._context_length:
                raise ContextOverflowError(
                    f"prompt {index} has {tokens} tokens and max_tokens is {bound}, together more "
                    f"than the {self._context_length} of {self.model}; use fewer exemplars or a "
                    "lower max_tokens"
                )

    def _count(self, text: str) -> int | None:
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer(text)["input_ids"])

    @cached_property
    def _tokenizer(self) -> Any:
        from icl_align.engines._load import load_tokenizer

        return load_tokenizer(self.tokenizer_id)


def only_choice(reply: Any) -> dict[str, Any]:
    """The one choice of a reply.

    Raises:
        BadReplyError: it has none, or is no completion.
    """
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise BadReplyError(f"a reply that is no completion: {str(reply)[:100]}")
    if choices[0].get("index") not in (0, None):
        raise BadReplyError(f"the only choice has the index {str(choices[0]['index'])[:20]}")
    return choices[0]


def _refused(error: RefusedError, what: str) -> UserError | ContextOverflowError:
    """What a refusal means for the caller."""
    if error.status in _TOO_MUCH and _OVERFLOW.search(error.reason):
        return ContextOverflowError(str(error))
    hint = "; a base_url usually ends in /v1" if error.status == HTTPStatus.NOT_FOUND else ""
    return UserError(f"{what}: {error}{hint}")


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _count(given: object, otherwise: int | None) -> int:
    """A count that a server gives; one that is none is garbage, one that is missing is told."""
    if given is None and otherwise is not None:
        return otherwise
    if given is None:
        raise UserError(
            "the server does not say how many tokens it used; give the options tokenizer and "
            "context_length, so that they can be counted"
        )
    if not isinstance(given, int) or isinstance(given, bool) or given < 0:
        raise BadReplyError(f"a token count that is none: {given!r}")
    return given
