"""Completions from servers: what is sent, and what is made of the replies."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from icl_align.engines import ContextOverflowError
from icl_align.engines._http import Servers, each
from icl_align.engines._reply import BadReplyError, RefusedError
from icl_align.engines._request import check_stop, in_order, row_seed
from icl_align.errors import UserError
from icl_align.types import Decoding, Finish, Response

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
        return in_order(self.stream(prompts, stop=stop, decoding=decoding), len(prompts))

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
        check_stop(stop)
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
            body |= {"top_p": decoding.top_p, "seed": row_seed(decoding.seed, prompt, 31)}
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
            raise refused(error, "the server refuses the request") from error
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
            counted = min(count(None, self._count(text)), bound)
            told = bound if finish == "length" else counted
        tokens = count(told, None)
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
        before = count(usage.get("prompt_tokens"), self._count(prompt))
        return Response(text, tokens, finish, before, min(before, count(reused, 0)))

    def _count(self, _text: str) -> int | None:
        """Tokens of a text where the server does not say; here nobody knows."""
        return None

    def _warn(self, what: str) -> None:
        """Says something once."""
        if what not in self._warned:
            self._warned.add(what)
            warnings.warn(f"{self.name}: {what}", stacklevel=2)


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


def refused(error: RefusedError, what: str) -> UserError | ContextOverflowError:
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


def count(given: object, otherwise: int | None) -> int:
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
