"""What every engine promises; the promises of engines that stream or score texts included."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from icl_align.engines import Engine, Scoring, Streaming, Tokenizing
from icl_align.errors import UserError
from icl_align.testing._context import check_context
from icl_align.testing._likelihood import check_likelihood
from icl_align.testing._same import Agreement
from icl_align.testing._stop import check_stop
from icl_align.types import Decoding, Response

PROMPTS = (
    "One, two, three,",
    "The sea is blue and the sky is",
    "One, two, three, four, five, six, seven, eight,",
    "Zebras",
    "An old man walked slowly down the long road to town, and then",
    "What a day! 🙂🎉",
    "北京是中国的",
    "Cafe\u0301, nai\u0308ve, 👩\u200d👩\u200d👧",
)
"""What `check_engine` continues unless told otherwise: several lengths, some starting alike, with
characters of several bytes, combining marks and joined emoji."""

_FEWEST = 3
_GREEDY = Decoding(max_tokens=12)


def check_engine(
    make_engine: Callable[[], Engine],
    prompts: Sequence[str] = PROMPTS,
    *,
    agreement: float = 1.0,
    samples: bool = True,
    scores: bool = True,
    whole_characters: bool = False,
) -> None:
    """Checks what every engine promises, and what one that streams, counts or scores does too.

    Args:
        make_engine: Makes a fresh engine.
        prompts: At least three different prompts whose continuations are not empty.
        agreement: Least share of texts that must stay the same between calls, orders and batches,
            in (0, 1]. Below float32 (bfloat16, say) the arithmetic of a batch changes some texts;
            state the share you rely on.
        samples: False for an engine that cannot sample; it must refuse a temperature above 0.
        scores: False for an engine that has `loglikelihood` but, as with some servers, nobody who
            answers it; it must refuse.
        whole_characters: True where the model is known to say whole characters only, as a trained
            one does: a U+FFFD in its text is then the engine's fault.

    Raises:
        AssertionError: naming the promise that was broken.
    """
    assert len(set(prompts)) >= _FEWEST, f"give at least {_FEWEST} different prompts"
    assert 0 < agreement <= 1, f"agreement must be in (0, 1], got {agreement}"
    same = Agreement(agreement)
    engine = make_engine()
    assert engine.fingerprint == make_engine().fingerprint, (
        "two engines alike have different fingerprints"
    )
    assert engine.generate([], stop=(), decoding=_GREEDY) == [], "no prompts must give no responses"
    responses = engine.generate(prompts, stop=(), decoding=_GREEDY)
    assert len(responses) == len(prompts), "each prompt must have one response"
    _check_responses(responses, _GREEDY)
    texts = [response.text for response in responses]
    _check_characters(texts, whole=whole_characters)
    _check_batches(engine, prompts, texts, same)
    _check_counts(engine, prompts, responses)
    check_stop(engine, prompts, texts, _GREEDY, same)
    _check_bound(engine, prompts, responses, same, whole_characters=whole_characters)
    _check_one_token(engine)
    if samples:
        _check_seeds(engine, prompts, texts, same)
    else:
        sampled = Decoding(temperature=1.0, max_tokens=2)
        _check_refusal(
            lambda: engine.generate(prompts[:1], stop=(), decoding=sampled),
            "an engine that cannot sample must refuse a temperature above 0",
        )
    if isinstance(engine, Streaming):
        _check_stream(engine, prompts, texts, same)
    if isinstance(engine, Tokenizing):
        check_context(engine, prompts[0], scores=scores)
    if isinstance(engine, Scoring) and scores:
        check_likelihood(engine, prompts, exact=agreement == 1)
    elif isinstance(engine, Scoring):
        pairs = [(prompts[0], " a")]
        _check_refusal(
            lambda: engine.loglikelihood(pairs), "an engine that cannot score must refuse to"
        )


def _texts(engine: Engine, prompts: Sequence[str], decoding: Decoding = _GREEDY) -> list[str]:
    return [r.text for r in engine.generate(prompts, stop=(), decoding=decoding)]


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


def _check_counts(engine: Engine, prompts: Sequence[str], responses: Sequence[Response]) -> None:
    """What a response says about its prompt is what the engine counts; 0 says nothing."""
    if not isinstance(engine, Tokenizing):
        return
    for prompt, response in zip(prompts, responses, strict=True):
        counted = engine.count_tokens(prompt)
        assert response.prompt_tokens in (0, counted), (
            f"prompt_tokens is {response.prompt_tokens} where count_tokens says {counted}"
        )


def _check_characters(texts: Sequence[str], *, whole: bool) -> None:
    """Text must be text: encodable, and characters whose bytes came in several tokens put together."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise AssertionError(f"a text that cannot be encoded as UTF-8: {text!r}") from error
        inside = text.rstrip("\ufffd")  # the bound may cut a character in two
        assert not whole or "\ufffd" not in inside, (
            f"characters whose bytes come in several tokens must be put together: {text!r}"
        )


def _check_batches(
    engine: Engine, prompts: Sequence[str], texts: Sequence[str], same: Agreement
) -> None:
    same.check(_texts(engine, prompts), texts, "greedy decoding must be repeatable")
    same.check(
        _texts(engine, prompts[::-1])[::-1],
        texts,
        "a response must follow its prompt, whatever the order",
    )
    alone = [_texts(engine, [prompt])[0] for prompt in prompts]
    same.check(alone, texts, "a response must not depend on its batch mates")
    many = [*prompts, *(f"{prompt} {prompts[0]}" for prompt in prompts), *prompts]
    found = _texts(engine, many)
    same.check(
        [*found[: len(prompts)], *found[-len(prompts) :]],
        [*texts, *texts],
        "a response must not depend on the batch size",
    )


def _check_bound(
    engine: Engine,
    prompts: Sequence[str],
    whole: Sequence[Response],
    same: Agreement,
    *,
    whole_characters: bool,
) -> None:
    """A tighter bound gives the beginning of the same text, all of its tokens used."""
    for bound in (3, 1):
        decoding = Decoding(max_tokens=bound)
        found = engine.generate(prompts, stop=(), decoding=decoding)
        _check_responses(found, decoding)
        _check_characters([response.text for response in found], whole=whole_characters)
        # the bound may cut a character in two
        beginnings = [response.text.rstrip("\ufffd") for response in found]
        same.check(
            beginnings,
            [full.text[: len(start)] for start, full in zip(beginnings, whole, strict=True)],
            "a lower max_tokens must give the beginning of the same text",
        )
        for start, full in zip(beginnings, whole, strict=True):
            assert full.tokens <= bound + 1 or not full.text or start != full.text, (
                f"max_tokens is {bound} and the text is as long as that of {full.tokens} tokens"
            )


def _check_one_token(engine: Engine) -> None:
    """The shortest prompt there is has nothing before it to share or to skip."""
    found = engine.generate(["a"], stop=(), decoding=_GREEDY)
    assert len(found) == 1, "a prompt of one token must have one response"
    _check_responses(found, _GREEDY)
    _check_counts(engine, ["a"], found)


def _check_seeds(
    engine: Engine, prompts: Sequence[str], greedy: Sequence[str], same: Agreement
) -> None:
    """Seeds must matter to an engine that samples, and be all that matters."""

    def sampled(seed: int, given: Sequence[str] = prompts) -> list[str]:
        return _texts(engine, given, Decoding(temperature=1.0, max_tokens=12, seed=seed))

    try:
        first = sampled(0)
    except UserError as error:
        raise AssertionError(
            f"the engine does not sample ({error}); if it cannot, check it with samples=False"
        ) from error
    same.check(sampled(0), first, "the same seed must give the same text")
    same.check(
        sampled(0, prompts[::-1])[::-1], first, "a sampled response must not depend on the order"
    )
    same.check(
        [sampled(0, [prompt])[0] for prompt in prompts],
        first,
        "a sampled response must not depend on batch mates",
    )
    varied = any(sampled(seed) != list(greedy) for seed in range(1, 6))
    assert not varied or any(sampled(seed) != first for seed in range(1, 6)), (
        "other seeds must give other text"
    )


def _check_refusal(call: Callable[[], object], promise: str) -> None:
    try:
        call()
    except UserError:
        return
    raise AssertionError(promise)


def _check_stream(
    engine: Streaming, prompts: Sequence[str], texts: Sequence[str], same: Agreement
) -> None:
    """The stream gives what `generate` gives, each response once."""
    assert list(engine.stream([], stop=(), decoding=_GREEDY)) == [], (
        "no prompts must give an empty stream"
    )
    pairs = list(engine.stream(prompts, stop=(), decoding=_GREEDY))
    indices = sorted(index for index, _ in pairs)
    assert indices == list(range(len(prompts))), (
        f"the stream must give each index once, it gave {indices}"
    )
    found = {index: response.text for index, response in pairs}
    same.check(
        [found[index] for index in range(len(prompts))],
        texts,
        "the stream must give the responses of generate",
    )
