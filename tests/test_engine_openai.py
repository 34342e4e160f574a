"""Engine `openai`: every response arrives, once, from servers that fail; a real server keeps the contract."""

from __future__ import annotations

import importlib.util
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from servers import FAULTS, ODD, CompletionServer, completion, transformers_serve

from icl_align.assemble import build_engine
from icl_align.config import Experiment
from icl_align.engines import ContextOverflowError, Scoring, Streaming, Tokenizing
from icl_align.engines.hf import HFEngine
from icl_align.engines.openai import OpenAIEngine, connect
from icl_align.errors import UserError
from icl_align.evaluate import EngineEvaluator
from icl_align.ledger import Ledger, sqlite_url
from icl_align.models import bundled
from icl_align.prompt import FORMATS, Prompt
from icl_align.testing import check_engine
from icl_align.types import Decoding, Example, Response, Score

GREEDY = Decoding(max_tokens=20)
PROMPTS = [f"Say the number {i} to me" for i in range(60)]


@pytest.fixture
def server() -> Iterator[CompletionServer]:
    """A server that does not fail unless told to."""
    made = CompletionServer()
    yield made
    made.stop()


def quick(*servers: CompletionServer, **options: Any) -> OpenAIEngine:
    """An engine that does not wait long."""
    options = {"timeout_s": 1.0, "backoff_s": 0.002, "attempts": 12, **options}
    return connect("m", base_url=[s.url for s in servers], **options)


def wanted(prompt: str) -> str:
    return str(completion({"prompt": prompt, "max_tokens": 20})["choices"][0]["text"])


@pytest.mark.parametrize("fault", [*FAULTS, *ODD, "any"])
def test_a_flaky_server_loses_and_doubles_nothing(fault: str) -> None:
    """With 20 % of requests failing, each prompt has its own response, accepted once, none invented."""
    faults = FAULTS if fault == "any" else (fault,)
    server = CompletionServer(share=0.2, faults=faults, seed=3)
    try:
        found = quick(server).generate(PROMPTS, stop=(), decoding=GREEDY)
    finally:
        server.stop()
    assert [r.text for r in found] == [wanted(prompt) for prompt in PROMPTS]
    assert server.answered == dict.fromkeys(PROMPTS, 1)
    assert sum(server.failed[fault] for fault in faults) >= 5


def test_requests_are_bounded_and_in_order(server: CompletionServer) -> None:
    """At most so many at once to a server, prompts that begin alike one after another, equal ones once."""
    server.slow_s = 0.02
    found = quick(server, concurrency=3).generate(
        [*reversed(PROMPTS), *PROMPTS[:5]], stop=(), decoding=GREEDY
    )
    assert [r.text for r in found[60:]] == [wanted(prompt) for prompt in PROMPTS[:5]]
    assert 1 < server.most <= 3
    asked = [body["prompt"] for body in server.requests]
    assert len(asked) == 60
    near = [abs(sorted(PROMPTS).index(prompt) - place) for place, prompt in enumerate(asked)]
    assert max(near) <= 3


def test_several_servers_share_the_work_and_one_may_die(server: CompletionServer) -> None:
    """All are used at once; a dead one is left aside while another lives."""
    other = CompletionServer()
    server.slow_s = other.slow_s = 0.01
    engine = quick(server, other, concurrency=2)
    engine.generate(PROMPTS, stop=(), decoding=GREEDY)
    assert min(len(server.requests), len(other.requests)) > 10
    other.stop()
    found = engine.generate([f"{p} again" for p in PROMPTS], stop=(), decoding=GREEDY)
    assert [r.text for r in found] == [wanted(f"{p} again") for p in PROMPTS]


@pytest.mark.parametrize("fault", ["gone", "500", "garbage", "reset", "nothing"])
@pytest.mark.parametrize("prompts", [PROMPTS[:1], PROMPTS], ids=["one", "many"])
def test_a_server_that_never_works_is_left_aside(
    server: CompletionServer, prompts: list[str], fault: str
) -> None:
    """Quick failures must not draw all requests to it while another one lives; few are tried there."""
    bad = CompletionServer(share=1.0, faults=(fault,))
    if fault == "gone":
        bad.stop()
    engine = quick(bad, server, attempts=4, concurrency=4, timeout_s=0.3, backoff_s=0.05)
    try:
        found = engine.generate(prompts, stop=(), decoding=GREEDY)
    finally:
        if fault != "gone":
            bad.stop()
    assert [r.text for r in found] == [wanted(prompt) for prompt in prompts]
    assert server.answered == dict.fromkeys(prompts, 1)
    assert len(bad.requests) <= 12


def test_a_dead_server_is_remembered(server: CompletionServer) -> None:
    """Not every call of an engine finds it out again, and another server is asked without a wait."""
    bad = CompletionServer(share=1.0, faults=("500",))
    engine = quick(bad, server, backoff_s=30.0)
    start = time.perf_counter()
    for prompt in PROMPTS[:5]:
        engine.generate([prompt], stop=(), decoding=GREEDY)
    assert time.perf_counter() - start < 5
    bad.stop()
    assert len(bad.requests) == 1


def test_a_server_that_comes_back_is_used_again(server: CompletionServer) -> None:
    """One request now and then looks whether it has."""
    other = CompletionServer(share=1.0, faults=("500",))
    server.slow_s = 0.02

    def reply(body: dict[str, Any]) -> Any:
        if sum(server.answered.values()) > 10:
            other.share = 0.0
        return completion(body)

    server.reply = reply
    quick(other, server, concurrency=2, backoff_s=0.01).generate(PROMPTS, stop=(), decoding=GREEDY)
    other.stop()
    assert sum(other.answered.values()) > 5


def test_a_busy_server_is_not_asked_at_once(server: CompletionServer) -> None:
    """Waiting 0 seconds, as it says, would use up the attempts within a moment."""
    server.share, server.faults = 1.0, ("429",)
    timer = threading.Timer(0.5, lambda: setattr(server, "share", 0.0))
    timer.start()
    (found,) = quick(server, attempts=8, backoff_s=0.05).generate(["a b"], stop=(), decoding=GREEDY)
    assert found.text == wanted("a b")
    assert len(server.requests) <= 6


def test_all_servers_gone_is_one_line_with_every_reason() -> None:
    """Within the attempts of one request."""
    gone, broken = CompletionServer(), CompletionServer(share=1.0, faults=("500",))
    gone.stop()
    with pytest.raises(UserError, match="no usable reply after 6 attempts") as caught:
        quick(gone, broken, attempts=6).generate(PROMPTS, stop=(), decoding=GREEDY)
    broken.stop()
    assert f"{gone.url}: ConnectError" in str(caught.value)
    assert f"{broken.url}: HTTP 500: busy" in str(caught.value)


class Words:
    """Scores the number of words."""

    name = fingerprint = "words"

    def score(self, examples: Sequence[Example], responses: Sequence[Response]) -> list[Score]:
        return [Score(len(r.text.split()) / 100) for r in responses]


def test_a_server_that_dies_is_one_error_and_the_run_resumes(tmp_path: Path) -> None:
    """What came before is recorded; when the server is back only the rest is asked for."""
    ledger = Ledger(sqlite_url(tmp_path / "run.db"))
    prompt = Prompt("Be kind.", (), FORMATS["block"], Decoding(max_tokens=20))
    examples = [Example(f"Question {i}?", id=str(i)) for i in range(40)]
    dying = CompletionServer()

    def reply(body: dict[str, Any]) -> Any:
        if sum(dying.answered.values()) > 15:
            dying.share, dying.faults = 1.0, ("reset",)
        return completion(body)

    dying.reply = reply
    engine = quick(dying, attempts=3, concurrency=2)
    with pytest.raises(
        UserError, match=r"no usable reply after 3 attempts, .*what has come is kept"
    ):
        EngineEvaluator(engine, Words(), ledger)(prompt, examples)
    dying.stop()
    back = CompletionServer()
    evaluator = EngineEvaluator(quick(back), Words(), ledger)
    assert all(score.value is not None for score in evaluator(prompt, examples))
    back.stop()
    assert len(back.requests) + len(dying.answered) == 40
    assert not set(back.answered) & set(dying.answered)


def test_nothing_listens() -> None:
    """One line that names the place and the remedy."""
    gone = CompletionServer()
    gone.stop()
    with pytest.raises(
        UserError, match=rf"attempts, the last time from {gone.url}: .*see that the server"
    ):
        quick(gone, attempts=2).generate(["a"], stop=(), decoding=GREEDY)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"status": 401, "error": "no key"}, "refuses the request: HTTP 401 .*no key"),
        ({"status": 404, "error": "no model m"}, "HTTP 404 .*no model m; a base_url usually ends"),
        ({"text": "x " * 30}, "gave 30 tokens where max_tokens is 20"),
        ({"echo": True}, "gives the prompt back"),
        ({"usage": None}, "does not say how many tokens"),
    ],
    ids=["key", "model", "bound", "echo", "usage"],
)
def test_what_asking_again_would_not_mend(
    server: CompletionServer, given: dict[str, Any], message: str
) -> None:
    """It is told at once, with what the server said."""

    def reply(body: dict[str, Any]) -> Any:
        text = body["prompt"] + " and so on" if given.get("echo") else given.get("text")
        found = completion(body, text)
        return {**found, "usage": None} if "usage" in given else found

    server.reply = reply
    if "status" in given:
        server.refusal = (given["status"], given["error"])
    with pytest.raises(UserError, match=message):
        quick(server).generate([PROMPTS[0]], stop=(), decoding=GREEDY)
    assert len(server.requests) == 1


def test_a_redirect_is_not_followed(server: CompletionServer) -> None:
    """The key must not go elsewhere."""
    server.share, server.faults = 1.0, ("moved",)
    ODD["moved"] = (307, {"location": "http://elsewhere/v1/completions"}, b"")
    with pytest.raises(UserError, match="HTTP 307 .*it is elsewhere: http://elsewhere/v1"):
        quick(server).generate(["a"], stop=(), decoding=GREEDY)
    del ODD["moved"]
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens",
        "The decoder prompt (length 5000) is longer than the maximum model length of 4096.",
        "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000",
        "the request exceeds the available context size, try increasing it",
        "Input length (5000 tokens) exceeds the maximum allowed length (4090 tokens).",
    ],
)
def test_refusals_of_long_prompts_are_known(server: CompletionServer, message: str) -> None:
    """In the words of vLLM, TGI, llama.cpp and SGLang; a sweep then goes on with other points."""
    server.refusal = (400, message)
    with pytest.raises(ContextOverflowError, match="HTTP 400"):
        quick(server).generate(["a"], stop=(), decoding=GREEDY)


def test_tokens_counted_here_are_an_estimate(server: CompletionServer) -> None:
    """A text cut into other tokens than it was made of is no sign of a full context or a broken bound."""
    choice = {"text": " The symbol of it", "finish_reason": "length"}
    server.reply = lambda _body: {"choices": [choice]}
    sized = quick(server, tokenizer=str(bundled("base")), context_length=99)
    (found,) = sized.generate(["a"], stop=(), decoding=GREEDY)
    assert (found.tokens, found.finish) == (20, "length")
    (found,) = sized.generate(["a"], stop=(), decoding=Decoding(max_tokens=1))
    assert found.tokens == 1


def test_a_full_context_is_told_apart(server: CompletionServer) -> None:
    """By the server's refusal, by a completion that is cut short, or before with a tokenizer."""
    server.refusal = (400, "maximum context length is 10")
    with pytest.raises(ContextOverflowError, match="maximum context length is 10"):
        quick(server).generate(["a"], stop=(), decoding=GREEDY)
    other = CompletionServer()
    other.reply = lambda body: {
        "choices": [{"text": " one two", "finish_reason": "length"}],
        "usage": {"completion_tokens": 2, "prompt_tokens": 1},
    }
    with pytest.raises(ContextOverflowError, match="ended after 2 of 20 tokens"):
        quick(other).generate(["a"], stop=(), decoding=GREEDY)
    seen = len(other.requests)
    sized = quick(other, tokenizer=str(bundled("base")), context_length=25)
    with pytest.raises(ContextOverflowError, match=r"prompt 1 has \d+ tokens"):
        sized.generate(["a", "a long prompt of many words"], stop=(), decoding=GREEDY)
    other.stop()
    assert len(other.requests) == seen


def test_stop_strings_that_a_server_leaves_or_ignores(server: CompletionServer) -> None:
    """They are never in the text; a server that goes on behind them is named."""
    server.reply = lambda body: completion({**body, "stop": []}, "one two\n# Query:\n")
    (found,) = quick(server).generate(["a"], stop=("\n# Query",), decoding=GREEDY)
    assert (found.text, found.finish) == ("one two", "stop")
    server.reply = lambda body: completion({**body, "stop": []}, "one\n# Query:" + "x" * 200)
    with pytest.warns(UserWarning, match="ignores stop strings"):
        (found,) = quick(server).generate(["b"], stop=("\n# Query",), decoding=GREEDY)
    assert found.text == "one"


def test_what_is_sent(server: CompletionServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The prompt as it is, the decoding, and the key from the environment only; seeds follow the prompt."""
    monkeypatch.setenv("SOME_KEY", "secret-word")
    engine = quick(server, api_key_env="SOME_KEY")
    sampled = Decoding(temperature=0.7, top_p=0.9, max_tokens=9, seed=4)
    engine.generate(["é\n", "b"], stop=("x",), decoding=sampled)
    first, second = sorted(server.requests, key=lambda body: str(body["prompt"]), reverse=True)
    assert first["seed"] != second["seed"]
    assert first == {
        "model": "m",
        "prompt": "é\n",
        "max_tokens": 9,
        "temperature": 0.7,
        "top_p": 0.9,
        "stop": ["x"],
        "seed": first["seed"],
    }
    assert 0 <= first["seed"] < 2**31
    assert server.headers[0]["authorization"] == "Bearer secret-word"
    assert "secret" not in f"{engine.name} {engine.fingerprint} {vars(engine)['identity']}"
    quick(server).generate(["c"], stop=(), decoding=GREEDY)
    assert "authorization" not in server.headers[-1]


@pytest.mark.parametrize("key", ["sk-sécret", "sk-\x01secret"])
def test_a_key_never_stands_in_an_error(
    server: CompletionServer, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """One that cannot be sent is told without it; a line's end behind it does no harm."""
    monkeypatch.setenv("SOME_KEY", key)
    with pytest.raises(UserError, match="the key in SOME_KEY holds characters") as caught:
        quick(server, api_key_env="SOME_KEY")
    assert "cret" not in str(caught.value)
    monkeypatch.setenv("SOME_KEY", "secret-word\n")
    quick(server, api_key_env="SOME_KEY").generate(["a"], stop=(), decoding=GREEDY)
    assert server.headers[0]["authorization"] == "Bearer secret-word"


def test_a_proxy_does_not_stand_before_a_local_server(
    server: CompletionServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster's proxy in the environment leads elsewhere."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    (found,) = quick(server).generate(["a b"], stop=(), decoding=GREEDY)
    assert found.text == wanted("a b")


def test_fields_of_ones_own_are_sent_and_part_of_the_key(server: CompletionServer) -> None:
    """They undo a server's own defaults; what the engine sets is not theirs."""
    plain, more = quick(server), quick(server, extra={"top_k": -1})
    more.generate(["a"], stop=(), decoding=GREEDY)
    assert server.requests[-1]["top_k"] == -1
    assert plain.fingerprint != more.fingerprint
    with pytest.raises(UserError, match="extra must not hold 'seed': the engine sets it"):
        quick(server, extra={"seed": 1})


def test_a_repetition_penalty_needs_the_servers_own(server: CompletionServer) -> None:
    """Servers penalise prompt and completion; another meaning is refused, not approximated."""
    with pytest.raises(UserError, match="no repetition penalty over generated tokens"):
        quick(server, repetition_field="repetition_penalty").generate(
            ["a"], stop=(), decoding=Decoding(repetition_penalty=1.2)
        )
    penalised = Decoding(repetition_penalty=1.2, repetition_scope="all", max_tokens=9)
    quick(server, repetition_field="repeat_penalty").generate(["a"], stop=(), decoding=penalised)
    assert server.requests[-1]["repeat_penalty"] == 1.2
    quick(server, repetition_field="repeat_penalty").generate(["b"], stop=(), decoding=GREEDY)
    assert server.requests[-1]["repeat_penalty"] == 1


def test_reuse_that_a_server_reports_is_counted(server: CompletionServer) -> None:
    """VLLM says how many tokens of a prompt its cache held."""
    usage = {
        "prompt_tokens_details": {"cached_tokens": 3},
        "prompt_tokens": 6,
        "completion_tokens": 6,
    }
    server.reply = lambda body: {**completion(body), "usage": usage}
    (found,) = quick(server).generate([PROMPTS[0]], stop=(), decoding=GREEDY)
    assert (found.prompt_tokens, found.reused_tokens) == (6, 3)


def test_an_interrupt_gives_up_at_once(server: CompletionServer) -> None:
    """What is under way is cancelled; nobody waits for a server that hangs."""
    server.slow_s = 30
    timer = threading.Timer(0.7, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    start = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        quick(server, timeout_s=60).generate(["a", "b"], stop=(), decoding=GREEDY)
    assert time.perf_counter() - start < 10


def test_capabilities_are_honest(server: CompletionServer) -> None:
    """Only with a tokenizer does it count tokens and score texts."""
    plain, sized = quick(server), quick(server, tokenizer=str(bundled("base")), context_length=99)
    assert isinstance(plain, Streaming) and isinstance(sized, Streaming)
    assert not isinstance(plain, Tokenizing | Scoring)
    assert isinstance(sized, Tokenizing) and isinstance(sized, Scoring)


def scored(body: dict[str, Any], tokenizer: Any, *, first: bool) -> dict[str, Any]:
    """What vLLM sends for echo and logprobs: the prompt's tokens, the first without, then a new one."""
    ids = tokenizer(body["prompt"])["input_ids"]
    values = [None if first and i == 0 else -float(token % 7) for i, token in enumerate(ids)]
    found = completion(body)
    found["choices"][0]["logprobs"] = {"token_logprobs": [*values, -0.5]}
    return found


def test_texts_are_scored_by_servers_that_can(server: CompletionServer) -> None:
    """Tokens of the continuation only, with the server's own numbers."""
    sized = quick(server, tokenizer=str(bundled("base")), context_length=99)
    assert isinstance(sized, Scoring) and isinstance(sized, Tokenizing)
    tokenizer = sized._tokenizer  # type: ignore[attr-defined]
    server.reply = lambda body: scored(body, tokenizer, first=True)
    pairs = [("What is iron?", " The symbol is Fe."), ("Zebras", " run")]
    for (prompt, text), found in zip(pairs, sized.loglikelihood(pairs), strict=True):
        whole = tokenizer(prompt + text)["input_ids"]
        assert found.tokens == tuple(whole[found.prompt_tokens :])
        assert found.logprobs == tuple(-float(token % 7) for token in found.tokens)
        assert tokenizer.decode(whole[: found.prompt_tokens]).endswith(prompt)
    server.reply = completion
    with pytest.raises(UserError, match="does not give log-probabilities of its prompts"):
        sized.loglikelihood(pairs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_url": "localhost:8000"}, "base_url must be like http://host:8000/v1"),
        ({"base_url": []}, "base_url is empty"),
        ({"base_url": 5}, "base_url is empty"),
        ({"base_url": [5]}, "base_url must be like"),
        ({"base_url": "http://[::1"}, "base_url must be like"),
        ({"base_url": "http://h/v1/completions"}, "base_url ends before /completions"),
        ({"base_url": "http://me:word@h/v1"}, "the base_url of h holds a password"),
        ({"base_url": "http://h/v1", "attempts": 0}, "attempts must be a whole number >= 1, got 0"),
        ({"base_url": "http://h/v1", "concurrency": "16"}, "concurrency must be .*, got '16'"),
        ({"base_url": "http://h/v1", "timeout_s": float("nan")}, "timeout_s must be a number"),
        ({"base_url": "http://h/v1", "identity": 5}, "identity must be a text, got 5"),
        ({"base_url": "http://h/v1", "tokenizer": "x"}, "tokenizer and context_length go together"),
    ],
)
def test_settings_are_checked(options: dict[str, Any], message: str) -> None:
    """A mistake is told before anything is sent."""
    with pytest.raises(UserError, match=message):
        connect("m", **options)


def test_an_experiment_names_it(server: CompletionServer) -> None:
    """[model] engine = "openai" with the options of `connect`; a misspelt one is told."""
    model = {"id": "org/m", "engine": "openai", "options": {"base_url": server.url}}
    experiment = Experiment.for_model("bundled")
    table = type(experiment.model).model_validate(model)
    made = build_engine(experiment.model_copy(update={"model": table}))
    assert made.name == "openai:org/m"
    wrong = type(experiment.model).model_validate(model | {"options": {"base_ur": server.url}})
    with pytest.raises(UserError, match="unknown option 'base_ur'; did you mean 'base_url'"):
        build_engine(experiment.model_copy(update={"model": wrong}))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server with the bundled model."""
    if importlib.util.find_spec("uvicorn") is None:
        pytest.skip("the extra `serve` is not installed")
    log = tmp_path_factory.mktemp("serve") / "log.txt"
    with transformers_serve(bundled("base"), log) as url:
        yield url


def test_a_real_server_keeps_the_contract(real: str) -> None:
    """`transformers serve` with the bundled model; it seeds its process, so one request at a time."""
    base = str(bundled("base"))
    options: dict[str, Any] = {"tokenizer": base, "context_length": 768, "concurrency": 1}
    check_engine(
        lambda: connect(base, base_url=real, **options), scores=False, whole_characters=True
    )


def test_a_real_server_says_what_the_engine_hf_says(real: str) -> None:
    """Greedy in float32, several requests at once, with the prompt's own stop strings."""
    prompt = Prompt.from_text(bundled("baseline.txt").read_text("utf-8"))
    queries = ["What is the symbol of gold?", "What is the capital of Japan?", "Who are you?"]
    rendered = [prompt.render(query) for query in queries]
    ours = HFEngine(bundled("base")).generate(rendered, stop=prompt.stop, decoding=prompt.decoding)
    engine = connect(str(bundled("base")), base_url=real)
    theirs = engine.generate(rendered, stop=prompt.stop, decoding=prompt.decoding)
    assert [r.text for r in theirs] == [r.text for r in ours]
    assert [r.prompt_tokens for r in theirs] == [r.prompt_tokens for r in ours]
