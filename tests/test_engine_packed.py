"""Packed rows: tries of prefixes, rows that join and leave, prefixes remembered, texts scored."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import KINDS, tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_align.engines import ContextOverflowError, Scoring, Streaming
from icl_align.engines._attention import Rule, attention, mask_of, merged
from icl_align.engines._linear import use_onednn
from icl_align.engines._packed import Packed, token_bytes
from icl_align.engines._prefixes import Prefixes, joined
from icl_align.engines._row import Row
from icl_align.engines._step import Shared, Slots
from icl_align.engines._stop import Watcher
from icl_align.engines._trie import plan
from icl_align.engines.hf import HFEngine
from icl_align.errors import UserError
from icl_align.types import Decoding

SYSTEM = "The sea is blue and the sky is grey. One, two, three, four, five, six. "
MIXED = [
    *(f"{SYSTEM}How? {SYSTEM}{rest}" for rest in ("a", "The sea", "x y z")),
    *(f"{SYSTEM}Who? {SYSTEM}{rest}" for rest in ("b", "é ü", "grey")),
    "Zebras",
    SYSTEM + "Q",
]


def counted(engine: HFEngine) -> list[int]:
    """Watches how many tokens the model's embedding gets, call by call."""
    seen: list[int] = []
    embedding = engine._model.get_input_embeddings()
    embedding.register_forward_hook(lambda _module, args, _out: seen.append(args[0].numel()))
    return seen


def test_several_prompts_are_a_trie(checkpoints: dict[str, Path]) -> None:
    """Each shared beginning is computed once, and what the engine reports is what the model saw."""
    engine = HFEngine(checkpoints["llama"])
    assert engine.strategy == "packed"
    engine.generate(["warm"], stop=(), decoding=Decoding(max_tokens=1))
    seen = counted(engine)
    found = engine.generate(MIXED, stop=(), decoding=Decoding(max_tokens=6))
    alone = [engine.generate([p], stop=(), decoding=Decoding(max_tokens=6))[0] for p in MIXED]
    assert [r.text for r in found] == [r.text for r in alone]
    shared = engine.count_tokens(SYSTEM)
    assert all(r.reused_tokens >= shared - 1 for r in found[4:6])
    assert found[6].reused_tokens == 0
    seen.clear()
    engine._packed.prefixes.clear()  # type: ignore[union-attr]
    found = engine.generate(MIXED, stop=(), decoding=Decoding(max_tokens=6))
    computed = sum(r.prompt_tokens - r.reused_tokens for r in found)
    assert sum(seen) == computed + sum(
        r.tokens - 1 for r in found
    )  # the last token is not fed back


def test_every_row_joins_and_leaves(checkpoints: dict[str, Path]) -> None:
    """With few places rows of unlike length go through, each once, each as it is alone."""
    engine = HFEngine(checkpoints["llama"], batch_size=3)
    prompts = [f"{SYSTEM}{i}" for i in range(20)]
    decoding = Decoding(max_tokens=40)
    assert isinstance(engine, Streaming)
    found = list(engine.stream(prompts, stop=("a", "3", " "), decoding=decoding))
    assert sorted(index for index, _ in found) == list(range(20))
    lengths = [response.tokens for _, response in found]
    assert len(set(lengths)) > 3
    for index, response in found:
        (wanted,) = engine.generate([prompts[index]], stop=("a", "3", " "), decoding=decoding)
        assert response.text == wanted.text


def test_prefixes_are_remembered_between_calls(checkpoints: dict[str, Path]) -> None:
    """Another prompt that begins alike computes only what differs, and says the same as a new engine."""
    engine = HFEngine(checkpoints["llama"])
    decoding = Decoding(max_tokens=8)
    engine.generate([MIXED[0]], stop=(), decoding=decoding)
    (found,) = engine.generate([MIXED[3]], stop=(), decoding=decoding)
    (fresh,) = HFEngine(checkpoints["llama"]).generate([MIXED[3]], stop=(), decoding=decoding)
    assert found.text == fresh.text
    assert fresh.reused_tokens == 0
    assert found.reused_tokens >= engine.count_tokens(SYSTEM)


@pytest.mark.parametrize("kind", KINDS)
def test_loglikelihood_is_the_models(checkpoints: dict[str, Path], kind: str) -> None:
    """Log-probabilities and ranks are those of a plain forward pass of each text by itself."""
    engine = HFEngine(checkpoints[kind])
    assert isinstance(engine, Scoring)
    texts = (" One, two", "Zebras", " grey é ü", "x")
    pairs = [(prompt, text) for prompt in MIXED[:5] for text in texts]
    for (prompt, text), found in zip(pairs, engine.loglikelihood(pairs), strict=True):
        ids = torch.tensor([engine._encode(prompt + text)])
        with torch.inference_mode():
            table = engine._model(input_ids=ids).logits[0].float().log_softmax(-1)
        start = ids.shape[1] - len(found.tokens)
        assert found.tokens == tuple(ids[0, start:].tolist())
        assert found.prompt_tokens == start
        assert engine._tokenizer.decode(ids[0, :start]) == prompt[: len(prompt)]
        rows = table[start - 1 : -1]
        wanted = rows.gather(1, ids[0, start:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(found.logprobs), wanted, atol=1e-3, rtol=1e-3)
        assert found.ranks == tuple(((rows > wanted[:, None]).sum(1) + 1).tolist())


def test_loglikelihood_shares_beginnings(checkpoints: dict[str, Path]) -> None:
    """The prompt is computed once for all its continuations."""
    engine = HFEngine(checkpoints["llama"])
    found = engine.loglikelihood([(MIXED[0], text) for text in ("a", "b", " Zebras")])
    assert [x.reused_tokens > 0 for x in found].count(True) == 2
    assert math.isclose(
        sum(found[2].logprobs),
        sum(engine.loglikelihood([(MIXED[0], " Zebras")])[0].logprobs),
        abs_tol=1e-3,
    )


def test_texts_that_cannot_be_scored(checkpoints: dict[str, Path]) -> None:
    """Nothing behind a prompt is nothing; nothing before a text, and too long a one, are refused."""
    engine = HFEngine(checkpoints["llama"])
    assert engine.loglikelihood([]) == []
    (empty,) = engine.loglikelihood([("Zebras", "")])
    assert empty.tokens == empty.logprobs == empty.ranks == ()
    with pytest.raises(UserError, match="the prompt of pair 1 is empty"):
        engine.loglikelihood([("a", "b"), ("", "b")])
    with pytest.raises(ContextOverflowError, match=r"pair 0 has \d+ tokens"):
        engine.loglikelihood([("a", "Zebras " * 200)])


def test_scoring_halves_what_memory_does_not_hold(checkpoints: dict[str, Path]) -> None:
    """Texts are scored in smaller parts, with the same numbers; one that does not fit is told."""
    engine = HFEngine(checkpoints["llama"])
    pairs = [(MIXED[0], text) for text in ("a", "b", " Zebras", " grey")]
    wanted = engine.loglikelihood(pairs)
    holds = [3]

    def check(_module: Any, _args: Any, given: dict[str, Any]) -> None:
        if len(given["logits_to_keep"]) > holds[0]:
            raise torch.OutOfMemoryError("CUDA out of memory (a test)")

    handle = engine._model.register_forward_pre_hook(check, with_kwargs=True)
    holds[0] = max(len(found.tokens) for found in wanted)
    for one, other in zip(engine.loglikelihood(pairs), wanted, strict=True):
        assert one.tokens == other.tokens
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
    holds[0] = 1
    with pytest.raises(UserError, match=r"memory does not hold one text of \d+ tokens"):
        engine.loglikelihood([(MIXED[0], "Zebras and more")])
    handle.remove()


TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=40)


@given(st.lists(TOKENS, min_size=1, max_size=12))
def test_a_plan_covers_only_what_rows_share(texts: list[list[int]]) -> None:
    """Rows agree on their prefix, parents hold their children's rows, a last token is never shared."""
    rows = [Row(i, ids) for i, ids in enumerate(texts)]
    found = plan(rows)
    for prefix in found:
        beginnings = {tuple(row.ids[: prefix.end]) for row in prefix.rows}
        assert len(beginnings) == 1
        assert all(prefix.start < prefix.end <= len(row.ids) - 1 for row in prefix.rows)
        parent = None if prefix.parent is None else found[prefix.parent]
        assert prefix.start == (parent.end if parent else 0)
        assert parent is None or {r.index for r in prefix.rows} <= {r.index for r in parent.rows}
        siblings = [p for p in found if p is not prefix and p.start == prefix.start]
        for other in siblings:
            assert not {r.index for r in prefix.rows} & {r.index for r in other.rows}


def test_a_plan_goes_as_deep_as_it_pays() -> None:
    """Long common parts within groups become prefixes, short ones stay with their rows."""
    system, first, second = [1] * 50, [2] * 60, [3] * 60
    rows = [
        Row(i, [*system, *part, 10 + i, 7])
        for i, part in enumerate([first, first, first, second, second, [4] * 3, [4] * 3])
    ]
    found = plan(rows)
    assert sorted((p.start, p.end, len(p.rows)) for p in found) == [(0, 50, 7), (50, 110, 3)]
    assert plan([Row(0, [5])]) == []
    assert [(p.start, p.end) for p in plan([Row(0, [5, 6, 7])])] == [(0, 2)]


def encoder(log: list[tuple[int, int]]) -> Any:
    """Stands for a model: keys are the tokens themselves."""

    def encode(ancestors: Any, ids: Any, start: int) -> Shared:
        assert sum(piece.keys[0].shape[2] for piece in ancestors) == start
        log.append((start, len(ids)))
        keys = torch.tensor(list(ids), dtype=torch.float32)[None, None, :, None]
        return Shared([keys], [keys.clone()], start)

    return encode


@settings(deadline=None)
@given(st.lists(TOKENS, min_size=1, max_size=12), st.sampled_from([0, 100, 10_000]))
def test_remembered_prefixes_are_right_and_bounded(texts: list[list[int]], bound: int) -> None:
    """Whatever was asked before, the pieces make up the text and memory stays within its bound."""
    store, log = Prefixes(bound), list[tuple[int, int]]()
    for ids in texts:
        before = len(log)
        path, computed = store.reach(ids, encoder(log))
        whole = joined(path)
        assert whole.keys[0].flatten().tolist() == ids
        assert whole.start == 0
        assert [piece.start for piece in path] == sorted(piece.start for piece in path)
        assert sum(length for _, length in log[before:]) == computed
        again, nothing = store.reach(ids, encoder(log)) if bound else (path, 0)
        assert nothing == 0
        assert joined(again).keys[0].flatten().tolist() == ids
        store.trim()
        assert store.bytes <= bound


def test_what_was_used_last_is_kept() -> None:
    """Of two texts that both fit alone, the one asked for again stays."""
    log: list[tuple[int, int]] = []
    store, one, two, three = Prefixes(8 * 25), [1] * 10, [2] * 10, [3] * 10
    for ids in (one, two, one, three):
        store.reach(ids, encoder(log))
        store.trim()
    assert store.reach(one, encoder(log))[1] == 0
    assert store.reach(two, encoder(log))[1] == 10


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("rows", [1, 3])
def test_parts_of_a_softmax_add_up(causal: bool, softcap: float | None, rows: int) -> None:
    """Attention over two sets of keys, merged, is attention over both."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(rows, 2, n, 8, generator=generator) for n in (4, 10, 10))
    rule = Rule(0.3, None, softcap)
    visible = torch.ones(4, 10, dtype=torch.bool)
    if causal:
        visible[:, 6:] = torch.ones(4, 4).tril().bool()
    scores = query @ key.transpose(-1, -2) * 0.3
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~visible, -torch.inf)
    before = attention(query, key[:, :, :6], value[:, :, :6], rule)
    behind = attention(query, key[:, :, 6:], value[:, :, 6:], rule, causal=causal)
    masked = attention(query, key, value, rule, mask=mask_of(visible[None, None], torch.float32))
    for out, total in (merged(*before, *behind), masked):
        torch.testing.assert_close(out, scores.softmax(-1) @ value)
        torch.testing.assert_close(total, scores.logsumexp(-1))


def test_slots_grow_and_move() -> None:
    """What is stored stays while buffers grow, and a row moves whole."""
    slots = Slots(2, 2)
    kv = torch.arange(8.0).reshape(2, 2, 2)
    slots.write(0, (torch.tensor([0, 1]), torch.tensor([1, 0])), kv, -kv)
    slots.ensure(3, 10)
    assert slots.room == 3
    slots.ensure(4, 10)
    slots.move(1, 0)
    assert torch.equal(slots.keys[0][0, :, 0], kv[1])
    assert torch.equal(slots.values[0][1, :, 0], -kv[1])


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_onednn_gives_the_same_logits(kind: str) -> None:
    """Within rounding of plain torch, for `Linear` and for `Conv1D`; half precision is left alone."""
    model = tiny_model(kind)
    ids = torch.arange(1, 20)[None]
    with torch.inference_mode():
        wanted = model(input_ids=ids).logits
        assert use_onednn(model) == torch.backends.mkldnn.is_available()
        torch.testing.assert_close(model(input_ids=ids).logits, wanted, atol=1e-4, rtol=1e-4)
    assert not use_onednn(tiny_model(kind).to(torch.bfloat16))


def test_prefixes_that_memory_does_not_hold_together_go_in_waves(
    checkpoints: dict[str, Path],
) -> None:
    """With little memory prompts are run some at a time, with the same text."""
    decoding = Decoding(max_tokens=6)
    wanted = HFEngine(checkpoints["llama"]).generate(MIXED, stop=(), decoding=decoding)
    engine = HFEngine(checkpoints["llama"])
    rows = [Row(i, engine._encode(prompt)) for i, prompt in enumerate(MIXED)]
    rows.sort(key=lambda row: row.ids)
    needed = sum(p.end - p.start for p in plan(rows)) * token_bytes(engine._model)
    packed = Packed(engine._model, Prefixes(0), 8, free=lambda _device: needed * 2)
    waves = list(packed._waves(rows))
    assert len(waves) > 1
    assert [row for wave in waves for row in wave] == rows
    watcher = Watcher(engine._tokenizer, (), engine._ends)
    found = {row.index: response.text for row, response in packed.run(rows, watcher, decoding)}
    assert [found[i] for i in range(len(MIXED))] == [r.text for r in wanted]
