"""Where prompts answer differently, and which of them nobody could tell apart."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from icl_align.report.clean import LONGEST, shown

Answers = Mapping[str, str]
"""A prompt's answers, by the instruction's id."""


def telling(
    names: Sequence[str], prompts: Sequence[Answers], count: int, *, seed: int
) -> list[str]:
    """Chooses instructions on which the answers of prompts differ most.

    One after another: that which tells most groups of prompts apart, beside those chosen before; then
    that on which most pairs differ; then by lot.

    Args:
        names: Ids of instructions that all prompts have answered, `count` or more.
        prompts: Each one's answers.
        count: How many are chosen.
        seed: Of the lot.
    """
    left = random.Random(seed).sample(list(names), len(names))
    seen = {name: [_seen(one[name]) for one in prompts] for name in left}
    labels: list[tuple[str, ...]] = [() for _ in prompts]
    chosen: list[str] = []

    def gain(name: str) -> tuple[int, int]:
        answers = seen[name]
        pairs = sum(a != b for place, a in enumerate(answers) for b in answers[:place])
        return len(set(zip(labels, answers, strict=True))), pairs

    while len(chosen) < count:
        best = max(left, key=gain)  # the first of equals, and `left` is in a drawn order
        left.remove(best)
        chosen.append(best)
        labels = [(*label, answer) for label, answer in zip(labels, seen[best], strict=True)]
    return chosen


def cards(names: Sequence[str], prompts: Sequence[Answers]) -> list[list[int]]:
    """Gives places of prompts, those together whose answers look the same on all of some instructions."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for place, one in enumerate(prompts):
        groups.setdefault(tuple(_seen(one[name]) for name in names), []).append(place)
    return list(groups.values())


def _seen(answer: str) -> str:
    """An answer as people see it."""
    return shown(answer, LONGEST).strip()
