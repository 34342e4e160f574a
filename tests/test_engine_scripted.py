"""Engine `scripted` says what its script says, within the contract."""

from __future__ import annotations

import pytest

from icl_align.engines import ContextOverflowError
from icl_align.engines.scripted import ScriptedEngine
from icl_align.types import Decoding


def test_a_mapping_gives_replies_and_nothing_else() -> None:
    """Known prompts get their reply, unknown ones an empty one; calls are counted."""
    engine = ScriptedEngine({"a": "one  two\nthree", "b": "x"})
    found = engine.generate(["a", "b", "c"], stop=(), decoding=Decoding())
    assert [response.text for response in found] == ["one  two\nthree", "x", ""]
    assert engine.calls == 3


def test_the_bound_keeps_spacing() -> None:
    """Words are tokens, with the white space before them."""
    (response,) = ScriptedEngine(lambda _: "one  two\nthree").generate(
        ["a"], stop=(), decoding=Decoding(max_tokens=2)
    )
    assert (response.text, response.tokens, response.finish) == ("one  two", 2, "length")


def test_stop_strings_cut_at_the_first() -> None:
    """The text ends before the stop string that comes first."""
    (response,) = ScriptedEngine(lambda _: "one two three").generate(
        ["a"], stop=("three", " two"), decoding=Decoding()
    )
    assert (response.text, response.finish) == ("one", "stop")


def test_the_context_is_checked_before_any_work() -> None:
    """A prompt that does not fit is refused, and nothing was called."""
    engine = ScriptedEngine(lambda _: "x", context_length=4)
    with pytest.raises(ContextOverflowError, match="prompt 1 has 3 tokens and max_tokens is 2"):
        engine.generate(["a", "a b c"], stop=(), decoding=Decoding(max_tokens=2))
    assert engine.calls == 0
