"""What an engine can do, found out by trying: before a sweep is started on it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from icl_align.assemble import build_engine
from icl_align.config import Experiment, Model
from icl_align.engines import ContextOverflowError, Engine, Scoring, Streaming, Tokenizing
from icl_align.errors import UserError
from icl_align.types import Decoding, Response

if TYPE_CHECKING:
    from icl_align.engines._server_probe import Listing
    from icl_align.engines.openai import OpenAIEngine

Verdict = Literal["ok", "no", "wrong"]
"""It works; it is not there, which may not matter; it is there and must not be relied on."""

_PREFIX = (
    "# Instruction\n\nBelow are questions and answers. Answers are short, true and kind.\n\n"
    + "".join(
        f"# Query:\n```\nWhat is {a} and {b}?\n```\n\n# Answer:\n```\n{a} and {b} is {a + b}.\n```\n\n"
        for a, b in ((1, 2), (3, 4), (5, 1), (2, 7), (8, 4), (6, 6))
    )
)
_QUERIES = (
    *("What is the symbol of gold?", "Who are you?", "What is the capital of Japan?", "Say hello."),
    *("Name a fruit.", "How are you?", "What is 2 and 2?", "Why is the sky blue?"),
    *("Name a colour.", "What is water?", "Who wrote Hamlet?", "Name a river."),
    *("What is a noun?", "Name a bird.", "What is iron?", "Name a city."),
)
PROMPTS = tuple(f"{_PREFIX}# Query:\n```\n{query}\n```\n\n# Answer:\n```\n" for query in _QUERIES)
_BOUND = 24


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried.

    Attributes:
        check: What.
        verdict: How it went.
        found: What was seen, in words or numbers.
        remedy: What to do about it; empty where nothing needs doing.
    """

    check: str
    verdict: Verdict
    found: str
    remedy: str = ""


def engine_of(
    experiment: Experiment, engine: str | None, model: str | None, base_url: Sequence[str]
) -> Engine:
    """The engine to be examined: an experiment's, with what is given instead.

    Raises:
        UserError: it cannot be made.
    """
    table = experiment.model
    changes: dict[str, Any] = {}
    if engine is not None and engine != table.engine:
        changes |= {"engine": engine, "options": {}}
    if model is not None:
        changes["id"] = model
    if base_url:
        changes["options"] = {
            **(changes.get("options", table.options)),
            "base_url": list(base_url),
        }
    if changes.get("engine", table.engine) == "openai":  # who asks wants to know soon
        changes["options"] = {"attempts": 3, **changes.get("options", table.options)}
    changed = Model.model_construct(**{**dict(table), **changes})
    return build_engine(experiment.model_copy(update={"model": changed}))


def examine(engine: Engine) -> Iterator[Finding]:
    """Tries an engine, finding by finding; the first one loads the model or reaches the server.

    Raises:
        UserError: the engine cannot do anything at all.
    """
    start = time.perf_counter()
    greedy = Decoding(max_tokens=_BOUND)
    try:
        (first,) = engine.generate(PROMPTS[:1], stop=(), decoding=greedy)
    except ContextOverflowError as error:
        remedy = "these prompts have seven short turns; use a longer context or another model"
        yield Finding("context", "wrong", str(error), remedy)
        return
    seconds = time.perf_counter() - start
    yield Finding("answers", "ok", f"{engine.name}, first response after {seconds:.1f} s")
    yield from _built(engine)
    if isinstance(engine, Tokenizing):
        sized = f"{engine.context_length} tokens; these prompts have {first.prompt_tokens}"
        yield Finding("context", "ok", sized)
    else:
        yield Finding(
            "context",
            "no",
            "the engine cannot count tokens",
            "too long prompts are found out by the server; give tokenizer and context_length",
        )
    yield from _texts(engine, greedy)
    yield from _sampling(engine)
    yield _scoring(engine)
    yield from _server(engine)
    yield from _speed(engine, greedy)


def _built(engine: Engine) -> Iterator[Finding]:
    """How an engine of this process runs its model."""
    if hasattr(engine, "strategy"):
        import torch

        model = engine._model  # type: ignore[attr-defined]  # noqa: SLF001 (a look inside is the point)
        where = f"{model.device}, {str(model.dtype).removeprefix('torch.')}"
        if model.device.type == "cpu":
            where += f", {torch.get_num_threads()} threads"
        packed = engine.strategy == "packed"
        yield Finding(
            "strategy",
            "ok" if packed else "no",
            f"{engine.strategy} on {where}",
            ""
            if packed
            else "this architecture's prefixes cannot be stored once; expect less speed",
        )


def _texts(engine: Engine, greedy: Decoding) -> Iterator[Finding]:
    """Whether greedy text can be relied on."""
    few = PROMPTS[:4]
    whole = _said(engine.generate(few, stop=(), decoding=greedy))
    again = _said(engine.generate(few, stop=(), decoding=greedy))
    alone = [_said(engine.generate([prompt], stop=(), decoding=greedy))[0] for prompt in few]
    same = sum(a == b for a, b in zip(whole, again, strict=True))
    yield Finding(
        "repeatable",
        "ok" if same == len(few) else "wrong",
        f"{same} of {len(few)} greedy responses are the same when asked again",
        ""
        if same == len(few)
        else "a study cannot be repeated on it; use float32, or fewer at once",
    )
    same = sum(a == b for a, b in zip(whole, alone, strict=True))
    yield Finding(
        "batch mates",
        "ok" if same == len(few) else "no",
        f"{same} of {len(few)} greedy responses are the same when asked alone",
        "" if same == len(few) else "usual in bfloat16: text then depends a little on its batch",
    )
    text = max(whole, key=len)
    mark = text[len(text) // 2 :][:3]
    if not mark:
        yield Finding("stop strings", "no", "not tried: the model says nothing to these prompts")
    else:
        (cut,) = engine.generate([few[whole.index(text)]], stop=(mark,), decoding=greedy)
        right = cut.text == text[: text.index(mark)]
        yield Finding(
            "stop strings", "ok" if right else "wrong", f"text ends before {mark!r}: {right}"
        )
    (odd,) = engine.generate(["Grüße, 你好 🙂 é"], stop=(), decoding=Decoding(max_tokens=4))
    yield Finding("unicode", "ok", f"accepted; {odd.prompt_tokens} prompt tokens")


def _sampling(engine: Engine) -> Iterator[Finding]:
    """Whether sampling follows its seed."""

    def said(seed: int) -> list[str]:
        decoding = Decoding(temperature=1.0, max_tokens=_BOUND, seed=seed)
        return _said(engine.generate(PROMPTS[:4], stop=(), decoding=decoding))

    try:
        first, again, other = said(0), said(0), said(1)
    except UserError as error:
        yield Finding("sampling", "no", str(error), "search with temperature 0")
        return
    plain = _said(engine.generate(PROMPTS[:4], stop=(), decoding=Decoding(max_tokens=_BOUND)))
    if first == other == plain:
        yield Finding(
            "sampling", "wrong", "temperature changes nothing", "search with temperature 0"
        )
    elif first != again:
        remedy = "search with temperature 0, or with one request at a time (concurrency = 1)"
        yield Finding("seeds", "wrong", "the same seed gives other text", remedy)
    elif first == other:
        yield Finding(
            "seeds", "wrong", "other seeds give the same text", "search with temperature 0"
        )
    else:
        yield Finding("seeds", "ok", "the same seed gives the same text, another one another")


def _scoring(engine: Engine) -> Finding:
    """Whether texts can be scored."""
    remedy = "needed by token-distribution shift and likelihood scores only; the engine hf has it"
    if not isinstance(engine, Scoring):
        return Finding("loglikelihood", "no", "the engine has none", remedy)
    try:
        (found,) = engine.loglikelihood([(PROMPTS[0], "Gold is Au.")])
    except UserError as error:
        return Finding("loglikelihood", "no", str(error), remedy)
    return Finding(
        "loglikelihood", "ok", f"{sum(found.logprobs):.1f} for {len(found.tokens)} tokens"
    )


def _server(engine: Engine) -> Iterator[Finding]:
    """What a completion server does with settings: many take them and do nothing."""
    if not hasattr(engine, "urls"):
        return
    from icl_align.engines import _server_probe

    server: OpenAIEngine = engine  # type: ignore[assignment]
    said = _server_probe.each_server(server, PROMPTS[0])
    for url, error in said.items():
        if isinstance(error, UserError):
            yield Finding("server", "wrong", str(error), f"start it, or leave {url} out")
    texts = {url: text for url, text in said.items() if isinstance(text, str)}
    same = len(set(texts.values())) == 1
    yield Finding(
        "servers",
        "ok" if same else "wrong",
        ", ".join(texts) if same else f"they do not say the same: {texts}",
        "" if same else "see that all serve the same model, revision and dtype",
    )
    yield _listed(server, _server_probe.listing(server))
    several = len(_server_probe.choices(server, {"prompt": PROMPTS[0], "n": 2, "temperature": 1}))
    yield Finding("n", "ok" if several == 2 else "no", f"n = 2 gives {several} choices")  # noqa: PLR2004
    for name, more in (("logprobs", {"logprobs": 1}), ("echo", {"echo": True, "logprobs": 1})):
        found = _server_probe.choices(server, {"prompt": PROMPTS[0], **more})
        choice = found[0] if found else {}
        there = bool(choice.get("logprobs"))
        if name == "echo":
            there = there and str(choice.get("text", "")).startswith(PROMPTS[0])
        yield Finding(
            name, "ok" if there else "no", "given" if there else "silently ignored, or refused"
        )


def _listed(server: OpenAIEngine, found: Listing) -> Finding:
    """Whether the context length given is the server's."""
    ours, theirs = getattr(server, "context_length", None), found.context_length
    if ours is not None and theirs is not None and ours > theirs:
        seen = f"its context has {theirs} tokens and the option context_length says {ours}"
        return Finding("models", "wrong", seen, f"set context_length to {theirs}")
    if not found.names:
        return Finding("models", "no", "the server does not list any")
    sized = "" if theirs is None else f"; the context has {theirs} tokens"
    return Finding("models", "ok", ", ".join(found.names) + sized)


def _speed(engine: Engine, greedy: Decoding) -> Iterator[Finding]:
    """Responses a second, one at a time and together; and what a known prefix spares."""
    fresh = [f"[{time.time_ns()}] {prompt}" for prompt in PROMPTS]
    start = time.perf_counter()
    engine.generate(fresh[:1], stop=(), decoding=greedy)
    cold = time.perf_counter() - start
    head = fresh[0].removesuffix(PROMPTS[0])
    start = time.perf_counter()
    (two,) = engine.generate([head + PROMPTS[1]], stop=(), decoding=greedy)
    warm = time.perf_counter() - start
    share = two.reused_tokens / two.prompt_tokens if two.prompt_tokens else 0.0
    yield Finding(
        "prefix reuse",
        "ok" if share else "no",
        f"{share:.0%} of the second prompt's tokens; {cold:.2f} s, then {warm:.2f} s",
        "" if share else "none was reported; with vLLM see that prefix caching is on",
    )
    start = time.perf_counter()
    found = engine.generate([head + prompt for prompt in PROMPTS], stop=(), decoding=greedy)
    seconds = time.perf_counter() - start
    tokens = sum(response.tokens for response in found)
    one = f"alone {1 / cold:,.1f} responses/s"
    rate = f"{len(found) / seconds:,.1f} responses/s, {tokens / seconds:,.0f} tokens/s"
    how = "streams them" if isinstance(engine, Streaming) else "gives them all at once"
    yield Finding("speed", "ok", f"{one}; {len(found)} together: {rate}; {how}")


def _said(responses: Sequence[Response]) -> list[str]:
    return [response.text for response in responses]
