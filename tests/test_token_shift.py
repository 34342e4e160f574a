"""Promises of icl_align.analysis.token_shift: figures, classes, files, and what a pack removes."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from conftest import VOCABULARY
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from icl_align.analysis._shift_compare import Figures, compared
from icl_align.analysis._shift_files import shift_table, write_shift
from icl_align.analysis._shift_measure import whole
from icl_align.analysis._shift_summary import removal
from icl_align.analysis._token_classes import kinds, spans, visible
from icl_align.analysis.token_shift import (
    ZERO_SHOT,
    Reader,
    ShiftReport,
    TokenShift,
    token_shift,
)
from icl_align.cli.shift import shift
from icl_align.data import read_examples
from icl_align.engines import ContextOverflowError
from icl_align.errors import UserError
from icl_align.models import bundled
from icl_align.pack import Pack
from icl_align.prompt import FORMATS, Prompt
from icl_align.types import Example, Turn

BARE = Prompt("", (), FORMATS["block"])
HAND = Pack.load(bundled("baseline.txt")).prompt
HEADINGS = HAND.with_format(FORMATS["headings"])
EXAMPLES = read_examples(bundled("test.jsonl"))


@pytest.fixture(scope="module")
def pair() -> tuple[Reader, Reader]:
    return Reader(str(bundled("base")), device="cpu"), Reader(str(bundled("aligned")), device="cpu")


@pytest.fixture(scope="module")
def report(pair: tuple[Reader, Reader]) -> ShiftReport:
    return token_shift(*pair, EXAMPLES[:24], {"hand": HAND, "headings": HEADINGS})


def slow(
    folders: Sequence[str], contexts: Sequence[Sequence[int]], tokens: Sequence[int]
) -> list[tuple[int, float, float, float]]:
    """Rank, probability and both KL of each token, by one forward pass per token; nothing is ours."""
    models = [
        AutoModelForCausalLM.from_pretrained(one, dtype=torch.float64).eval() for one in folders
    ]
    found = []
    for place, token in enumerate(tokens):
        sides = []
        for model, context in zip(models, contexts, strict=True):
            ids = torch.tensor([[*context, *tokens[:place]]])
            with torch.no_grad():
                logits = model(ids, use_cache=False).logits[0, -1].numpy()
            exponentials = np.exp(logits - logits.max())
            sides.append(exponentials / exponentials.sum())
        q, p = sides
        rank = sorted(q, reverse=True).index(q[token]) + 1
        found.append(
            (rank, float(q[token]), float(sum(p * np.log(p / q))), float(sum(q * np.log(q / p))))
        )
    return found


def of(report: ShiftReport, name: str, example: int) -> list[TokenShift]:
    return [one for one in report.tokens[name] if one.example == example]


def same(found: Sequence[TokenShift], expected: Sequence[tuple[int, float, float, float]]) -> None:
    assert [one.figures.rank for one in found] == [rank for rank, *_ in expected]
    for one, (_, probability, kl, back) in zip(found, expected, strict=True):
        assert np.exp(one.figures.logprob) == pytest.approx(probability, abs=1e-7)
        assert one.figures.kl == pytest.approx(kl, abs=1e-5)
        assert one.figures.kl_back == pytest.approx(back, abs=1e-5)


@pytest.mark.parametrize(("name", "prompt"), [(ZERO_SHOT, BARE), ("hand", HAND)])
def test_one_pass_gives_what_one_pass_per_token_gives(
    report: ShiftReport, pair: tuple[Reader, Reader], name: str, prompt: Prompt
) -> None:
    """Ranks are equal and KL within 1e-5 of an independent implementation, token by token."""
    output = report.outputs[1]
    context = AutoTokenizer.from_pretrained(bundled("base"))(prompt.render(output.example))
    expected = slow([one.id for one in pair], [context["input_ids"], output.prompt], output.answer)
    same([one for one in of(report, name, 1) if one.kind != "end"], expected)


def test_the_end_is_one_token(report: ShiftReport, pair: tuple[Reader, Reader]) -> None:
    """What ends an answer has the worst rank, the product of probabilities, the sum of KL."""
    output = report.outputs[0]
    tokens = (*output.answer, *output.end)
    expected = slow([one.id for one in pair], [output.prompt] * 2, tokens)[-len(output.end) :]
    (last,) = [one for one in of(report, ZERO_SHOT, 0) if one.kind == "end"]
    assert last.text == "\n```"
    assert last.position == len(output.answer)
    assert last.figures.rank == max(rank for rank, *_ in expected)
    assert np.exp(last.figures.logprob) == pytest.approx(np.prod([row[1] for row in expected]))
    assert last.figures.kl == pytest.approx(sum(row[2] for row in expected), abs=1e-5)


def test_an_end_of_unlike_tokens_has_the_worst_rank() -> None:
    """One token's KL that is not there leaves the end without one, not with a smaller one."""
    parts = [Figures(1, -0.5, -0.25, 1, 0.25, 0.5), Figures(4, -2.0, -0.5, 2, 0.5, 1.0)]
    assert whole(parts) == Figures(4, -2.5, -0.75, 2, 0.75, 1.5)
    assert whole([parts[0], Figures(3, -1.0)]) == Figures(3, -1.5)


@pytest.mark.parametrize(("one", "other"), [("llama", "qwen2"), ("gemma2", "bloom")])
@pytest.mark.parametrize("most", [2**25, 5 * VOCABULARY])
def test_other_architectures(
    checkpoints: dict[str, Path], tmp_path: Path, one: str, other: str, most: int
) -> None:
    """Also where attention cannot be computed in parts, and where a text is cut for memory's sake."""
    base, aligned = (
        Reader(str(_named(checkpoints[name], tmp_path / name)), device="cpu")
        for name in (one, other)
    )
    examples = [Example("Why?"), Example("The sea is blue"), Example("How? \u00e9")]
    report = token_shift(base, aligned, examples, max_tokens=14, most_logits=most)
    for index, output in enumerate(report.outputs):
        context = base.encode(BARE.render(output.example))
        expected = slow([base.id, aligned.id], [context, output.prompt], output.answer)
        found = [one for one in of(report, ZERO_SHOT, index) if one.kind != "end"]
        same(found, expected)
        assert [one.position for one in found] == list(range(len(output.answer)))


def _named(checkpoint: Path, folder: Path) -> Path:
    """A checkpoint whose tokenizer knows every token that its random model may say."""
    shutil.copytree(checkpoint, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"<{number}>" for number in range(len(tokenizer), VOCABULARY)])
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_lower_precision_shares_beginnings_and_is_near(report: ShiftReport, dtype: str) -> None:
    """In float32, where texts are read together, figures differ by rounding only."""
    base, aligned = (
        Reader(str(bundled(name)), device="cpu", dtype=dtype) for name in ("base", "aligned")
    )
    near = token_shift(base, aligned, EXAMPLES[:6], {"hand": HAND})
    allowed = 1e-4 if dtype == "float32" else 0.3
    for name in near.tokens:
        for index in range(6):
            if near.outputs[index].answer == report.outputs[index].answer:
                for mine, exact in zip(of(near, name, index), of(report, name, index), strict=True):
                    assert mine.figures.kl == pytest.approx(exact.figures.kl, abs=allowed)


def test_answers_are_greedy(report: ShiftReport, pair: tuple[Reader, Reader]) -> None:
    """The answer is what `transformers` generates greedily, and each token the aligned model's first."""
    model = AutoModelForCausalLM.from_pretrained(bundled("aligned"), dtype=torch.float64).eval()
    for output in report.outputs[:4]:
        ids = torch.tensor([output.prompt])
        wanted = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=80
        )[0, len(output.prompt) :].tolist()
        made = [*output.answer, *output.end]
        assert made == wanted[: len(made)]
    firsts = [one.figures.aligned_rank for one in report.tokens[ZERO_SHOT]]
    assert set(firsts) == {1}


def test_shape_on_the_bundled_pair(report: ShiftReport) -> None:
    """Most positions are unshifted; what moved is stylistic and first; a good pack removes most of it."""
    content = report.to_json()
    zero, hand = content["contexts"][ZERO_SHOT], content["contexts"]["hand"]
    assert zero["unshifted"] > 0.9
    assert zero["unshifted"] + zero["marginal"] + zero["shifted"] == pytest.approx(1)
    kind = zero["by_class"]
    assert kind["stylistic"]["unshifted"] < kind["content"]["unshifted"] - 0.03
    moved = {name: part["tokens"] * (1 - part["unshifted"]) for name, part in kind.items()}
    assert moved["stylistic"] > 0.8 * sum(moved.values())
    first, *rest = zero["by_position"]
    assert first["unshifted"] < 0.5 < min(part["unshifted"] for part in rest)
    assert first["kl_aligned_base"] > 5 * zero["kl_aligned_base"]
    assert hand["unshifted"] > zero["unshifted"]
    for measure in ("moved", "kl_aligned_base"):
        share = hand["removed"][measure]["share"]
        assert 0.5 < share["mean"] < 0.9
        assert 0.3 < share["low"] < share["mean"] < share["high"] < 1
        assert hand["removed"][measure]["difference"]["low"] > 0


def test_a_context_ends_answers_in_its_own_way(report: ShiftReport) -> None:
    """Behind another format the end is that format's; ranks are there, KL of unlike ends is not."""
    ends = [one for one in report.tokens["headings"] if one.kind == "end"]
    assert {one.text for one in ends} == {"\n\n# User:"}
    assert all(one.figures.kl is None and one.figures.rank >= 1 for one in ends)
    assert len(report.tokens["headings"]) == len(report.tokens[ZERO_SHOT])
    assert all(one.figures.kl is not None for one in report.tokens[ZERO_SHOT])


def test_a_chat_template_is_used(pair: tuple[Reader, Reader], tmp_path: Path) -> None:
    """An aligned model with a chat template is asked in it, earlier turns included."""
    folder = tmp_path / "chat"
    shutil.copytree(bundled("aligned"), folder)
    # Gives "User:" and "Assistant:" documents, which the sibling knows.
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ 'User:\n' if m.role == 'user' else 'Assistant:\n' }}{{ m.content }}"
        "{{ '\n\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:\n' }}{% endif %}"
    )
    aligned = Reader(str(folder), device="cpu")
    example = Example("How do I make soup?", turns=(Turn("Hi", "Hello there!"),))
    found = token_shift(pair[0], aligned, [example], max_tokens=12)
    assert found.template == "chat"
    sent = aligned.tokenizer.decode(found.outputs[0].prompt)
    assert (
        sent
        == "User:\nHi\n\nAssistant:\nHello there!\n\nUser:\nHow do I make soup?\n\nAssistant:\n"
    )
    assert len(found.outputs[0].answer) == 12 and not found.outputs[0].end
    assert found.to_json()["unfinished"] == 1


def test_an_answer_that_ran_into_the_bound_has_no_end(pair: tuple[Reader, Reader]) -> None:
    found = token_shift(*pair, EXAMPLES[:2], max_tokens=5)
    assert {one.kind for one in found.tokens[ZERO_SHOT]} <= {"stylistic", "content", "punctuation"}
    assert found.to_json()["unfinished"] == 2


def test_other_tokenizers_are_refused(
    pair: tuple[Reader, Reader], checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    """A reason says which token differs; tokens added for one model alone are no reason."""
    stranger = Reader(str(checkpoints["llama"]), device="cpu")
    with pytest.raises(UserError, match="do not share a tokenizer: id .* of the base one"):
        token_shift(pair[0], stranger, EXAMPLES[:1])
    folder = tmp_path / "more"
    shutil.copytree(bundled("aligned"), folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<|pad|>"])
    tokenizer.save_pretrained(folder)
    found = token_shift(pair[0], Reader(str(folder), device="cpu"), EXAMPLES[:1], max_tokens=3)
    assert found.vocabulary == 2048


def test_what_does_not_fit_is_told_before_any_work(pair: tuple[Reader, Reader]) -> None:
    long = Prompt(HAND.system * 12, HAND.exemplars, HAND.format)
    with pytest.raises(ContextOverflowError, match="instruction 0 behind long has .* tokens"):
        token_shift(*pair, EXAMPLES[:1], {"long": long})
    with pytest.raises(UserError, match="at least one instruction"):
        token_shift(*pair, [])


def test_ties_count_for_the_token() -> None:
    """The rank is 1 plus the number of strictly likelier tokens."""
    logits = torch.tensor([[1.0, 3.0, 3.0, 0.0], [1.0, 3.0, 3.0, 0.0]])
    assert [one.rank for one in compared(logits, [2, 0], logits, 4)] == [1, 3]
    assert compared(logits, [2, 0], logits[:1], 4)[1].kl is None


def test_tokens_that_one_model_lacks_are_left_out() -> None:
    """Probabilities and ranks are over the tokens that both know."""
    wide = torch.tensor([[0.0, 0.0, 9.0]])
    (found,) = compared(wide, [1], torch.tensor([[0.0, 0.0]]), 2)
    assert found == Figures(1, -np.log(2), -np.log(2), 1, 0.0, 0.0)


def test_a_large_vocabulary_is_taken_in_pieces() -> None:
    """The same figures, however many logits are taken at once."""
    generator = torch.Generator().manual_seed(0)
    base, aligned = (torch.randn(9, 2**19, generator=generator) * 3 for _ in range(2))
    tokens = [7, 2**19 - 1, 3, 0, 5, 11, 12, 13, 14]
    for one, aligned_row, base_row, token in zip(
        compared(base, tokens, aligned, 2**19), aligned.double(), base.double(), tokens, strict=True
    ):
        p, q = aligned_row.softmax(0), base_row.softmax(0)
        assert one.kl == pytest.approx(float((p * (p / q).log()).sum()), abs=1e-9)
        assert one.kl_back == pytest.approx(float((q * (q / p).log()).sum()), abs=1e-9)
        assert one.rank == 1 + int((q > q[token]).sum())


def test_what_has_no_probability() -> None:
    """A masked token adds nothing where both mask it; where one alone does, KL is refused."""
    inf = float("inf")
    one, other = torch.tensor([[0.0, 0.0, -inf]]), torch.tensor([[0.0, 1.0, -inf]])
    assert compared(one, [0], other, 3)[0].kl == pytest.approx(0.1101, abs=1e-3)
    with pytest.raises(UserError, match="not finite"):
        compared(one, [0], torch.tensor([[0.0, 0.0, 0.0]]), 3)


@given(st.lists(st.floats(-20, 20), min_size=2, max_size=30), st.data())
def test_kl_is_no_less_than_zero(values: list[float], data: st.DataObject) -> None:
    """KL is 0 of equal distributions and never negative."""
    same_size = st.lists(st.floats(-20, 20), min_size=len(values), max_size=len(values))
    one, other = torch.tensor([values]), torch.tensor([data.draw(same_size)])
    (found,) = compared(one, [0], other, len(values))
    assert found.kl is not None and found.kl >= 0
    assert compared(one, [0], one, len(values))[0].kl == 0
    assert 1 <= found.rank <= len(values)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Thanks for asking!", "s s s p"),
        ("The capital is Lima.", "s c s c p"),
        ("1. Boil 2 eggs", "p p c c c"),
        ("I don\u2019t know", "s s s s"),
        ("**Note** \u4f60\u597d", "p s p c"),
    ],
)
def test_classes_follow_the_rule(text: str, expected: str) -> None:
    """Punctuation without letters and digits, list numbers; stylistic by the list; content else."""
    ends, at = [], 0
    for piece in _pieces(text):
        at += len(piece)
        ends.append(at)
    assert [kind[0] for kind in kinds(text, ends)] == expected.split()


def _pieces(text: str) -> list[str]:
    import re

    return re.findall(r"\s*(?:[^\W_]+|\u2019[^\W_]+|[^\w\s]+)", text)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_token_texts_make_up_the_answer(text: str) -> None:
    """Texts of tokens put together are the text, characters of several tokens too."""
    tokenizer = _tokenizer()
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    whole, ends = spans(tokenizer, ids)
    assert "".join(whole[a:b] for a, b in zip([0, *ends], ends, strict=False)) == whole
    assert len(kinds(whole, ends)) == len(ids)
    assert ends == sorted(ends)


def _tokenizer(held: list[Any] = []) -> Any:  # noqa: B006 (loaded once)
    if not held:
        held.append(AutoTokenizer.from_pretrained(bundled("base")))
    return held[0]


@given(st.text())
def test_visible_text_cannot_steer(text: str) -> None:
    """What is shown is printable, one line, and tells backslashes from escapes."""
    assert visible(text).isprintable()
    assert visible("\x1b[2J\n\u202e\\") == "\\x1b[2J\\n\\u202e\\\\"


def _token(example: int, rank: int, kl: float) -> TokenShift:
    return TokenShift(example, 0, 0, "a", "content", Figures(rank, -1.0, -1.0, 1, kl, kl))


def test_removal_is_paired_by_answer() -> None:
    """The share is of means per answer; with too few answers to remove from there is none."""
    zero = [_token(i, 2, 1.0) for i in range(10)] + [_token(i, 1, 0.0) for i in range(10)]
    pack = [_token(i, 1 + (i < 2), 0.25) for i in range(10)]
    found = removal(zero, pack)
    assert found["moved"]["zero_shot"] == 0.5
    assert found["moved"]["pack"] == pytest.approx(0.2)
    assert found["moved"]["share"]["mean"] == pytest.approx(0.6)
    assert found["moved"]["share"]["low"] < 0.6 < found["moved"]["share"]["high"]
    assert found["kl_aligned_base"]["share"]["low"] == pytest.approx(0.5)
    assert found["shifted"]["share"] is None


def test_files_are_whole_and_safe(report: ShiftReport, tmp_path: Path) -> None:
    """JSON of a version, a line per token, a table and figures; no character that steers a terminal."""
    files = write_shift(report, tmp_path / "new" / "shift")
    names = ["shift.json", "shift.png", "shift.svg", "shift.txt", "tokens.jsonl"]
    assert (
        [file.name for file in files] == names == sorted(p.name for p in files[0].parent.iterdir())
    )
    content = json.loads(files[0].read_text())
    assert content["version"] == 1
    assert content == json.loads(json.dumps(report.to_json()))
    lines = files[-1].read_text().splitlines()
    assert len(lines) == sum(map(len, report.tokens.values()))
    for line in lines:
        assert line.isascii() and line.isprintable()
    first = json.loads(lines[0])
    assert (first["text"], first["class"], first["position"]) == ("Thanks", "stylistic", 0)
    assert "\\n" in {json.loads(line)["text"] for line in lines}
    assert "% removed" in (files[3].read_text())


@pytest.mark.parametrize("name", ["$x_{", "_", "$\\frac", "a" * 200, "\u4f60"])
@pytest.mark.filterwarnings("ignore:Glyph:UserWarning")
def test_names_of_packs_are_no_formulas(report: ShiftReport, tmp_path: Path, name: str) -> None:
    tokens: Mapping[str, Sequence[TokenShift]] = {
        ZERO_SHOT: report.tokens[ZERO_SHOT],
        name: report.tokens["hand"],
    }
    odd = ShiftReport(report.models, "zero-shot", report.outputs, 0, 200, 2048, tokens)
    assert all(file.stat().st_size for file in write_shift(odd, tmp_path))
    assert name in shift_table(odd.to_json())


def test_the_verb(tmp_path: Path) -> None:
    """It writes the files, prints a table or one JSON object, and keeps equal names apart."""
    app = typer.Typer()
    app.command()(shift)
    (tmp_path / "zero-shot.txt").write_text(bundled("baseline.txt").read_text())
    given = ["--base", "bundled", "--aligned", "bundled", "--input", str(bundled("dev.jsonl"))]
    given += ["--out", str(tmp_path / "out"), "--limit", "5", "--max-tokens", "60"]
    for file in (bundled("baseline.txt"), bundled("baseline.txt"), tmp_path / "zero-shot.txt"):
        given += ["--pack", str(file)]
    done = CliRunner().invoke(app, [*given, "--json"])
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    assert list(content["contexts"]) == [
        ZERO_SHOT, "baseline", "baseline (2)", "zero-shot (2)"
    ]  # fmt: skip
    assert content["contexts"]["baseline"] == content["contexts"]["baseline (2)"]
    assert all(Path(file).stat().st_size for file in content["files"])
    plain = CliRunner().invoke(app, given)
    assert plain.stdout.startswith("context") and "% removed" in plain.stdout
    long = CliRunner().invoke(app, [*given, "--max-tokens", "700"])
    assert isinstance(long.exception, UserError) and "lower max_tokens" in str(long.exception)


def test_the_verb_reads_on_the_device_and_in_the_dtype_named(tmp_path: Path) -> None:
    """The JSON says in which dtype the models were really read; on a CPU a small one is exact."""
    app = typer.Typer()
    app.command()(shift)
    given = ["--base", "bundled", "--aligned", "bundled", "--input", str(bundled("dev.jsonl"))]
    given += ["--out", str(tmp_path), "--limit", "2", "--max-tokens", "20", "--device", "cpu"]
    for dtype, said in (("bfloat16", "bfloat16"), ("float32", "float32"), ("auto", "float64")):
        done = CliRunner().invoke(app, [*given, "--dtype", dtype, "--json"])
        assert done.exit_code == 0, done.output
        models = json.loads(done.stdout)["models"]
        assert [models[name]["dtype"] for name in ("base", "aligned")] == [said, said]
        assert json.loads((tmp_path / "shift.json").read_text())["models"] == models


@pytest.mark.parametrize(
    ("option", "name", "message"),
    [
        ("--dtype", "int8", "dtype must be one of auto, float64, .*float16, got 'int8'"),
        ("--device", "tpu9", "cannot use the device 'tpu9': .*; give auto, cpu, cuda"),
        ("--device", "cuda:4096", "cannot use the device 'cuda:4096'"),
    ],
)
def test_a_device_or_dtype_that_is_not_there_is_told(
    tmp_path: Path, option: str, name: str, message: str
) -> None:
    """In one line and before a model is loaded."""
    app = typer.Typer()
    app.command()(shift)
    given = ["--base", str(tmp_path / "none"), "--aligned", "bundled"]
    given += ["--input", str(bundled("dev.jsonl")), "--out", str(tmp_path), option, name]
    done = CliRunner().invoke(app, given)
    assert isinstance(done.exception, UserError)
    assert re.search(message, str(done.exception))
