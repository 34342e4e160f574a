"""Engine `hf` on a GPU: the contract, and plain `generate`'s text. Skipped where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from icl_align.engines.hf import HFEngine
from icl_align.models import bundled
from icl_align.prompt import Prompt
from icl_align.testing import check_engine
from icl_align.types import Decoding

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
QUERIES = ["What is the symbol of gold?", "What is the capital of Japan?", "Who are you?"]


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2", "gptj"])
def test_the_contract_in_float32(checkpoints: dict[str, Path], kind: str) -> None:
    """Text does not depend on batch mates there either."""
    check_engine(lambda: HFEngine(checkpoints[kind], device="cuda", dtype="float32", batch_size=3))


def test_the_contract_in_bfloat16() -> None:
    """Most of the bundled model's texts stay the same whatever the batch."""
    check_engine(lambda: HFEngine(bundled("base"), device="cuda", dtype="bfloat16"), agreement=0.6)


def test_greedy_equals_plain_generate() -> None:
    """The bundled model in float32, with its usual prompt; packed, by the device's own kernels."""
    prompt = Prompt.from_text(bundled("baseline.txt").read_text("utf-8"))
    rendered = [prompt.render(query) for query in QUERIES]
    engine = HFEngine(bundled("base"), device="cuda", dtype="float32")
    assert engine.strategy == "packed"
    found = engine.generate(rendered, stop=(), decoding=Decoding(max_tokens=48))
    model: Any = engine._model
    for text, response in zip(rendered, found, strict=True):
        ids = torch.tensor([engine._encode(text)], device="cuda")
        out = model.generate(ids, max_new_tokens=48, do_sample=False)[0, ids.shape[1] :]
        wanted = engine._tokenizer.decode(out, skip_special_tokens=True)
        assert response.text == wanted


def test_the_gpu_and_the_cpu_score_alike() -> None:
    """Log-probabilities in float32 differ by rounding only."""
    pairs = [
        (f"# Query:\n{query}\n\n# Answer:\n", "The symbol of gold is Au.") for query in QUERIES
    ]
    there = HFEngine(bundled("base"), device="cuda", dtype="float32").loglikelihood(pairs)
    here = HFEngine(bundled("base"), device="cpu").loglikelihood(pairs)
    for one, other in zip(there, here, strict=True):
        assert one.tokens == other.tokens
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-2)
