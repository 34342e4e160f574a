"""Stop strings end a text before them, wherever they stand and however tokens split them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from icl_align.engines import Engine
from icl_align.testing._same import Agreement
from icl_align.types import Decoding

_NEVER = "\0never\0"
_AROUND = 3


def check_stop(
    engine: Engine,
    prompts: Sequence[str],
    whole: Sequence[str],
    decoding: Decoding,
    same: Agreement,
) -> None:
    """Takes pieces out of each continuation as its stop strings.

    Args:
        engine: What is checked.
        prompts: What it continues.
        whole: Its texts without stop strings.
        decoding: How it was decoded.
        same: The share of texts that must stay the same.

    Raises:
        AssertionError: naming the promise that was broken.
    """
    short = replace(decoding, max_tokens=decoding.max_tokens // 2)
    edges = [len(r.text) for r in engine.generate(prompts, stop=(), decoding=short)]
    found: list[str] = []
    wanted: list[str] = []
    for prompt, text, edge in zip(prompts, whole, edges, strict=True):
        for mark in _marks(text, edge):
            (response,) = engine.generate([prompt], stop=(_NEVER, mark), decoding=decoding)
            promise = f"the response must end before the first stop string {mark!r}"
            assert mark not in response.text, f"{promise}: {response.text!r} of {text!r}"
            wanted.append(text[: text.index(mark)])
            found.append(response.text)
            assert found[-1] != wanted[-1] or response.finish == "stop", (
                "a response that a stop string ended must say so"
            )
    same.check(found, wanted, "the response must end before the first stop string")
    _check_prompts(engine, prompts, whole, decoding, same)
    _check_mates(engine, prompts, whole, decoding, same)


def _marks(text: str, edge: int) -> Iterator[str]:
    """One character, several, and several on both sides of a border between two tokens."""
    middle = len(text) // 2
    marks = (
        text[middle : middle + 1],
        text[middle : middle + _AROUND],
        text[max(0, edge - _AROUND) : edge + _AROUND] if 0 < edge < len(text) else "",
    )
    for mark in dict.fromkeys(marks):
        # a character that a bound cut in two is none that a user could ask for
        if mark and "\ufffd" not in mark:
            yield mark


def _check_prompts(
    engine: Engine,
    prompts: Sequence[str],
    whole: Sequence[str],
    decoding: Decoding,
    same: Agreement,
) -> None:
    """What stands in the prompt alone is no reason to stop."""
    apart = [(p, text) for p, text in zip(prompts, whole, strict=True) if p not in text]
    found = [
        engine.generate([prompt], stop=(prompt,), decoding=decoding)[0].text for prompt, _ in apart
    ]
    same.check(
        found, [text for _, text in apart], "stop strings must not be looked for in the prompt"
    )


def _check_mates(
    engine: Engine,
    prompts: Sequence[str],
    whole: Sequence[str],
    decoding: Decoding,
    same: Agreement,
) -> None:
    """A stop string ends every text that holds it, and no other."""
    marks = (
        text[at : at + _AROUND] for at in range(max(map(len, whole))) for text in whole if text[at:]
    )
    others = (m for m in marks if "\ufffd" not in m and not all(m in text for text in whole))
    mark = next(others, None)
    if mark is None:
        return  # all texts are alike
    found = engine.generate(prompts, stop=(mark,), decoding=decoding)
    same.check(
        [response.text for response in found],
        [text.split(mark, maxsplit=1)[0] for text in whole],
        f"a stop string must end the texts that hold it and no other ({mark!r})",
    )
