"""What an engine promises that says how likely its model finds given texts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from icl_align.engines import Engine, Scoring, Tokenizing
from icl_align.errors import UserError
from icl_align.types import Decoding, TokenLogProbs

_TOLERANCE = 1e-3
"""Nats by which a token's log-probability may differ in float32 when its batch does."""

_LOOSE = 0.5
"""The same below float32."""

_STEPS = 4


def check_likelihood(engine: Engine, prompts: Sequence[str], *, exact: bool) -> None:
    """Checks `loglikelihood`.

    Args:
        engine: An engine that is `Scoring`.
        prompts: Prompts that it can continue.
        exact: Whether it computes in float32.

    Raises:
        AssertionError: naming the promise that was broken.
    """
    assert isinstance(engine, Scoring)
    tolerance = _TOLERANCE if exact else _LOOSE
    try:
        engine.loglikelihood([(prompts[0], " a")])
    except UserError as error:
        raise AssertionError(
            f"the engine does not score ({error}); if it cannot, check it with scores=False"
        ) from error
    assert engine.loglikelihood([]) == [], "no pairs must give no results"
    pairs = [(prompt, f" {other}") for prompt, other in zip(prompts, prompts[::-1], strict=True)]
    scored = engine.loglikelihood(pairs)
    assert len(scored) == len(pairs), "each pair must have one result"
    for pair, result in zip(pairs, scored, strict=True):
        _check_result(engine, pair, result)
    again = {
        "must be repeatable": engine.loglikelihood(pairs),
        "must follow its pair, whatever the order": engine.loglikelihood(pairs[::-1])[::-1],
        "must not depend on its batch mates": [engine.loglikelihood([p])[0] for p in pairs],
    }
    for promise, other in again.items():
        for one, two in zip(scored, other, strict=True):
            assert _close(one, two, tolerance), f"a log-probability {promise}: {one} and {two}"
    (empty,) = engine.loglikelihood([(prompts[0], "")])
    assert (empty.tokens, empty.logprobs) == ((), ()), "an empty text has no tokens to score"
    for text in prompts:
        _check_chain(engine, text, tolerance)
    if exact:
        _check_greedy(engine, prompts)


def _check_result(engine: Engine, pair: tuple[str, str], result: TokenLogProbs) -> None:
    assert result.tokens, f"a text must have tokens: {pair[1]!r}"
    assert len(result.logprobs) == len(result.tokens), "each token must have one log-probability"
    assert len(result.ranks) in (0, len(result.tokens)), "each token must have one rank, or none"
    for value in result.logprobs:
        assert -math.inf < value <= 0, f"a log-probability must be <= 0, got {value}"
    assert all(rank >= 1 for rank in result.ranks), f"ranks begin with 1, got {min(result.ranks)}"
    for value, rank in zip(result.logprobs, result.ranks, strict=False):
        # a token of rank r is at most as likely as r - 1 others
        assert math.exp(value) * rank < 1 + _TOLERANCE, (
            f"a token of rank {rank} cannot have the log-probability {value}"
        )
    if isinstance(engine, Tokenizing):
        whole = engine.count_tokens("".join(pair))
        assert result.prompt_tokens + len(result.tokens) == whole, (
            f"prompt and text have {whole} tokens together, not {result.prompt_tokens} and "
            f"{len(result.tokens)}"
        )


def _close(one: TokenLogProbs, two: TokenLogProbs, tolerance: float) -> bool:
    return one.tokens == two.tokens and all(
        abs(a - b) <= tolerance for a, b in zip(one.logprobs, two.logprobs, strict=True)
    )


def _check_chain(engine: Scoring, text: str, tolerance: float) -> None:
    """However a text is cut, at the borders of its tokens the parts add up to the whole."""
    first, *cuts = [at for at, mark in enumerate(text) if at and mark == " "] or [0]
    if not cuts:
        return
    pairs = [(text[:first], text[first:])]
    pairs += [(text[:first], text[first:cut]) for cut in cuts]
    pairs += [(text[:cut], text[cut:]) for cut in cuts]
    whole, *parts = engine.loglikelihood(pairs)
    for left, right in zip(parts[: len(cuts)], parts[len(cuts) :], strict=True):
        if left.tokens + right.tokens != whole.tokens:
            continue  # cut within a token
        total = math.fsum(left.logprobs) + math.fsum(right.logprobs)
        assert abs(total - math.fsum(whole.logprobs)) <= tolerance * len(whole.tokens), (
            f"a text in two parts must be as likely as the whole: {total} and "
            f"{math.fsum(whole.logprobs)} ({text!r})"
        )


def _check_greedy(engine: Engine, prompts: Sequence[str]) -> None:
    """What greedy decoding says must be what scoring finds most likely."""
    assert isinstance(engine, Scoring)
    starts: list[list[str]] = [[] for _ in prompts]
    for bound in range(1, _STEPS + 1):
        found = engine.generate(prompts, stop=(), decoding=Decoding(max_tokens=bound))
        for texts, response in zip(starts, found, strict=True):
            if response.finish == "length" and len(texts) == bound - 1:
                texts.append(response.text)
    pairs = [
        (prompt, text) for prompt, texts in zip(prompts, starts, strict=True) for text in texts
    ]
    results = iter(engine.loglikelihood(pairs))
    for prompt, texts in zip(prompts, starts, strict=True):
        for text, result in _said(texts, results, engine.loglikelihood([(prompt, "")])[0]):
            assert set(result.ranks) <= {1}, (
                f"the tokens of greedy decoding must have rank 1: {text!r} after {prompt!r} has "
                f"{result.ranks}"
            )


def _said(
    texts: Sequence[str], results: Iterator[TokenLogProbs], before: TokenLogProbs
) -> Iterator[tuple[str, TokenLogProbs]]:
    """Those texts whose tokens are surely the generated ones: each adds one token to the last."""
    known: tuple[int, ...] = ()
    sure = True
    for text in texts:
        result = next(results)
        sure = sure and result.prompt_tokens == before.prompt_tokens and "\ufffd" not in text
        sure = sure and bool(result.tokens) and result.tokens[:-1] == known
        known = result.tokens
        if sure:
            yield text, result
