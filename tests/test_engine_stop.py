"""The watcher finds stop strings in generated text however tokens cut it."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import tiny_tokenizer
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from icl_align.engines._row import Row
from icl_align.engines._stop import Watcher
from icl_align.types import Response

BYTES: Any = tiny_tokenizer()
END = 0
"""The byte-level tokenizer's end of sequence."""


def spoken(tokenizer: Any, ids: list[int], stop: tuple[str, ...], *, head: int = 5) -> Response:
    """Feeds tokens one by one behind a prompt that ends with `head`."""
    watcher, row = Watcher(tokenizer, stop, {END}), Row(0, [head], 0)
    for token in ids:
        row.new.append(token)
        response = watcher(row, len(ids))
        if response is not None:
            return response
    raise AssertionError("the bound must end a row")


def letters(text: str) -> list[int]:
    """Token ids that each stand for one byte of a text."""
    byte_names = {v: k for k, v in _byte_table().items()}
    return [BYTES.convert_tokens_to_ids(byte_names[byte]) for byte in text.encode()]


def _byte_table() -> dict[str, int]:
    """GPT-2's printable names of bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(rest)}


def test_a_stop_string_over_many_tokens() -> None:
    """The text before it is kept, generation ends with its last token."""
    found = spoken(BYTES, letters("fine.\n# Query:\nmore"), ("\n# Query:",))
    assert (found.text, found.tokens, found.finish) == ("fine.", 14, "stop")


def test_a_stop_string_within_one_token() -> None:
    """A token may hold text before and behind the stop string."""
    one = BYTES.encode(" three")
    assert len(one) == 1
    found = spoken(BYTES, [*letters("a"), *one, *letters("b")], ("hre",))
    assert (found.text, found.tokens, found.finish) == ("a t", 2, "stop")


def test_a_stop_string_at_the_first_character() -> None:
    """Generated text may be empty, whatever the prompt ended with."""
    newline = letters("\n")[0]
    found = spoken(BYTES, letters("\n# Query:"), ("\n# Query:",), head=newline)
    assert (found.text, found.finish) == ("", "stop")


def test_the_prompt_is_not_searched() -> None:
    """A stop string that the prompt began and generation completes is none."""
    found = spoken(BYTES, letters("ery: yes"), ("Query:",), head=letters("u")[0])
    assert (found.text, found.finish) == ("ery: yes", "length")


def test_characters_cut_in_several_tokens() -> None:
    """Bytes of a character that come one by one are put together before anything is compared."""
    assert len(letters("你")) == 3
    assert spoken(BYTES, letters("ä你好!"), ("好",)).text == "ä你"
    assert spoken(BYTES, letters("é, ü"), ()).text == "é, ü"


def test_the_earliest_of_several_counts() -> None:
    """Not the one that stands first in the list."""
    assert spoken(BYTES, BYTES.encode("One, two, three"), ("three", "two")).text == "One, "


def test_end_of_sequence_is_no_text() -> None:
    """It is counted as a token and ends the row."""
    found = spoken(BYTES, [*letters("ab"), END, *letters("c")], ("z",))
    assert (found.text, found.tokens, found.finish) == ("ab", 3, "stop")


def test_a_stop_string_far_behind_the_beginning() -> None:
    """Only a tail is decoded at each token; the whole text is cut."""
    text = "the sea is blue " * 20
    found = spoken(BYTES, letters(text + "END." + text), ("END.",))
    assert (found.text, found.tokens) == (text, len(text) + 4)


@given(
    st.text("ab\n# é你", max_size=80),
    st.lists(st.text("ab\n# é你", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_any_text_ends_before_its_first_stop_string(text: str, stop: list[str]) -> None:
    """Byte by byte, the first stop string to be complete ends the text, and it is not returned."""
    ids = letters(text + ".")
    found = spoken(BYTES, ids, tuple(stop))
    completed = [text.index(mark) + len(mark) for mark in stop if mark in text]
    if not completed:
        assert (found.text, found.finish) == (text + ".", "length")
        return
    seen = text[: min(completed)]
    assert found.text == seen[: min(seen.index(mark) for mark in stop if mark in seen)]
    assert (found.tokens, found.finish) == (len(seen.encode()), "stop")


def metaspace_tokenizer() -> PreTrainedTokenizerFast:
    """Like SentencePiece: a space is a part of the word behind it, unknown characters are bytes."""
    words = ["<s>", "</s>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    words += ["▁", "▁well", "▁then", "well", ".", "▁#"]
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens([AddedToken("<s>"), AddedToken("</s>")])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


@pytest.mark.parametrize(
    ("pieces", "stop", "text"),
    [
        (["▁well", "▁then"], (), " well then"),
        (["well", "▁then", ".", "▁well"], (" then",), "well"),
        (["▁well", "<0xE4>", "<0xBD>", "<0xA0>", "."], ("你",), " well"),
        (["▁well", "<0x0A>", "▁#", "▁then"], ("\n #",), " well"),
        (["▁", "▁", "▁well"], ("  ",), ""),
    ],
)
def test_sentencepiece_keeps_its_spaces(
    pieces: list[str], stop: tuple[str, ...], text: str
) -> None:
    """The space that decoding drops at a text's beginning is kept where generation starts."""
    tokenizer: Any = metaspace_tokenizer()
    ids = tokenizer.convert_tokens_to_ids(pieces)
    assert tokenizer.unk_token_id not in ids
    head = tokenizer.convert_tokens_to_ids(".")
    assert spoken(tokenizer, ids, stop, head=head).text == text
