"""Engine `vllm` calls vLLM as its source takes it, and keeps the contract over a stand-in.

vLLM itself needs a GPU. Where the unzipped folder of its wheel is at hand, named by
`ICL_ALIGN_VLLM_WHEEL`, the record that the stand-in goes by is compared with that source.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import vllm_stand_in

from icl_align.engines import ContextOverflowError, Scoring, Streaming, Tokenizing, _vllm_api
from icl_align.engines.hf import HFEngine
from icl_align.engines.vllm import VLLMEngine
from icl_align.errors import UserError
from icl_align.models import bundled
from icl_align.prompt import Prompt
from icl_align.testing import PROMPTS, check_engine
from icl_align.types import Decoding

BASE = bundled("base")
GREEDY = Decoding(max_tokens=12)


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The stand-in in the place where an installed vLLM would be."""
    module = vllm_stand_in.stand_in()
    monkeypatch.setitem(sys.modules, "vllm", module)
    return module


def test_the_record_is_that_of_the_source() -> None:
    """Names of parameters and fields are read again from vLLM's source."""
    folder = os.environ.get("ICL_ALIGN_VLLM_WHEEL")
    if not folder:
        pytest.skip("set ICL_ALIGN_VLLM_WHEEL to the unzipped folder of vLLM's wheel")
    source = Path(folder)
    (metadata,) = source.glob("vllm-*.dist-info/METADATA")
    version = vllm_stand_in.API["version"]
    assert f"\nVersion: {version}\n" in metadata.read_text("utf-8"), f"recorded from {version}"
    assert vllm_stand_in.record(source / "vllm") == {
        key: names for key, names in vllm_stand_in.API.items() if key != "version"
    }


@pytest.mark.parametrize(
    ("protocol", "recorded"),
    [
        (_vllm_api.Logprob, "Logprob"),
        (_vllm_api.CompletionOutput, "CompletionOutput"),
        (_vllm_api.RequestOutput, "RequestOutput.__init__"),
        (_vllm_api.ModelConfig, "ModelConfig"),
    ],
)
def test_the_fields_we_read_are_there(protocol: type, recorded: str) -> None:
    """Each attribute of our protocols is one of vLLM's."""
    assert set(inspect.get_annotations(protocol)) <= set(vllm_stand_in.API[recorded])


@pytest.mark.parametrize(
    ("call", "recorded"),
    [
        (_vllm_api.LLM.enqueue, ["LLM.enqueue"]),
        (_vllm_api.LLM.generate, ["LLM.generate"]),
        (_vllm_api.LLMEngine.step, ["LLMEngine.step"]),
        (_vllm_api.LLMEngine.abort_request, ["LLMEngine.abort_request"]),
        (_vllm_api.LLMEngine.has_unfinished_requests, ["LLMEngine.has_unfinished_requests"]),
        (_vllm_api.Module.LLM, ["LLM.__init__", "EngineArgs"]),
        (_vllm_api.Module.TokensPrompt, ["TokensPrompt"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_the_calls_we_make_are_taken(call: Any, recorded: list[str]) -> None:
    """Each parameter of our protocols is one of vLLM's."""
    names = set(inspect.signature(call).parameters) - {"self"}
    assert names <= {name for key in recorded for name in vllm_stand_in.API[key]}


def test_the_contract(vllm: Any) -> None:
    """The public contract suite passes; the engine streams, counts and scores."""
    engine = VLLMEngine(BASE)
    for capability in (Streaming, Tokenizing, Scoring):
        assert isinstance(engine, capability)
    check_engine(lambda: engine, whole_characters=True)


@pytest.mark.parametrize(
    "decoding",
    [GREEDY, Decoding(max_tokens=24, repetition_penalty=1.3, repetition_scope="all")],
    ids=["plain", "repetition penalty"],
)
def test_it_says_what_the_engine_hf_says(vllm: Any, decoding: Decoding) -> None:
    """Greedy in float32, with stop strings; finish and numbers of tokens too."""
    prompt = Prompt.from_text(bundled("baseline.txt").read_text("utf-8"))
    texts = [*PROMPTS, *(prompt.render(query) for query in ("Who are you?", "What is gold?"))]
    for stop in ((), prompt.stop, ("the",)):
        ours, theirs = (
            engine.generate(texts, stop=stop, decoding=decoding)
            for engine in (VLLMEngine(BASE), HFEngine(BASE))
        )
        for one, two in zip(ours, theirs, strict=True):
            assert one.text == two.text.rstrip("\ufffd")
            assert (one.tokens, one.finish, one.prompt_tokens) == (
                two.tokens,
                two.finish,
                two.prompt_tokens,
            )


def test_it_scores_as_the_engine_hf_scores(vllm: Any) -> None:
    """Tokens and ranks are equal, log-probabilities nearly; an empty text has none."""
    pairs = [*((prompt, " the sea. It is") for prompt in PROMPTS), ("The sea", ""), ("Th", "e sea")]
    ours, theirs = (engine.loglikelihood(pairs) for engine in (VLLMEngine(BASE), HFEngine(BASE)))
    for one, two in zip(ours, theirs, strict=True):
        assert (one.tokens, one.ranks) == (two.tokens, two.ranks)
        assert one.prompt_tokens == two.prompt_tokens
        assert one.logprobs == pytest.approx(two.logprobs, abs=1e-4)


def test_settings_reach_vllm(vllm: Any) -> None:
    """Under vLLM's own names; prefix caching is on."""
    engine = VLLMEngine(
        BASE,
        dtype="bfloat16",
        gpu_memory_utilization=0.5,
        max_model_len=64,
        tensor_parallel_size=2,
        seed=7,
        enforce_eager=True,
    )
    assert engine.context_length == 64
    assert vllm.LLM.started == [], "nothing starts before its first use"
    engine.generate(["a"], stop=(), decoding=GREEDY)
    engine.generate(["b"], stop=(), decoding=GREEDY)
    assert vllm.LLM.started == [
        {
            "dtype": "bfloat16",
            "gpu_memory_utilization": 0.5,
            "max_model_len": 64,
            "tensor_parallel_size": 2,
            "seed": 7,
            "enforce_eager": True,
            "enable_prefix_caching": True,
        }
    ]


def test_cached_tokens_are_reported(vllm: Any) -> None:
    """What vLLM's prefix cache gave is counted as reused, in whole blocks."""
    engine = VLLMEngine(BASE)
    shared = "One, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve: "
    first, second = engine.generate([shared + "a", shared + "sea"], stop=(), decoding=GREEDY)
    assert first.reused_tokens == 0
    assert engine.count_tokens(shared) == 32
    assert second.reused_tokens == 16, (
        "the last token of the shared text is not in the other prompt"
    )


def test_sampling_without_a_seed_differs(vllm: Any) -> None:
    """Each row draws a seed of its own."""
    free = Decoding(temperature=1.5, max_tokens=12, seed=None)
    found = VLLMEngine(BASE).generate(["Zebras"] * 6, stop=(), decoding=free)
    assert len({response.text for response in found}) > 1


def test_a_stream_that_is_left_stops_its_requests(vllm: Any) -> None:
    """The next call does not wait for rows that nobody wants any more."""
    engine = VLLMEngine(BASE)
    stream = engine.stream(PROMPTS, stop=(" the",), decoding=Decoding(max_tokens=40))
    index, _ = next(stream)
    stream.close()  # type: ignore[attr-defined]
    runner: Any = engine._llm.llm_engine
    assert not runner.has_unfinished_requests()
    aborted = {int(name.split("-")[0]) for name in runner.aborted}
    assert aborted and index not in aborted
    assert len(engine.generate(PROMPTS, stop=(), decoding=GREEDY)) == len(PROMPTS)


@pytest.mark.parametrize("reason", ["abort", "error", "repetition"])
def test_a_failed_request_is_no_answer(vllm: Any, reason: str) -> None:
    """It is told as an error, with vLLM's reason."""
    engine = VLLMEngine(BASE)
    runner: Any = engine._llm.llm_engine
    runner.fails_with = reason
    (found,) = engine.generate(["a"], stop=(), decoding=GREEDY)
    assert (found.finish, found.error) == ("error", f"vLLM ended it with finish_reason '{reason}'")


def test_what_vllm_does_otherwise_is_refused(vllm: Any) -> None:
    """Rather than decoded in another way than asked for."""
    engine = VLLMEngine(BASE)
    for decoding, reason in (
        (Decoding(repetition_penalty=1.1), "looks at prompt and completion: use repetition_scope"),
        (Decoding(temperature=2.5), "temperatures from 0.01 to 2.0 .* got 2.5"),
        (Decoding(temperature=0.001), "temperatures from 0.01 to 2.0 .* got 0.001"),
    ):
        with pytest.raises(UserError, match=reason):
            engine.generate(["a"], stop=(), decoding=decoding)
    for stop in ("###", ("",)):
        with pytest.raises(UserError, match="stop must be a list of strings that are not empty"):
            engine.generate(["a"], stop=stop, decoding=GREEDY)
    assert vllm.LLM.started == []


def test_an_empty_prompt_is_refused(vllm: Any, checkpoints: dict[str, Path]) -> None:
    """This tokenizer adds no token of its own, so there is nothing to continue."""
    engine = VLLMEngine(checkpoints["llama"])
    with pytest.raises(UserError, match="prompt 1 is empty"):
        engine.generate(["a", ""], stop=(), decoding=GREEDY)
    with pytest.raises(UserError, match="the prompt of pair 0 is empty"):
        engine.loglikelihood([("", "a")])


def test_settings_are_checked() -> None:
    """A mistake in a setting is told at once."""
    for settings, reason in (
        ({"dtype": "int8"}, "dtype must be auto, float32"),
        ({"gpu_memory_utilization": 0}, r"gpu_memory_utilization must be in \(0, 1\], got 0"),
        ({"max_model_len": 0}, "max_model_len must be >= 1, got 0"),
        ({"tensor_parallel_size": 0}, "tensor_parallel_size must be >= 1, got 0"),
    ):
        given: dict[str, Any] = settings
        with pytest.raises(UserError, match=reason):
            VLLMEngine(BASE, **given)


def test_a_vllm_that_cannot_start_says_why(vllm: Any) -> None:
    """In one line, with its reason and what may help."""
    engine = VLLMEngine(BASE, max_model_len=10**6)
    with pytest.raises(
        UserError, match="cannot start .*: max_model_len is greater than the derived"
    ):
        engine.generate(["a"], stop=(), decoding=GREEDY)


def test_prompts_that_do_not_fit_start_nothing(vllm: Any) -> None:
    """Where the context length was given, not even vLLM is started."""
    engine = VLLMEngine(BASE, max_model_len=16)
    with pytest.raises(ContextOverflowError, match="prompt 1 has .* more than the 16 of"):
        engine.generate(["a", "One, two, three"], stop=(), decoding=GREEDY)
    with pytest.raises(ContextOverflowError, match="pair 0 has .* tokens and max_tokens is 1"):
        engine.loglikelihood([("a", "One, two, three, four, five, six, seven")])
    assert vllm.LLM.started == []


def test_the_fingerprint(vllm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, versions and everything that changes text; not how much memory there is."""
    mark = VLLMEngine(BASE).fingerprint
    assert mark.startswith("vllm:")
    assert "vllm-0.33.0:torch-" in mark
    assert mark == VLLMEngine(BASE, gpu_memory_utilization=0.5, seed=3).fingerprint
    monkeypatch.setenv("VLLM_BATCH_INVARIANT", "1")
    marks = {
        mark,
        VLLMEngine(BASE).fingerprint,
        VLLMEngine(BASE, dtype="float32").fingerprint,
        VLLMEngine(BASE, tensor_parallel_size=2).fingerprint,
        VLLMEngine(BASE, enforce_eager=True).fingerprint,
        VLLMEngine(bundled("aligned")).fingerprint,
    }
    assert len(marks) == 6


def test_without_vllm_the_extra_is_named() -> None:
    """The remedy stands in the message; nothing to do needs no vLLM."""
    if importlib.util.find_spec("vllm"):
        pytest.skip("vLLM is installed")
    assert VLLMEngine(BASE).generate([], stop=(), decoding=GREEDY) == []
    with pytest.raises(UserError, match=r"pip install 'icl-align\[vllm\]'"):
        VLLMEngine(BASE).generate(["a"], stop=(), decoding=GREEDY)


def test_the_stand_in_refuses_what_vllm_does_not_know(vllm: Any) -> None:
    """So that a call with a wrong name cannot pass these tests."""
    for call, given in (
        (vllm.LLM, {"model": str(BASE), "prefix_caching": True}),
        (vllm.SamplingParams, {"max_new_tokens": 3}),
        (vllm.TokensPrompt, {"token_ids": [1]}),
        (vllm.LLM(str(BASE)).enqueue, {"prompts": [], "sampling_params": [], "tqdm": False}),
    ):
        with pytest.raises(TypeError, match="vLLM 0.33.0: .* takes no argument"):
            call(**given)
