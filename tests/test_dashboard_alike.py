"""Promises of icl_align.dashboard.alike: instructions that tell prompts apart, and cards."""

from __future__ import annotations

from icl_align.dashboard import alike

NAMES = ("a", "b", "c", "d", "e")
FIRST = dict.fromkeys(NAMES, "same")
SECOND = FIRST | {"c": "other", "e": "other"}
THIRD = FIRST | {"d": "third"}


def test_instructions_on_which_answers_differ_come_first() -> None:
    """One where two differ, then one that tells the third apart, whatever the lot."""
    prompts = [FIRST, SECOND, THIRD]
    for seed in range(20):
        chosen = alike.telling(NAMES, prompts, 2, seed=seed)
        assert "d" in chosen and {*chosen} & {"c", "e"}
        assert alike.cards(chosen, prompts) == [[0], [1], [2]]


def test_the_lot_decides_among_equals_and_is_seeded() -> None:
    """Nothing is chosen because it stands first in the file."""
    drawn = [alike.telling(NAMES, [FIRST, FIRST], 1, seed=seed)[0] for seed in range(40)]
    assert {*drawn} == {*NAMES}
    assert drawn == [alike.telling(NAMES, [FIRST, FIRST], 1, seed=seed)[0] for seed in range(40)]


def test_cards_hold_what_looks_the_same() -> None:
    """Blank ends, which nobody sees, tell nothing apart; anything else does."""
    blank = FIRST | {"a": "same \n"}
    assert alike.cards(NAMES, [FIRST, SECOND, blank, THIRD]) == [[0, 2], [1], [3]]
    assert alike.cards(["a"], [FIRST, SECOND, THIRD]) == [[0, 1, 2]]
