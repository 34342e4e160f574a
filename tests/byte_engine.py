"""A real little language model whose tokens are bytes: it samples, streams, counts and scores."""

from __future__ import annotations

import hashlib
import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence

from icl_align.engines import ContextOverflowError
from icl_align.types import Decoding, Response, TokenLogProbs

_TEXT = (
    "".join(f"{chr(at)} {chr(0x1F5C0 + at)} {chr(0x4E00 + at)} the " for at in range(32, 127)) * 2
)
"""Behind each ASCII character an emoji and an ideograph of its own."""

_ORDER = 6
_SMALL = 1e-3


class ByteEngine:
    """Predicts the next byte from the last six, by counts; most characters it likes have several."""

    def __init__(self, context_length: int = 160) -> None:
        self.context_length = context_length
        self._counts: dict[bytes, Counter[int]] = {}
        data = _TEXT.encode()
        for at in range(len(data)):
            for order in range(_ORDER + 1):
                if at >= order:
                    self._counts.setdefault(data[at - order : at], Counter())[data[at]] += 1

    @property
    def name(self) -> str:
        return "bytes"

    @property
    def fingerprint(self) -> str:
        return "bytes:1"

    def count_tokens(self, text: str) -> int:
        return len(text.encode())

    def generate(
        self, prompts: Sequence[str], *, stop: Sequence[str], decoding: Decoding
    ) -> list[Response]:
        found = dict(self.stream(prompts, stop=stop, decoding=decoding))
        return [found[index] for index in range(len(prompts))]

    def stream(
        self, prompts: Sequence[str], *, stop: Sequence[str], decoding: Decoding
    ) -> Iterator[tuple[int, Response]]:
        for prompt in prompts:
            self.check_length(prompt, decoding.max_tokens)
        for index in reversed(range(len(prompts))):
            yield index, self.respond(prompts[index], stop, decoding)

    def loglikelihood(self, pairs: Sequence[tuple[str, str]]) -> list[TokenLogProbs]:
        for prompt, text in pairs:
            self.check_length(prompt + text, 0)
        return [self.scored(prompt.encode(), text.encode()) for prompt, text in pairs]

    def check_length(self, text: str, bound: int) -> None:
        if self.count_tokens(text) + bound > self.context_length:
            raise ContextOverflowError(f"more than {self.context_length} bytes")

    def respond(self, prompt: str, stop: Sequence[str], decoding: Decoding) -> Response:
        stream = hashlib.sha256(f"{decoding.seed}\0{prompt}".encode()).digest()
        dice = random.Random(stream)
        before, new = prompt.encode(), b""
        while len(new) < decoding.max_tokens:
            weights = self.weights(before + new)
            if decoding.temperature:
                (token,) = dice.choices(range(256), weights)
            else:
                token = max(range(256), key=lambda at: weights[at])
            new += bytes([token])
            cuts = [self.text(new).index(mark) for mark in stop if mark in self.text(new)]
            if cuts:
                return Response(
                    self.text(new)[: min(cuts)], len(new), "stop", prompt_tokens=len(before)
                )
        return Response(self.text(new), len(new), "length", prompt_tokens=len(before))

    def text(self, new: bytes) -> str:
        return new.decode(errors="replace")

    def weights(self, before: bytes) -> list[float]:
        """Probabilities of all bytes: the longest known context's counts, and a little for each."""
        known = (before[-order:] if order else b"" for order in range(_ORDER, -1, -1))
        counts = next(self._counts[context] for context in known if context in self._counts)
        total = sum(counts.values()) + 256 * _SMALL
        return [(counts[byte] + _SMALL) / total for byte in range(256)]

    def scored(self, before: bytes, text: bytes) -> TokenLogProbs:
        logprobs: list[float] = []
        ranks: list[int] = []
        for at, byte in enumerate(text):
            weights = self.judged(before + text[:at])
            logprobs.append(math.log(weights[byte]))
            ranks.append(1 + sum(other > weights[byte] for other in weights))
        return TokenLogProbs(tuple(text), tuple(logprobs), tuple(ranks), len(before))

    def judged(self, before: bytes) -> list[float]:
        """The probabilities that scoring goes by: those of decoding."""
        return self.weights(before)
