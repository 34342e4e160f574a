"""A request that just fits the context is served, one token more is refused before any work."""

from __future__ import annotations

import contextlib

from icl_align.engines import ContextOverflowError, Engine, Scoring, Streaming, Tokenizing
from icl_align.types import Decoding

_LONGEST = 8192
"""Longest context that is filled; encoding more would take minutes where there is no GPU."""

_ROOM = 8


def check_context(engine: Engine, prompt: str, *, scores: bool) -> None:
    """Checks both sides of the limit.

    Args:
        engine: An engine that is `Tokenizing`.
        prompt: A short prompt.
        scores: Whether it also scores texts.

    Raises:
        AssertionError: naming the promise that was broken.
    """
    assert isinstance(engine, Tokenizing)
    length, short = engine.context_length, engine.count_tokens(prompt)
    assert short >= 1, f"count_tokens says that {prompt!r} has {short} tokens"
    _check_refused(engine, prompt, prompt, length - short + 1)
    if length > _LONGEST:
        return
    long = _grown(engine, prompt, length - _ROOM)
    room = length - engine.count_tokens(long)
    try:
        (response,) = engine.generate([long], stop=(), decoding=Decoding(max_tokens=room))
    except ContextOverflowError as error:
        raise AssertionError(
            f"a prompt and bound that just fill the context must be continued: {error}"
        ) from error
    assert response.finish != "error", (
        f"a prompt and bound that just fill the context must be continued: {response.error}"
    )
    assert response.tokens <= room, (
        f"{response.tokens} tokens in a context that has room for {room}"
    )
    _check_refused(engine, prompt, long, room + 1)
    if scores and isinstance(engine, Scoring):
        try:
            engine.loglikelihood([(prompt, " a"), (long, long)])
        except ContextOverflowError:
            return
        raise AssertionError("a pair that does not fit the context must raise ContextOverflowError")


def _check_refused(engine: Engine, short: str, prompt: str, bound: int) -> None:
    """The prompt does not fit by one token; neither it nor a short one beside it may be begun."""
    decoding = Decoding(max_tokens=bound)
    try:
        engine.generate([prompt], stop=(), decoding=decoding)
    except ContextOverflowError:
        pass
    else:
        raise AssertionError(
            "a prompt and bound that do not fit the context must raise ContextOverflowError"
        )
    if not isinstance(engine, Streaming) or short == prompt:
        return
    given: list[int] = []
    with contextlib.suppress(ContextOverflowError):
        given.extend(
            index for index, _ in engine.stream([short, prompt], stop=(), decoding=decoding)
        )
    assert not given, "what does not fit must raise ContextOverflowError before the first response"


def _grown(engine: Tokenizing, text: str, most: int) -> str:
    """A text of as many tokens as possible, at most so many."""
    piece = " One, two"
    copies = max(0, (most - engine.count_tokens(text)) // max(1, engine.count_tokens(piece)))
    while engine.count_tokens(text + piece * (copies + 1)) <= most:
        copies += 1
    while copies and engine.count_tokens(text + piece * copies) > most:
        copies -= 1
    return text + piece * copies
