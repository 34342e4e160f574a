"""Public contract suites: prove your own engine or scorer with the tests that ours pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from icl_align.engines import ContextOverflowError, Engine, Tokenizing
from icl_align.scorers import Scorer
from icl_align.types import Decoding, Example, Response

PROMPTS = (
    "One, two, three,",
    "The sea is blue and the sky is",
    "One, two, three, four, five, six, seven, eight,",
    "Zebras",
    "An old man walked slowly down the long road to town, and then",
)
"""What `check_engine` continues unless told otherwise: several lengths, some starting alike."""

_FEWEST = 3
_TOLERANCE = 1e-5


def check_engine(make_engine: Callable[[], Engine], prompts: Sequence[str] = PROMPTS) -> None:
    """Checks what every engine promises.

    Args:
        make_engine: Makes a fresh engine.
        prompts: At least three different prompts whose continuations are not empty.

    Raises:
        AssertionError: naming the promise that was broken.
    """
    assert len(set(prompts)) >= _FEWEST, f"give at least {_FEWEST} different prompts"
    engine = make_engine()
    greedy = Decoding(max_tokens=12)

    def texts(
        given: Sequence[str], decoding: Decoding = greedy, stop: Sequence[str] = ()
    ) -> list[str]:
        return [r.text for r in engine.generate(given, stop=stop, decoding=decoding)]

    assert engine.fingerprint == make_engine().fingerprint, (
        "two engines alike have different fingerprints"
    )
    assert engine.generate([], stop=(), decoding=greedy) == [], "no prompts must give no responses"
    responses = engine.generate(prompts, stop=(), decoding=greedy)
    assert len(responses) == len(prompts), "each prompt must have one response"
    _check_responses(responses, greedy)
    whole = [response.text for response in responses]
    assert texts(prompts) == whole, "greedy decoding must be repeatable"
    assert texts(prompts[::-1]) == whole[::-1], (
        "a response must follow its prompt, whatever the order"
    )
    alone = [texts([prompt])[0] for prompt in prompts]
    assert alone == whole, "a response must not depend on its batch mates"
    assert texts([*prompts, *prompts]) == whole * 2, "a response must not depend on the batch size"
    _check_stop(engine, prompts, whole, greedy)
    _check_bound(engine, prompts, responses)
    _check_seeds(engine, prompts)
    if isinstance(engine, Tokenizing):
        _check_context(engine, prompts[0])


def _check_responses(responses: Sequence[Response], decoding: Decoding) -> None:
    for response in responses:
        assert response.finish in ("stop", "length"), (
            f"finish is {response.finish!r}: {response.error}"
        )
        assert 0 <= response.tokens <= decoding.max_tokens, (
            f"max_tokens is {decoding.max_tokens}, {response.tokens} tokens were generated"
        )
        assert response.finish == "stop" or response.tokens == decoding.max_tokens, (
            "finish 'length' means that all of max_tokens was used"
        )
        assert response.reused_tokens <= response.prompt_tokens, (
            "more tokens reused than the prompt has"
        )


def _check_stop(
    engine: Engine, prompts: Sequence[str], whole: Sequence[str], decoding: Decoding
) -> None:
    """Takes a piece out of the middle of each continuation as its stop string."""
    for prompt, text in zip(prompts, whole, strict=True):
        middle = len(text) // 2
        for mark in (text[middle : middle + 1], text[middle : middle + 3]):
            if not mark:
                continue
            (response,) = engine.generate([prompt], stop=(mark, "\0never\0"), decoding=decoding)
            assert response.text == text[: text.index(mark)], (
                f"the response must end before the first stop string {mark!r}: "
                f"{response.text!r} of {text!r}"
            )
            assert response.finish == "stop", "a response that a stop string ended must say so"
        if prompt not in text:
            (response,) = engine.generate([prompt], stop=(prompt,), decoding=decoding)
            assert response.text == text, "stop strings must not be looked for in the prompt"


def _check_bound(engine: Engine, prompts: Sequence[str], whole: Sequence[Response]) -> None:
    """A tighter bound gives the beginning of the same text."""
    bound = 3
    found = engine.generate(prompts, stop=(), decoding=Decoding(max_tokens=bound))
    for short, full in zip(found, whole, strict=True):
        beginning = short.text.rstrip("\ufffd")  # the bound may cut a character in two
        assert full.text.startswith(beginning), (
            f"a lower max_tokens must give the beginning of the same text: {short.text!r}"
        )
        assert full.tokens <= bound + 1 or len(beginning) < len(full.text), (
            f"max_tokens is {bound} and the text is as long as that of {full.tokens} tokens"
        )


def _check_seeds(engine: Engine, prompts: Sequence[str]) -> None:
    """Seeds must matter to an engine that samples, and be all that matters."""

    def sampled(seed: int, given: Sequence[str] = prompts) -> list[str]:
        decoding = Decoding(temperature=1.0, max_tokens=12, seed=seed)
        return [r.text for r in engine.generate(given, stop=(), decoding=decoding)]

    first = sampled(0)
    assert sampled(0) == first, "the same seed must give the same text"
    assert sampled(0, prompts[::-1]) == first[::-1], (
        "a sampled response must not depend on the order"
    )
    assert [sampled(0, [p])[0] for p in prompts] == first, (
        "a sampled response must not depend on batch mates"
    )
    greedy = [r.text for r in engine.generate(prompts, stop=(), decoding=Decoding(max_tokens=12))]
    varied = any(sampled(seed) != greedy for seed in range(1, 6))
    assert not varied or any(sampled(seed) != first for seed in range(1, 6)), (
        "other seeds must give other text"
    )


def _check_context(engine: Engine, prompt: str) -> None:
    assert isinstance(engine, Tokenizing)
    room = engine.context_length - engine.count_tokens(prompt)
    try:
        engine.generate([prompt], stop=(), decoding=Decoding(max_tokens=room + 1))
    except ContextOverflowError:
        return
    raise AssertionError(
        "a prompt and bound that do not fit the context must raise ContextOverflowError"
    )


def check_scorer(
    make_scorer: Callable[[], Scorer], examples: Sequence[Example], responses: Sequence[Response]
) -> None:
    """Checks what every scorer promises.

    Args:
        make_scorer: Makes a fresh scorer.
        examples: Examples it can grade.
        responses: One response each.

    Raises:
        AssertionError: naming the promise that was broken.
    """
    scorer = make_scorer()
    assert scorer.fingerprint == make_scorer().fingerprint, (
        "two scorers alike have different fingerprints"
    )
    assert scorer.score([], []) == [], "no responses must give no scores"
    scores = scorer.score(examples, responses)
    assert len(scores) == len(responses), "each response must have one score"
    for score in scores:
        assert score.value is not None or score.note, "a missing verdict needs a reason"
        assert all(0 <= value <= 1 for value in score.aspects.values()), "aspects must be in [0, 1]"
    values = [score.value for score in scores]
    again = [score.value for score in scorer.score(examples, responses)]
    assert _close(values, again), "scores must be repeatable"
    backwards = [score.value for score in scorer.score(examples[::-1], responses[::-1])]
    assert _close(values, backwards[::-1]), "a score must not depend on the order"
    single = [scorer.score([e], [r])[0].value for e, r in zip(examples, responses, strict=True)]
    assert _close(values, single), "a score must not depend on the other responses"
    blank = replace(responses[0], text="", tokens=0)
    (empty,) = scorer.score(examples[:1], [blank])
    assert empty.value in (None, 0.0), "an answer without text must not earn anything"


def _close(a: Sequence[float | None], b: Sequence[float | None]) -> bool:
    return all(
        (x is None and y is None) or (x is not None and y is not None and abs(x - y) < _TOLERANCE)
        for x, y in zip(a, b, strict=True)
    )
