"""Engine `hf` continues prompts exactly as one plain `generate` per prompt does."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, RepetitionPenaltyLogitsProcessor

from icl_align.engines import ContextOverflowError
from icl_align.engines._decode import Picker, Row
from icl_align.engines.hf import HFEngine
from icl_align.errors import UserError
from icl_align.testing import PROMPTS, check_engine
from icl_align.types import Decoding

KINDS = ("llama", "gpt2", "gpt_neox", "mistral")
SHARED = [
    f"One, two, three, four, five, six: {rest}"
    for rest in ("a", "sea", "The sky is grey", "x y z", "é ü")
]


def plain(folder: Path, prompt: str, bound: int) -> str:
    """One plain `generate`, as a user would write it."""
    engine = HFEngine(folder)
    model, tokenizer = engine._model, engine._tokenizer
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


def test_a_model_with_a_window_shares_nothing(checkpoints: dict[str, Path]) -> None:
    """Sliding windows cannot share a prefix; their rows run alone."""
    found = HFEngine(checkpoints["mistral"]).generate(
        SHARED, stop=(), decoding=Decoding(max_tokens=4)
    )
    assert {response.reused_tokens for response in found} == {0}


def test_equal_prompts_are_computed_once(checkpoints: dict[str, Path]) -> None:
    """Equal prompts give equal responses, sampled with a seed too; without a seed they are drawn apart."""
    engine = HFEngine(checkpoints["llama"])
    seeded = engine.generate(
        ["Zebras"] * 3, stop=(), decoding=Decoding(temperature=1.0, max_tokens=8)
    )
    assert len({response.text for response in seeded}) == 1
    free = Decoding(temperature=2.0, max_tokens=8, seed=None)
    assert (
        len({response.text for response in engine.generate(["Zebras"] * 8, stop=(), decoding=free)})
        > 1
    )


@pytest.mark.parametrize("scope", ["generated", "all"])
def test_repetition_penalty_is_hugging_faces(scope: Any) -> None:
    """The penalty is CTRL's, over the generated tokens or over all of them, as transformers computes it."""
    prompt, new = [3, 5, 7], [11, 5]
    logits = torch.randn(1, 16, generator=torch.Generator().manual_seed(0))
    picker = Picker(
        [Row(0, prompt, 0)],
        Decoding(repetition_penalty=1.3, repetition_scope=scope),
        torch.device("cpu"),
    )
    picker._penalised(logits)
    assert picker.seen is not None
    picker.seen[0, torch.tensor(new)] = True
    ignored = len(prompt) if scope == "generated" else None
    wanted = RepetitionPenaltyLogitsProcessor(1.3, prompt_ignore_length=ignored)(
        torch.tensor([prompt + new]), logits.clone()
    )
    torch.testing.assert_close(picker._penalised(logits), wanted)


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 1.0), (1.0, 0.6)])
def test_sampling_has_the_right_distribution(temperature: float, top_p: float) -> None:
    """Frequencies over many independent rows match the tempered, truncated softmax."""
    logits = torch.tensor([[2.0, 1.0, 0.5, 0.0, -1.0]])
    probabilities = (logits[0].double() / temperature).softmax(-1)
    ranked = probabilities.sort(descending=True)
    kept = ranked.values.cumsum(0) - ranked.values < top_p
    wanted = torch.zeros(5, dtype=torch.double)
    wanted[ranked.indices[kept]] = ranked.values[kept]
    wanted /= wanted.sum()
    rows = [Row(i, [1], i) for i in range(20_000)]
    picker = Picker(rows, Decoding(temperature=temperature, top_p=top_p), torch.device("cpu"))
    chosen = picker(logits.expand(len(rows), -1))
    counts = torch.bincount(chosen, minlength=5).double() / len(rows)
    assert (counts - wanted).abs().max() < 0.015
    assert bool((counts[wanted == 0] == 0).all())


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


def test_an_empty_prompt_is_refused(checkpoints: dict[str, Path]) -> None:
    """This tokenizer adds no token of its own, so there is nothing to continue."""
    with pytest.raises(UserError, match="prompt 0 is empty"):
        HFEngine(checkpoints["llama"]).generate([""], stop=(), decoding=Decoding())


class Small(LlamaForCausalLM):
    """A model whose memory holds two rows of a batch."""

    largest = 0

    def forward(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        position_ids: Any = None,
        **kwargs: Any,
    ) -> Any:
        rows = input_ids.shape[0]
        if rows > 2:
            raise torch.OutOfMemoryError("CUDA out of memory (a test)")
        Small.largest = max(Small.largest, rows)
        return super().forward(input_ids, attention_mask, position_ids, **kwargs)


def test_out_of_memory_halves_the_batch(checkpoints: dict[str, Path]) -> None:
    """Rows that do not fit together are decoded in smaller batches, with the same result."""
    wanted = HFEngine(checkpoints["llama"]).generate(
        SHARED, stop=(), decoding=Decoding(max_tokens=8)
    )
    engine = HFEngine(checkpoints["llama"])
    model: Any = Small.from_pretrained(checkpoints["llama"], dtype=torch.float32)
    engine.__dict__["_model"] = model.eval()
    found = engine.generate(SHARED, stop=(), decoding=Decoding(max_tokens=8))
    assert [r.text for r in found] == [r.text for r in wanted]
    assert Small.largest == 2


def test_memory_that_holds_nothing(checkpoints: dict[str, Path]) -> None:
    """Where not even one row fits, the error says so in one line."""

    class Full(LlamaForCausalLM):
        def forward(self, input_ids: Any = None, position_ids: Any = None, **_: Any) -> Any:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory (a test)")

    engine = HFEngine(checkpoints["llama"])
    model: Any = Full.from_pretrained(checkpoints["llama"], dtype=torch.float32)
    engine.__dict__["_model"] = model.eval()
    with pytest.raises(UserError, match="memory does not hold one row of"):
        engine.generate(SHARED, stop=(), decoding=Decoding(max_tokens=8))


def test_fingerprints_follow_the_weights(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """A copy has the same fingerprint; other weights or another dtype have another one."""
    copy = tmp_path / "copy"
    shutil.copytree(checkpoints["llama"], copy)
    original = HFEngine(checkpoints["llama"]).fingerprint
    assert HFEngine(copy).fingerprint == original
    assert HFEngine(copy, dtype="bfloat16").fingerprint != original
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert HFEngine(copy).fingerprint != original


def test_a_folder_without_weights(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """A folder that lacks a part of the model is named with the remedy, in one line."""
    bare = tmp_path / "bare"
    shutil.copytree(checkpoints["llama"], bare, ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(UserError, match="bare has no weights"):
        HFEngine(bare).generate(["a"], stop=(), decoding=Decoding(max_tokens=1))
    (bare / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(UserError, match="cannot load the model of .*bare"):
        HFEngine(bare).generate(["a"], stop=(), decoding=Decoding(max_tokens=1))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="cannot load the tokenizer of .*empty"):
        HFEngine(tmp_path / "empty").generate(["a"], stop=(), decoding=Decoding(max_tokens=1))
    with pytest.raises(UserError, match="there is no model folder .*nowhere"):
        HFEngine(tmp_path / "nowhere").generate(["a"], stop=(), decoding=Decoding(max_tokens=1))


def test_settings_are_checked() -> None:
    """A mistake in a setting is told at once."""
    with pytest.raises(UserError, match="dtype must be auto, float32"):
        HFEngine("x", dtype="int8")
    with pytest.raises(UserError, match="cannot use the device 'gpu'"):
        _ = HFEngine("x", device="gpu")._device
    with pytest.raises(UserError, match="batch_size must be >= 1"):
        HFEngine("x", batch_size=0)
