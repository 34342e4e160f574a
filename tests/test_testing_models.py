"""The contract suite of engines has teeth for characters, contexts, streams and scores too.

Each broken engine is a real little model of bytes with one promise broken.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest
from byte_engine import ByteEngine

from icl_align.engines import Engine
from icl_align.errors import UserError
from icl_align.testing import PROMPTS, check_engine
from icl_align.types import Decoding, Response, TokenLogProbs

_counter = itertools.count()


class Restless(ByteEngine):
    """Its greedy text changes with a share of the batches, as in bfloat16."""

    def stream(
        self, prompts: Sequence[str], *, stop: Sequence[str], decoding: Decoding
    ) -> Iterator[tuple[int, Response]]:
        for index, response in super().stream(prompts, stop=stop, decoding=decoding):
            unlike = len(prompts) > 1 and index == 0 and not stop and not decoding.temperature
            yield index, replace(response, text="x" + response.text[1:]) if unlike else response


class Greedy(ByteEngine):
    """Cannot sample and says so."""

    def stream(
        self, prompts: Sequence[str], *, stop: Sequence[str], decoding: Decoding
    ) -> Iterator[tuple[int, Response]]:
        if decoding.temperature:
            raise UserError("no sampling here; use temperature 0")
        return super().stream(prompts, stop=stop, decoding=decoding)


def test_a_model_of_bytes_keeps_the_contract() -> None:
    """The suite passes on a real model that samples, streams, counts, scores and says emoji."""
    check_engine(ByteEngine, whole_characters=True)
    said = ByteEngine().generate(PROMPTS, stop=(), decoding=Decoding(max_tokens=12))
    assert any(chr(0x1F5C0 + ord("s")) in response.text for response in said)


def test_a_share_may_be_stated() -> None:
    """Texts that depend on the batch are refused, unless no more of them do than was said."""
    with pytest.raises(
        AssertionError, match="whatever the order: 75% of 8 texts agree .* at least 100%"
    ):
        check_engine(Restless)
    check_engine(Restless, agreement=0.75)
    with pytest.raises(AssertionError, match="at least 95% must; the first that does not is"):
        check_engine(Restless, agreement=0.95)
    with pytest.raises(AssertionError, match=r"agreement must be in \(0, 1\], got 0"):
        check_engine(ByteEngine, agreement=0)


def test_an_engine_may_not_sample() -> None:
    """It says so, and is held to saying so to its users."""
    check_engine(Greedy, samples=False)
    with pytest.raises(AssertionError, match="if it cannot, check it with samples=False"):
        check_engine(Greedy)
    with pytest.raises(AssertionError, match="must refuse a temperature above 0"):
        check_engine(ByteEngine, samples=False)


class Silent(ByteEngine):
    """A client whose server does not score texts."""

    def scored(self, before: bytes, text: bytes) -> TokenLogProbs:
        raise UserError("the server ignores echo; use another")


def test_an_engine_may_not_score() -> None:
    """The same for a client whose server cannot."""
    check_engine(Silent, scores=False)
    with pytest.raises(AssertionError, match="if it cannot, check it with scores=False"):
        check_engine(Silent)
    with pytest.raises(AssertionError, match="an engine that cannot score must refuse to"):
        check_engine(ByteEngine, scores=False)


class Bytewise(ByteEngine):
    """Decodes each token by itself."""

    def text(self, new: bytes) -> str:
        return "".join(bytes([byte]).decode(errors="replace") for byte in new)


class Surrogates(ByteEngine):
    """Keeps undecodable bytes as lone surrogates."""

    def text(self, new: bytes) -> str:
        return new.decode(errors="surrogateescape")


class TokenStops(ByteEngine):
    """Looks for stop strings in the last three tokens only, so longer ones are never found."""

    def respond(self, prompt: str, stop: Sequence[str], decoding: Decoding) -> Response:
        return super().respond(prompt, [m for m in stop if len(m.encode()) < 4], decoding)


class FirstStops(ByteEngine):
    """One row's stop string ends the whole batch."""

    def generate(
        self, prompts: Sequence[str], *, stop: Sequence[str], decoding: Decoding
    ) -> list[Response]:
        found = super().generate(prompts, stop=stop, decoding=decoding)
        shortest = min((len(r.text) for r in found), default=0)
        return [replace(r, text=r.text[:shortest]) if stop else r for r in found]


class Early(ByteEngine):
    """Refuses one token too soon."""

    def check_length(self, text: str, bound: int) -> None:
        super().check_length(text, bound + 1)


class Late(ByteEngine):
    """Refuses one token too late."""

    def check_length(self, text: str, bound: int) -> None:
        super().check_length(text, bound - 1)


class Lazy(ByteEngine):
    """Finds out that a prompt is too long when it comes to it."""

    def stream(
        self, prompts: Sequence[str], *, stop: Sequence[str], decoding: Decoding
    ) -> Iterator[tuple[int, Response]]:
        for index, prompt in enumerate(prompts):
            self.check_length(prompt, decoding.max_tokens)
            yield index, self.respond(prompt, stop, decoding)


class Miscounting(ByteEngine):
    """Counts a token more than it sends."""

    def count_tokens(self, text: str) -> int:
        return len(text.encode()) + 1


class Prefixing(ByteEngine):
    """Needs two tokens before it has anything to share."""

    def respond(self, prompt: str, stop: Sequence[str], decoding: Decoding) -> Response:
        found = super().respond(prompt, stop, decoding)
        return found if len(prompt) > 1 else replace(found, finish="error", error="no prefix")


class Repeating(ByteEngine):
    """Streams its first response twice."""

    def stream(
        self, prompts: Sequence[str], *, stop: Sequence[str], decoding: Decoding
    ) -> Iterator[tuple[int, Response]]:
        found = list(super().stream(prompts, stop=stop, decoding=decoding))
        yield from [*found[:1], *found]


class Shuffling(ByteEngine):
    """Streams responses under the indices of the order they come in."""

    def generate(
        self, prompts: Sequence[str], *, stop: Sequence[str], decoding: Decoding
    ) -> list[Response]:
        return [self.respond(prompt, stop, decoding) for prompt in prompts]

    def stream(
        self, prompts: Sequence[str], *, stop: Sequence[str], decoding: Decoding
    ) -> Iterator[tuple[int, Response]]:
        found = list(super().stream(prompts, stop=stop, decoding=decoding))
        yield from enumerate(response for _, response in found)


class Deaf(Shuffling):
    """Streams without minding the context."""

    def generate(
        self, prompts: Sequence[str], *, stop: Sequence[str], decoding: Decoding
    ) -> list[Response]:
        for prompt in prompts:
            self.check_length(prompt, decoding.max_tokens)
        return [self.respond(prompt, stop, decoding) for prompt in prompts]

    def stream(
        self, prompts: Sequence[str], *, stop: Sequence[str], decoding: Decoding
    ) -> Iterator[tuple[int, Response]]:
        yield from enumerate(self.respond(prompt, stop, decoding) for prompt in prompts)


class Likely(ByteEngine):
    """A byte model whose scores another function spoils."""

    def __init__(self, spoil: Callable[[list[TokenLogProbs]], list[TokenLogProbs]]) -> None:
        super().__init__()
        self.spoil = spoil

    def loglikelihood(self, pairs: Sequence[tuple[str, str]]) -> list[TokenLogProbs]:
        return self.spoil(super().loglikelihood(pairs))


def rescore(change: Callable[[TokenLogProbs], TokenLogProbs]) -> Callable[..., Likely]:
    return lambda: Likely(lambda found: [change(result) for result in found])


class Forgetful(ByteEngine):
    """Scores a text as if nothing stood before it."""

    def scored(self, before: bytes, text: bytes) -> TokenLogProbs:
        return replace(super().scored(b"", text), prompt_tokens=len(before))


class Unbounded(ByteEngine):
    """Scores what does not fit."""

    def loglikelihood(self, pairs: Sequence[tuple[str, str]]) -> list[TokenLogProbs]:
        return [self.scored(prompt.encode(), text.encode()) for prompt, text in pairs]


class Unlike(ByteEngine):
    """Scores with another model than it decodes with."""

    def judged(self, before: bytes) -> list[float]:
        return self.weights(b"")


BROKEN_MODELS: dict[str, Callable[[], Engine]] = {
    "whose bytes come in several tokens must be put together": Bytewise,
    "a text that cannot be encoded as UTF-8": Surrogates,
    "must end before the first stop string": TokenStops,
    "must end the texts that hold it and no other": FirstStops,
    "that just fill the context must be continued": Early,
    "that do not fit the context must raise ContextOverflowError": Late,
    "before the first response": Lazy,
    "must raise ContextOverflowError before the first": Deaf,
    "prompt_tokens is .* where count_tokens says": Miscounting,
    "finish is 'error': no prefix": Prefixing,
    "the stream must give each index once": Repeating,
    "the stream must give the responses of generate": Shuffling,
    "no pairs must give no results": lambda: Likely(lambda found: found or [TokenLogProbs((), ())]),
    "each pair must have one result": lambda: Likely(lambda found: found[:1]),
    "must have one log-probability": rescore(lambda r: replace(r, logprobs=r.logprobs[1:])),
    "must have one rank, or none": rescore(lambda r: replace(r, ranks=r.ranks[1:])),
    "a log-probability must be <= 0": rescore(
        lambda r: replace(r, logprobs=tuple(-x for x in r.logprobs))
    ),
    "ranks begin with 1": rescore(lambda r: replace(r, ranks=tuple(x - 1 for x in r.ranks))),
    "of rank .* cannot have the log-probability": rescore(
        lambda r: replace(r, ranks=(200,) * len(r.ranks))
    ),
    "have .* tokens together": rescore(lambda r: replace(r, prompt_tokens=0)),
    "a log-probability must be repeatable": rescore(
        lambda r: replace(r, logprobs=tuple(x - next(_counter) for x in r.logprobs))
    ),
    "a log-probability must follow its pair": lambda: Likely(
        lambda found: [
            replace(r, logprobs=tuple(x - index for x in r.logprobs))
            for index, r in enumerate(found)
        ]
    ),
    "a log-probability must not depend on its batch mates": lambda: Likely(
        lambda found: [
            replace(r, logprobs=tuple(x - (len(found) > 1) for x in r.logprobs)) for r in found
        ]
    ),
    "a text in two parts must be as likely as the whole": Forgetful,
    "of greedy decoding must have rank 1": Unlike,
    "a pair that does not fit the context": Unbounded,
}


@pytest.mark.parametrize("reason", BROKEN_MODELS)
def test_a_broken_model_is_refused_for_its_own_reason(reason: str) -> None:
    """Characters, contexts, streams and scores have promises of their own."""
    with pytest.raises(AssertionError, match=reason):
        check_engine(BROKEN_MODELS[reason], whole_characters=True)
