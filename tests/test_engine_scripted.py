"""Engine `scripted` says what its script says, within the contract of an engine."""

from __future__ import annotations

import pytest

from icl_align.engines import ContextOverflowError, Tokenizing
from icl_align.engines.scripted import ScriptedEngine
from icl_align.errors import UserError
from icl_align.testing import check_engine
from icl_align.types import Decoding, Response


def echo(prompt: str) -> str:
    return f" {prompt}, said the echo, and then it said it again and again until nobody listened"


def one(
    engine: ScriptedEngine, prompt: str, stop: tuple[str, ...] = (), bound: int = 8
) -> Response:
    (response,) = engine.generate([prompt], stop=stop, decoding=Decoding(max_tokens=bound))
    return response


def test_the_contract() -> None:
    """The public contract suite passes."""
    check_engine(lambda: ScriptedEngine(echo))


def test_a_function_and_a_mapping_are_scripts() -> None:
    """Both give the same response to the same prompt."""
    wanted = Response(" fine, thanks", 2, "stop", prompt_tokens=3)
    assert one(ScriptedEngine(lambda _: " fine, thanks"), "how are you") == wanted
    assert one(ScriptedEngine({"how are you": " fine, thanks"}), "how are you") == wanted


def test_a_mapping_gives_replies_and_nothing_else() -> None:
    """Known prompts get their reply, unknown ones an empty one; calls are counted."""
    engine = ScriptedEngine({"a": "one  two\nthree", "b": "x"})
    found = engine.generate(["a", "b", "c"], stop=(), decoding=Decoding())
    assert [response.text for response in found] == ["one  two\nthree", "x", ""]
    assert engine.calls == 3


@pytest.mark.parametrize(
    ("stop", "text", "tokens"),
    [
        (("three",), "one two ", 3),
        (("wo thr",), "one t", 3),
        (("four", "two"), "one ", 2),
        (("one",), "", 1),
    ],
)
def test_stop_strings_end_the_text(stop: tuple[str, ...], text: str, tokens: int) -> None:
    """The earliest one counts, across words too, and nothing behind it is counted as generated."""
    found = one(ScriptedEngine(lambda _: "one two three four"), "count", stop)
    assert (found.text, found.tokens, found.finish) == (text, tokens, "stop")


def test_the_bound_is_in_words() -> None:
    """A reply that just fits has stopped by itself; one word more and it was cut."""
    engine = ScriptedEngine(lambda _: "one two three\n")
    assert one(engine, "count", bound=4) == Response("one two three\n", 4, "stop", prompt_tokens=1)
    assert one(engine, "count", bound=2) == Response("one two", 2, "length", prompt_tokens=1)
    cut = one(engine, "count", ("three",), bound=2)
    assert cut.finish == "length", "a stop string behind the bound was never generated"


def test_calls_are_counted() -> None:
    """Each prompt counts, so that a test can say what was paid for."""
    engine = ScriptedEngine(echo)
    engine.generate(["a", "b"], stop=(), decoding=Decoding())
    engine.generate([], stop=(), decoding=Decoding())
    assert engine.calls == 2


def test_a_prompt_too_long_is_refused_before_any_work() -> None:
    """The second prompt does not fit, so the first is not continued either."""
    engine = ScriptedEngine(echo, context_length=10)
    assert isinstance(engine, Tokenizing)
    with pytest.raises(ContextOverflowError, match="prompt 1 has 3 tokens and max_tokens is 8"):
        engine.generate(["a b", "a b c"], stop=(), decoding=Decoding(max_tokens=8))
    assert engine.calls == 0


@pytest.mark.parametrize("stop", ["###", ("",)])
def test_a_stop_string_that_would_match_anything_is_refused(stop: tuple[str, ...]) -> None:
    """A lone string is a list of letters, an empty one stands everywhere."""
    with pytest.raises(UserError, match="stop must be a list of strings that are not empty"):
        one(ScriptedEngine(echo), "a", stop)


def test_the_name_is_the_fingerprint() -> None:
    """Scripts are told apart by the name their author gives."""
    assert ScriptedEngine(echo).fingerprint == "scripted:scripted"
    assert ScriptedEngine(echo, name="mine").fingerprint == "scripted:mine"
