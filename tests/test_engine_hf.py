"""Engine `hf` continues prompts exactly as one plain `generate` per prompt does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import KINDS
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
)

from icl_align.engines import ContextOverflowError
from icl_align.engines.hf import HFEngine
from icl_align.errors import UserError
from icl_align.models import bundled
from icl_align.prompt import Prompt
from icl_align.testing import PROMPTS, check_engine
from icl_align.types import Decoding

STRATEGY = dict.fromkeys(KINDS, "packed") | {
    "gptj": "repeated",
    "bloom": "alone",
    "mamba": "alone",
}
"""What `auto` chooses: sliding windows, soft caps and sinks can be packed, some attention cannot."""
SHARED = [
    f"One, two, three, four, five, six: {rest}"
    for rest in ("a", "sea", "The sky is grey", "x y z", "é ü")
]


def plain(folder: Path, prompt: str, bound: int) -> str:
    """One plain `generate`, as a user would write it."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    ids = torch.tensor([tokenizer(prompt)["input_ids"]])
    out = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=bound,
        do_sample=False,
        pad_token_id=0,
    )
    return str(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))


@pytest.mark.parametrize("kind", KINDS)
def test_the_contract(checkpoints: dict[str, Path], kind: str) -> None:
    """The public contract suite passes on every architecture."""
    check_engine(lambda: HFEngine(checkpoints[kind], batch_size=3))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prompts", [list(PROMPTS), SHARED], ids=["apart", "shared prefix"])
def test_greedy_equals_plain_generate(
    checkpoints: dict[str, Path], kind: str, prompts: list[str]
) -> None:
    """In float32 greedy text is that of one plain `generate` per prompt."""
    wanted = [plain(checkpoints[kind], prompt, 24) for prompt in prompts]
    found = HFEngine(checkpoints[kind]).generate(prompts, stop=(), decoding=Decoding(max_tokens=24))
    assert [response.text for response in found] == wanted
    assert len(set("".join(wanted))) > 10  # the models say enough for this to mean something


def test_a_shared_prefix_is_computed_once(checkpoints: dict[str, Path]) -> None:
    """The common tokens are charged to one row; a second call with the same prefix computes none."""
    engine = HFEngine(checkpoints["llama"])
    decoding = Decoding(max_tokens=4)
    first = engine.generate(SHARED, stop=(), decoding=decoding)
    shared = max(response.reused_tokens for response in first)
    assert shared >= 10
    assert sorted(response.reused_tokens for response in first) == [
        0,
        *[shared] * (len(SHARED) - 1),
    ]
    again = engine.generate(SHARED, stop=(), decoding=decoding)
    assert [response.reused_tokens for response in again] == [shared] * len(SHARED)
    assert [r.text for r in again] == [r.text for r in first]


@pytest.mark.parametrize("kind", KINDS)
def test_the_best_strategy_that_fits_is_chosen(checkpoints: dict[str, Path], kind: str) -> None:
    """A model whose attention has no parts falls back, shares less, and says so."""
    engine = HFEngine(checkpoints[kind])
    assert engine.strategy == STRATEGY[kind]
    found = engine.generate(SHARED, stop=(), decoding=Decoding(max_tokens=4))
    assert (max(response.reused_tokens for response in found) > 0) == (engine.strategy != "alone")


@pytest.mark.parametrize("strategy", ["repeated", "alone"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if STRATEGY[kind] != "alone"])
def test_other_strategies_give_the_same_text(
    checkpoints: dict[str, Path], kind: str, strategy: str
) -> None:
    """Asked for by name, they are used, and in float32 say the same."""
    decoding = Decoding(max_tokens=16)
    wanted = HFEngine(checkpoints[kind]).generate(SHARED, stop=(), decoding=decoding)
    engine = HFEngine(checkpoints[kind], strategy=strategy)
    assert engine.strategy == strategy
    found = engine.generate(SHARED, stop=(), decoding=decoding)
    assert [r.text for r in found] == [r.text for r in wanted]


def test_a_strategy_that_does_not_fit_is_refused(checkpoints: dict[str, Path]) -> None:
    """Rather than run in another way than asked for."""
    with pytest.raises(UserError, match="cannot run packed: not every layer attends through"):
        HFEngine(checkpoints["gptj"], strategy="packed").generate(
            ["a"], stop=(), decoding=Decoding(max_tokens=2)
        )


def test_a_window_may_be_shorter_than_a_repeated_row(checkpoints: dict[str, Path]) -> None:
    """Repeated rows within a sliding window share; longer ones beside them run alone, as exact."""
    prompts = [*SHARED, SHARED[0] + " The sea is blue" * 8]
    found = HFEngine(checkpoints["gemma3"], strategy="repeated").generate(
        prompts, stop=(), decoding=Decoding(max_tokens=20)
    )
    assert found[-1].prompt_tokens + 20 > 64 >= max(r.prompt_tokens for r in found[:-1]) + 20
    assert [r.text for r in found] == [plain(checkpoints["gemma3"], p, 20) for p in prompts]
    assert found[0].reused_tokens == found[-1].reused_tokens == 0 < found[1].reused_tokens


def test_equal_prompts_are_computed_once(checkpoints: dict[str, Path]) -> None:
    """Equal prompts give equal responses, sampled with a seed too; without a seed they are drawn apart."""
    engine = HFEngine(checkpoints["llama"])
    seeded = engine.generate(
        ["Zebras"] * 3, stop=(), decoding=Decoding(temperature=1.0, max_tokens=8)
    )
    assert len({response.text for response in seeded}) == 1
    tokens = seeded[0].prompt_tokens
    assert [response.reused_tokens for response in seeded] == [0, tokens, tokens]
    free = Decoding(temperature=2.0, max_tokens=8, seed=None)
    assert (
        len({response.text for response in engine.generate(["Zebras"] * 8, stop=(), decoding=free)})
        > 1
    )


def test_the_context_limit(checkpoints: dict[str, Path]) -> None:
    """A prompt that just fits runs; one token more is refused before any work, naming the numbers."""
    engine = HFEngine(checkpoints["llama"])
    room = 128 - engine.count_tokens("Zebras")
    (response,) = engine.generate(["Zebras"], stop=(), decoding=Decoding(max_tokens=room))
    assert response.tokens <= room
    with pytest.raises(
        ContextOverflowError, match=r"prompt 1 has \d+ tokens and max_tokens is .* the 128 of"
    ):
        engine.generate(["a", "Zebras"], stop=(), decoding=Decoding(max_tokens=room + 1))


def with_setting(source: Path, target: Path, **settings: object) -> Path:
    """A copy of a checkpoint whose generation configuration says more."""
    shutil.copytree(source, target)
    file = target / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    return target


@pytest.mark.parametrize(
    "decoding",
    [
        Decoding(temperature=1.0, max_tokens=48, seed=3),
        Decoding(temperature=0.8, top_p=0.9, repetition_penalty=1.3, max_tokens=48),
        Decoding(repetition_penalty=1.5, repetition_scope="all", max_tokens=48),
    ],
    ids=["sampled", "sampled with a penalty", "greedy with a penalty"],
)
def test_rows_that_leave_do_not_disturb_those_that_stay(
    checkpoints: dict[str, Path], decoding: Decoding
) -> None:
    """With stop strings rows end at different steps; each says what it says alone."""
    prompts = [f"One, two, three: {i}" for i in range(24)]
    engine = HFEngine(checkpoints["llama"])
    found = engine.generate(prompts, stop=("a", "1", "\n"), decoding=decoding)
    assert len({response.tokens for response in found}) > 5
    alone = [engine.generate([p], stop=("a", "1", "\n"), decoding=decoding)[0] for p in prompts]
    assert [r.text for r in found] == [r.text for r in alone]


@pytest.mark.parametrize("kind", ["llama", "bloom"])
def test_each_end_of_sequence_token_ends_a_row(
    checkpoints: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    """A generation configuration may name several; the text before the first is the response."""
    engine = HFEngine(checkpoints[kind])
    (whole,) = engine.generate(["Zebras"], stop=(), decoding=Decoding(max_tokens=12))
    seen: list[int] = []
    for bound in range(1, 13):  # the tokens behind the text, by its growth
        (part,) = engine.generate(["Zebras"], stop=(), decoding=Decoding(max_tokens=bound))
        seen.append(len(part.text))
    prompt = engine._encode("Zebras")
    model, ids = engine._model, torch.tensor([prompt])
    sixth = model.generate(ids, max_new_tokens=6, do_sample=False)[0, len(prompt) + 5]
    folder = with_setting(checkpoints[kind], tmp_path / "ends", eos_token_id=[0, int(sixth)])
    (found,) = HFEngine(folder).generate(["Zebras"], stop=(), decoding=Decoding(max_tokens=12))
    assert found.finish == "stop"
    assert found.tokens <= 6
    assert found.text == whole.text[: seen[found.tokens - 2]]


@pytest.mark.parametrize("kind", ["llama", "bloom"])
def test_only_the_request_says_how_to_decode(
    checkpoints: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    """Sampling settings that a checkpoint brings along do not change greedy text."""
    settings = {"do_sample": True, "temperature": 3.0, "repetition_penalty": 9.0, "max_length": 2}
    folder = with_setting(checkpoints[kind], tmp_path / "set", **settings)
    wanted, found = (
        HFEngine(place).generate(SHARED, stop=(), decoding=Decoding(max_tokens=16))
        for place in (checkpoints[kind], folder)
    )
    assert [r.text for r in found] == [r.text for r in wanted]


def test_an_empty_batch_needs_no_model(tmp_path: Path) -> None:
    """Nothing to do is done without loading anything."""
    assert HFEngine(tmp_path / "nowhere").generate([], stop=(), decoding=Decoding()) == []


def test_a_prompt_of_one_token(checkpoints: dict[str, Path]) -> None:
    """It has no prefix to share and is continued all the same."""
    (found,) = HFEngine(checkpoints["llama"]).generate(
        ["Z"], stop=(), decoding=Decoding(max_tokens=8)
    )
    assert (found.prompt_tokens, found.reused_tokens) == (1, 0)
    assert found.text == plain(checkpoints["llama"], "Z", 8)


def test_a_cpu_computes_in_float32(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """Also a checkpoint in bfloat16, so that text does not depend on batch mates."""
    folder = tmp_path / "half"
    shutil.copytree(checkpoints["llama"], folder)
    small: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    small.save_pretrained(folder)
    assert HFEngine(folder, device="cpu")._model.dtype == torch.float32
    assert HFEngine(folder, device="cpu", dtype="bfloat16")._model.dtype == torch.bfloat16
    check_engine(lambda: HFEngine(folder, device="cpu", batch_size=2))


def test_an_empty_prompt_is_refused(checkpoints: dict[str, Path]) -> None:
    """This tokenizer adds no token of its own, so there is nothing to continue."""
    with pytest.raises(UserError, match="prompt 0 is empty"):
        HFEngine(checkpoints["llama"]).generate([""], stop=(), decoding=Decoding())


def starved(model: Any, holds: int) -> list[int]:
    """Gives a model memory for so many rows only; the list that comes back tells its batches."""
    seen: list[int] = []

    def check(_module: Any, _args: Any, given: dict[str, Any]) -> None:
        ids, wanted = given["input_ids"], given["logits_to_keep"]
        rows = len(wanted) if isinstance(wanted, torch.Tensor) else ids.shape[0]
        if rows > holds:
            raise torch.OutOfMemoryError("CUDA out of memory (a test)")
        seen.append(rows)

    model.register_forward_pre_hook(check, with_kwargs=True)
    return seen


@pytest.mark.parametrize("strategy", ["packed", "repeated"])
def test_out_of_memory_halves_the_batch(checkpoints: dict[str, Path], strategy: str) -> None:
    """Rows that do not fit together are decoded in smaller batches, with the same result."""
    decoding = Decoding(temperature=1.0, max_tokens=8, repetition_penalty=1.2)
    wanted = HFEngine(checkpoints["llama"]).generate(SHARED, stop=(), decoding=decoding)
    engine = HFEngine(checkpoints["llama"], strategy=strategy)
    assert engine.strategy == strategy
    seen = starved(engine._model, 2)
    found = engine.generate(SHARED, stop=(), decoding=decoding)
    assert [r.text for r in found] == [r.text for r in wanted]
    assert max(seen) == 2


@pytest.mark.parametrize("strategy", ["packed", "repeated"])
def test_memory_that_holds_nothing(checkpoints: dict[str, Path], strategy: str) -> None:
    """Where not even one row fits, the error says so in one line."""
    engine = HFEngine(checkpoints["llama"], strategy=strategy)
    assert engine.strategy == strategy
    starved(engine._model, 0)
    with pytest.raises(UserError, match="memory does not hold one row of"):
        engine.generate(SHARED, stop=(), decoding=Decoding(max_tokens=8))


def test_a_real_checkpoint_equals_plain_generate() -> None:
    """The bundled model, trained, with its usual long prompt, not only small random ones."""
    prompt = Prompt.from_text(bundled("baseline.txt").read_text("utf-8"))
    queries = ("What is the symbol of gold?", "Who are you?", "What is the capital of Japan?")
    rendered = [prompt.render(query) for query in queries]
    found = HFEngine(bundled("base")).generate(rendered, stop=(), decoding=Decoding(max_tokens=32))
    assert [r.text for r in found] == [plain(bundled("base"), text, 32) for text in rendered]


def test_the_contract_in_bfloat16() -> None:
    """On a CPU too most texts stay the same whatever the batch; the share is stated."""
    check_engine(lambda: HFEngine(bundled("base"), dtype="bfloat16"), agreement=0.5)


def test_settings_are_checked() -> None:
    """A mistake in a setting is told at once."""
    with pytest.raises(UserError, match="dtype must be auto, float32"):
        HFEngine("x", dtype="int8")
    with pytest.raises(UserError, match="batch_size must be >= 1"):
        HFEngine("x", batch_size=0)
    with pytest.raises(UserError, match="strategy must be one of auto, packed, repeated, alone"):
        HFEngine("x", strategy="fast")
    for stop in ("###", ("",)):
        with pytest.raises(UserError, match="stop must be a list of strings that are not empty"):
            HFEngine("x").generate(["a"], stop=stop, decoding=Decoding())
