"""The generation benchmark at tiny sizes: what it counts, what it compares, what it writes down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from bench.child import Timing
from bench.contestants import CONTESTANTS
from bench.generation import main, parse
from bench.report import Entry, Sheet, Spread, split
from bench.shapes import SHAPES, Cell, Shape, save_checkpoint, words
from bench.work import Machine, decode_floor, decode_flops, flops, keys_seen, prefill_flops

TINY = SHAPES["tiny"]
NAMES = "one-by-one,icl_align"


def test_work_is_counted_as_written_by_hand() -> None:
    """Two operations per matrix parameter and token, the prefix once, logits only where one is chosen."""
    shape = Shape(4, 1, 2, 1, 2, 8, 16)
    body = 4 * 4 + 4 * 2 + 4 * 2 + 4 * 4 + 3 * 4 * 8  # q, k, v, o, feed-forward
    assert shape.body == body
    assert shape.head == 4 * 16
    cell = Cell(prefix=10, batch=1, new=3)
    (own,) = cell.suffixes()
    keys = sum(range(1, 10 + own + 1))
    assert prefill_flops(shape, cell) == 2 * body * (10 + own) + 2 * 64 + 4 * 2 * 2 * keys
    later = (10 + own + 1) + (10 + own + 2)
    assert decode_flops(shape, cell) == 2 * (body + 64) * 2 + 4 * 2 * 2 * later
    assert flops(shape, cell) == prefill_flops(shape, cell) + decode_flops(shape, cell)


def test_a_shared_prefix_is_counted_once() -> None:
    """Twice the rows add suffixes and steps, no second prefix."""
    assert keys_seen(0, 3) == 6
    assert keys_seen(5, 2) == 6 + 7
    one, two = (prefill_flops(TINY, Cell(3000, batch, 1)) for batch in (1, 2))
    assert two < 1.1 * one


def test_the_count_agrees_with_the_figures_on_record() -> None:
    """The 30M shape at 1500 x 32 x 64 needs about 300 GFLOP, as first counted by hand."""
    assert 250e9 < flops(SHAPES["30M"], Cell(1500, 32, 64)) < 350e9


def test_a_step_is_bound_by_the_slower_of_reading_and_arithmetic() -> None:
    """With a slow memory the floor is bytes, with slow arithmetic operations."""
    cell = Cell(512, 8, 65)
    reading = decode_floor(TINY, cell, Machine(1e30, 1e6), 4)
    read = TINY.body + TINY.head + TINY.kv_values * (512 + sum(cell.suffixes()) + 8 * 65 / 2)
    assert reading == pytest.approx(64 * 4 * read / 1e6)
    assert decode_floor(TINY, cell, Machine(1e6, 1e30), 4) == decode_flops(TINY, cell) / 1e6


def test_prompts_have_exactly_the_tokens_asked_for() -> None:
    """A word is a token; all prompts share the prefix; a seed gives the same ones again."""
    cell = Cell(prefix=50, batch=6, new=4)
    prompts = cell.prompts(128)
    rows = words(128)(prompts)["input_ids"]
    assert [len(row) for row in rows] == [50 + own for own in cell.suffixes()]
    assert len({tuple(row[:50]) for row in rows}) == 1
    assert len(set(prompts)) == 6
    assert cell.prompts(128) == prompts
    assert Cell(50, 6, 4, seed=1).prompts(128) != prompts
    assert cell.longest == 50 + max(cell.suffixes()) + 4


@pytest.mark.parametrize("name", ["tiny", "3M", "bundled"])
def test_a_shape_counts_the_matrices_of_its_checkpoint(name: str, tmp_path: Path) -> None:
    """Parameters as counted are those of the saved model; nothing in it ends a sequence."""
    shape = save_checkpoint(name, tmp_path, device="cpu", dtype="float32")
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    matrices = sum(p.numel() for p in model.parameters() if p.dim() == 2)
    assert shape.parameters == matrices
    assert model.generation_config.eos_token_id is None
    assert model.config.eos_token_id is None


@pytest.mark.parametrize(
    ("name", "millions"), [("3M", 2.94), ("30M", 28.8), ("135M", 162.8), ("8B", 8030)]
)
def test_shapes_are_as_large_as_documented(name: str, millions: float) -> None:
    """Sizes in docs/performance.md."""
    assert SHAPES[name].parameters / 1e6 == pytest.approx(millions, rel=0.01)


def sheet() -> Sheet:
    """One-by-one timed on 2 of 4 rows, and our engine twice as fast and faster."""
    rows = (("a",), ("b",))
    return Sheet(
        "tiny",
        TINY,
        Cell(64, 4, 8),
        [
            Entry("one-by-one", 2, [Timing(1.0, words=rows), Timing(2.0, words=rows)]),
            Entry("icl_align", 4, [Timing(1.0, words=rows), Timing(0.5, words=(("a",), ("x",)))]),
        ],
    )


def test_ratios_are_taken_within_a_round_and_scaled_to_all_rows() -> None:
    """2 of 4 rows in 1 and 2 seconds are 2 and 4 seconds; ratios 2 and 8, median 5."""
    found = sheet()
    slow, fast = found.entries
    assert found.seconds(slow) == {0: 2.0, 1: 4.0}
    assert found.faster(fast, "one-by-one") == Spread(5.0, 2.0, 8.0)
    assert found.equal(fast) == 0.75
    record = found.record(Machine(1e9, 1e9), 4)
    assert record["contestants"][0]["rows_timed"] == 2
    assert record["contestants"][0]["slower_than_icl_align"]["median"] == 5.0
    assert record["contestants"][1]["tokens_per_second"] == pytest.approx(4 * 8 / 0.75)


def test_a_failed_round_is_told_and_not_averaged() -> None:
    """A round without figures leaves the others; none at all leaves a reason."""
    found = sheet()
    found.entries[0].timings[1] = Timing(error="stopped after 3 s")
    record = found.record(Machine(1e9, 1e9), 4)
    assert record["contestants"][0]["rounds"] == 1
    assert record["contestants"][0]["error"] == "stopped after 3 s"
    assert found.faster(found.entries[1], "one-by-one") == Spread(2.0, 2.0, 2.0)
    found.entries[0].timings[0] = Timing(error="no memory")
    assert "seconds" not in found.record(Machine(1e9, 1e9), 4)["contestants"][0]


def test_prefill_and_steps_are_told_apart() -> None:
    """1 new token is prefill; the rest of a longer call is its steps."""
    records = []
    for new, seconds in ((1, 1.0), (11, 2.0)):
        entry = Entry("icl_align", 4, [Timing(seconds)])
        one = Sheet("tiny", TINY, Cell(64, 4, new), [entry])
        records.append(one.record(Machine(1e9, 1e9), 4))
    (line,) = split(records)
    assert "tiny 64 x 4 icl_align: prefill 1.000 s" in line
    assert "step 100.00 ms" in line


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny shape on disk."""
    folder = tmp_path_factory.mktemp("tiny")
    save_checkpoint("tiny", folder, device="cpu", dtype="float32")
    return folder


@pytest.mark.parametrize("name", sorted(CONTESTANTS))
def test_contestants_give_the_text_of_one_by_one(name: str, checkpoint: Path) -> None:
    """In float32 all do the same work: each row exactly as many tokens, and the same ones."""
    cell = Cell(70, 3, 6)
    prompts = cell.prompts(TINY.vocabulary)
    found, plain = (
        CONTESTANTS[one](checkpoint, "cpu", "float32").run(prompts, cell.new)
        for one in (name, "one-by-one")
    )
    assert [len(row) for row in found] == [6, 6, 6]
    assert found == plain
    assert len({word for row in plain for word in row}) > 3


def test_contestants_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Contestants run in turns, give the text of one-by-one, and are in the table and the record."""
    file = tmp_path / "record.json"
    sizes = ["--models", "tiny", "--prefix", "64,600", "--batch", "3", "--new", "4"]
    options = ["--contestants", NAMES, "--rounds", "1", "--rows", "2", "--threads", "1"]
    assert main([*sizes, *options, "--json", str(file)]) == 0
    record = json.loads(file.read_text("utf-8"))
    assert record["version"] == 1
    assert record["gemm_flops"]["best"] > 1e9
    small, large = record["cells"]
    assert [one["contestant"] for one in small["contestants"]] == NAMES.split(",")
    for one in small["contestants"]:
        assert one["error"] is None
        assert one["equal_text"] == 1.0
        assert one["peak_mib"] > one["extra_mib"] >= 0
    for one in large["contestants"]:
        assert one["error"] == f"rows of {Cell(600, 3, 4).longest} tokens, the context is 512"
    told = capsys.readouterr()
    assert "one-by-one (2 rows timed)" in told.out
    assert "round 1 of 1" in told.err


def test_a_call_over_its_limit_is_given_up(tmp_path: Path) -> None:
    """The others go on; the record says why there is no figure."""
    file = tmp_path / "record.json"
    sizes = ["--models", "tiny", "--prefix", "64", "--batch", "3", "--new", "4", "--limit", "0.01"]
    options = ["--contestants", "icl_align", "--rounds", "1", "--threads", "1"]
    assert main([*sizes, *options, "--json", str(file)]) == 0
    (cell,) = json.loads(file.read_text("utf-8"))["cells"]
    assert cell["contestants"][0]["error"] == "stopped after 0 s"


def test_unknown_names_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt contestant is no empty run."""
    with pytest.raises(SystemExit, match="2"):
        parse(["--contestants", "icl-align"])
    assert "'icl-align' is none of one-by-one, left-padded" in capsys.readouterr().err
