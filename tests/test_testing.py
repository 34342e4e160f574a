"""The contract suites have teeth: each broken part is refused for its own reason."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from icl_align.engines.scripted import ScriptedEngine
from icl_align.testing import PROMPTS, check_engine, check_scorer
from icl_align.types import Decoding, Example, Response, Score


def story(prompt: str) -> str:
    return f" once {len(prompt)} upon a time there were {prompt[:3]} and more and more and more words to say"


class Broken(ScriptedEngine):
    """A scripted engine whose responses another function spoils."""

    def __init__(
        self, spoil: Callable[[list[Response], Sequence[str], Decoding], list[Response]]
    ) -> None:
        super().__init__(story)
        self.spoil = spoil

    def generate(
        self, prompts: Sequence[str], *, stop: Sequence[str], decoding: Decoding
    ) -> list[Response]:
        return self.spoil(super().generate(prompts, stop=stop, decoding=decoding), stop, decoding)


_counter = itertools.count()


def edit(change: Callable[[Response], Response]) -> Callable[..., list[Response]]:
    return lambda found, _stop, _decoding: [change(response) for response in found]


BROKEN = {
    "each prompt must have one response": lambda found, _s, _d: found[:1],
    "a response must follow its prompt": lambda found, _s, _d: sorted(found, key=lambda r: r.text),
    "greedy decoding must be repeatable": edit(
        lambda r: replace(r, text=f"{r.text} {next(_counter)}")
    ),
    "must not depend on its batch mates": lambda found, _s, _d: [
        replace(r, text=r.text + "!" * (len(found) > 1)) for r in found
    ],
    "must not depend on the batch size": lambda found, _s, _d: [
        replace(r, text=r.text + "!" * (len(found) > len(PROMPTS))) for r in found
    ],
    "must end before the first stop string": lambda found, stop, _d: [
        replace(r, text=r.text + stop[0]) if stop else r for r in found
    ],
    "that a stop string ended must say so": lambda found, stop, _d: [
        replace(r, finish="length", tokens=12) if stop else r for r in found
    ],
    "max_tokens is 12": edit(lambda r: replace(r, tokens=r.tokens + 9)),
    "finish 'length' means": edit(lambda r: replace(r, finish="length", tokens=2)),
    "finish is 'error'": edit(lambda r: replace(r, finish="error", error="gone")),
    "the same seed must give the same text": lambda found, _s, decoding: [
        replace(r, text=f"{r.text} {next(_counter)}") if decoding.temperature else r for r in found
    ],
    "other seeds must give other text": lambda found, _s, decoding: [
        replace(r, text=f"{r.text} sampled") if decoding.temperature else r for r in found
    ],
    "must give the beginning of the same text": lambda found, _s, decoding: [
        replace(r, text=r.text[::-1]) if decoding.max_tokens == 3 else r for r in found
    ],
    "no prompts must give no responses": lambda found, _s, _d: found or [Response("", 0, "stop")],
}


def test_the_scripted_engine_keeps_the_contract() -> None:
    """The suite passes on an engine that keeps it."""
    check_engine(lambda: ScriptedEngine(story))


@pytest.mark.parametrize("reason", BROKEN)
def test_a_broken_engine_is_refused_for_its_own_reason(reason: str) -> None:
    """Each broken promise is named."""
    with pytest.raises(AssertionError, match=reason):
        check_engine(lambda: Broken(BROKEN[reason]))


class Boundless(ScriptedEngine):
    """Says that it keeps the bound, and does not."""

    def generate(
        self, prompts: Sequence[str], *, stop: Sequence[str], decoding: Decoding
    ) -> list[Response]:
        found = super().generate(prompts, stop=stop, decoding=replace(decoding, max_tokens=12))
        return [replace(r, tokens=min(r.tokens, decoding.max_tokens)) for r in found]


class Rereading(ScriptedEngine):
    """Looks for stop strings in the prompt as well."""

    def generate(
        self, prompts: Sequence[str], *, stop: Sequence[str], decoding: Decoding
    ) -> list[Response]:
        found = super().generate(prompts, stop=stop, decoding=decoding)
        pairs = zip(prompts, found, strict=True)
        return [replace(r, text="") if any(s in p for s in stop) else r for p, r in pairs]


@pytest.mark.parametrize(
    ("engine", "reason"),
    [
        (Boundless, "max_tokens is 3 and the text is as long"),
        (Rereading, "stop strings must not be looked for in the prompt"),
    ],
)
def test_an_engine_that_misreads_its_request_is_refused(
    engine: type[ScriptedEngine], reason: str
) -> None:
    """Bounds and stop strings are about generated text."""
    with pytest.raises(AssertionError, match=reason):
        check_engine(lambda: engine(story))


def test_the_suite_wants_different_prompts() -> None:
    """With one prompt hardly a promise can be seen broken."""
    with pytest.raises(AssertionError, match="give at least 3 different prompts"):
        check_engine(lambda: ScriptedEngine(story), ["a", "a", "a"])


def test_an_engine_that_overflows_silently_is_refused() -> None:
    """A context that does not hold the request must be told."""

    class Silent(ScriptedEngine):
        @property
        def context_length(self) -> int:
            return 64

    with pytest.raises(AssertionError, match="must raise ContextOverflowError"):
        check_engine(lambda: Silent(story))


class Words:
    """Scores the number of words, up to ten."""

    name = "words"
    fingerprint = "words:1"

    def score(self, examples: Sequence[Example], responses: Sequence[Response]) -> list[Score]:
        return [self.grade(r, len(examples)) for r in responses]

    def grade(self, response: Response, _batch: int) -> Score:
        return Score(min(1.0, len(response.text.split()) / 10))


class Batchy(Words):
    def grade(self, response: Response, batch: int) -> Score:
        return Score(0.1 * batch if response.text else 0.0)


class Generous(Words):
    def grade(self, response: Response, _batch: int) -> Score:
        return Score(0.5)


class Mute(Words):
    def grade(self, response: Response, _batch: int) -> Score:
        return Score(None)


EXAMPLES = [Example("a?"), Example("b?")]
RESPONSES = [Response("one two", 2, "stop"), Response("one", 1, "stop")]


def test_a_good_scorer_passes() -> None:
    """The suite passes on a scorer that keeps the contract."""
    check_scorer(Words, EXAMPLES, RESPONSES)


@pytest.mark.parametrize(
    ("scorer", "reason"),
    [
        (Batchy, "must not depend on the other responses"),
        (Generous, "must not earn anything"),
        (Mute, "a missing verdict needs a reason"),
    ],
)
def test_a_broken_scorer_is_refused(scorer: type[Words], reason: str) -> None:
    """Each broken promise is named."""
    with pytest.raises(AssertionError, match=reason):
        check_scorer(scorer, EXAMPLES, RESPONSES)
