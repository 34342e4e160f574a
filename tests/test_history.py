"""What is left out of a conversation that is too long, in which order, and what never is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_align.errors import UserError
from icl_align.history import HistoryBudget
from icl_align.prompt import FORMATS, Prompt
from icl_align.types import Example, Turn

PROMPT = Prompt(
    "Be kind.", tuple(Example(f"shot {n}", "yes " * 5) for n in range(3)), FORMATS["block"]
)
ASKED = Example("And now?", turns=tuple(Turn(f"turn {n}", "well " * 5) for n in range(20)))


def test_all_of_it_is_the_prompts_own_rendering() -> None:
    """Where everything fits nothing is left out."""
    fitted = HistoryBudget().fit(PROMPT, ASKED, len, 10**6)
    assert (fitted.text, fitted.dropped_turns, fitted.dropped_exemplars) == (
        PROMPT.render(ASKED),
        0,
        0,
    )


def test_oldest_turns_go_first() -> None:
    """One token too few costs the oldest turn alone."""
    fitted = HistoryBudget().fit(PROMPT, ASKED, len, len(PROMPT.render(ASKED)) - 1)
    assert (fitted.dropped_turns, fitted.dropped_exemplars) == (1, 0)
    assert "turn 0\n" not in fitted.text
    assert "turn 1\n" in fitted.text


def test_then_the_first_exemplars() -> None:
    """Exemplars go only when no turn is left, the first one first."""
    bare = replace(ASKED, turns=())
    fitted = HistoryBudget().fit(PROMPT, ASKED, len, len(PROMPT.render(bare)) - 1)
    assert (fitted.dropped_turns, fitted.dropped_exemplars) == (20, 1)
    assert "shot 0" not in fitted.text
    assert "shot 1" in fitted.text
    assert "Be kind." in fitted.text


def test_kept_turns_outlive_exemplars() -> None:
    """With `keep_turns` the newest turns stay and the exemplars go."""
    limit = len(replace(PROMPT, exemplars=()).render(replace(ASKED, turns=ASKED.turns[-2:])))
    fitted = HistoryBudget(keep_turns=2).fit(PROMPT, ASKED, len, limit)
    assert (fitted.dropped_turns, fitted.dropped_exemplars) == (18, 3)
    assert "turn 18\n" in fitted.text
    with pytest.raises(UserError, match=r"what must stay .* has \d+ tokens, but only \d+ fit"):
        HistoryBudget(keep_turns=2, keep_exemplars=1).fit(PROMPT, ASKED, len, limit)


def test_system_text_and_query_never_go() -> None:
    """What does not fit without turns and exemplars is refused, in numbers."""
    with pytest.raises(UserError, match=r"has \d+ tokens, but only 10 fit; shorten the query"):
        HistoryBudget().fit(PROMPT, ASKED, len, 10)


def test_irregular_exemplars_keep_their_layouts() -> None:
    """An exemplar goes with what stands around it in the file."""
    text = PROMPT.to_text().replace("shot 1\n```\n\n#", "shot 1\n```\n\n\n#")
    prompt = Prompt.from_text(text)
    assert prompt.layouts
    limit = len(prompt.render("?")) - 1
    fitted = HistoryBudget().fit(prompt, Example("?"), len, limit)
    assert (
        fitted.text
        == "# Instruction\n\nBe kind.\n\n\n"
        + prompt.render("?").split("shot 0")[1].split("```\n\n", 2)[2]
    )


@given(limit=st.integers(60, 2000), keep=st.integers(0, 22), shots=st.integers(0, 4))
def test_the_least_is_left_out(limit: int, keep: int, shots: int) -> None:
    """What was left out was needed: one thing more does not fit; and what is given fits."""
    budget = HistoryBudget(keep, shots)
    try:
        fitted = budget.fit(PROMPT, ASKED, len, limit)
    except UserError:
        return
    assert len(fitted.text) <= limit
    turns, exemplars = fitted.dropped_turns, fitted.dropped_exemplars
    assert 20 - turns >= min(keep, 20)
    assert 3 - exemplars >= min(shots, 3)
    if turns or exemplars:
        more = (turns, exemplars - 1) if exemplars else (turns - 1, 0)
        item = replace(ASKED, turns=ASKED.turns[more[0] :])
        prompt = replace(PROMPT, exemplars=PROMPT.exemplars[more[1] :])
        assert len(prompt.render(item)) > limit


def test_negative_counts_are_refused() -> None:
    """A count below 0 is told by its name."""
    with pytest.raises(UserError, match="keep_turns must be >= 0, got -1"):
        HistoryBudget(-1)
    with pytest.raises(UserError, match="keep_exemplars must be >= 0, got -2"):
        HistoryBudget(0, -2)


def test_few_counts() -> None:
    """Counting tokens is dear: 1,000 turns take a dozen counts, not a thousand."""
    counted: list[int] = []

    def count(text: str) -> int:
        counted.append(len(text))
        return len(text)

    item = replace(ASKED, turns=ASKED.turns * 50)
    HistoryBudget().fit(PROMPT, item, count, 3000)
    assert len(counted) <= 12
