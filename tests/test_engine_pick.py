"""The picker penalises and samples as published, row by row."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import RepetitionPenaltyLogitsProcessor

from icl_align.engines._pick import Picker
from icl_align.engines._row import Row
from icl_align.types import Decoding


@pytest.mark.parametrize("scope", ["generated", "all"])
def test_repetition_penalty_is_hugging_faces(scope: Any) -> None:
    """The penalty is CTRL's, over the generated tokens or over all of them, as transformers computes it."""
    prompt, new = [3, 5, 7], [11, 5]
    logits = torch.randn(1, 16, generator=torch.Generator().manual_seed(0))
    decoding = Decoding(repetition_penalty=1.3, repetition_scope=scope)
    picker = Picker(decoding, torch.device("cpu"))
    picker.join([Row(0, prompt, new=list(new))])
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
    picker = Picker(Decoding(temperature=temperature, top_p=top_p), torch.device("cpu"))
    picker.join(rows)
    chosen = picker(logits.expand(len(rows), -1))
    counts = torch.bincount(chosen, minlength=5).double() / len(rows)
    assert (counts - wanted).abs().max() < 0.015
    assert bool((counts[wanted == 0] == 0).all())


@pytest.mark.parametrize(
    "decoding",
    [Decoding(temperature=1.0), Decoding(repetition_penalty=2.0, repetition_scope="all")],
    ids=["sampled", "penalised"],
)
def test_a_row_that_joins_again_goes_on_as_before(decoding: Decoding) -> None:
    """A row that left for want of memory draws the numbers, and has the penalties, it would have had."""
    generator = torch.Generator().manual_seed(1)
    logits = [torch.randn(2, 50, generator=generator) for _ in range(8)]
    rows = [Row(0, [1, 2], stream=7), Row(1, [3], stream=8)]
    picker = Picker(decoding, torch.device("cpu"))
    picker.join(rows)
    wanted = []
    for step in logits:
        chosen = picker(step).tolist()
        wanted.append(chosen)
        for row, token in zip(rows, chosen, strict=True):
            row.new.append(token)
    rows = [Row(i, row.ids, row.stream, row.new[:4]) for i, row in enumerate(rows)]
    again = Picker(decoding, torch.device("cpu"))
    again.join(rows[:1])
    again.join(rows[1:])
    found = [again(step).tolist() for step in logits[4:]]
    assert found == wanted[4:]
    again.keep([1, 0])
    assert [row.index for row in again.rows] == [1, 0]
