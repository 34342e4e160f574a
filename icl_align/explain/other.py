"""The winner in other words: its system text, and the instructions put to it; what is asked, and told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from icl_align.config import Experiment
from icl_align.evaluation import example_ids
from icl_align.explain.measure import Answered, Key, Wanted
from icl_align.explain.plan import Plan
from icl_align.explain.sections import figure, restated
from icl_align.explain.wording import Collected, OtherWords
from icl_align.explain.writer import signature
from icl_align.prompt import Prompt

PHRASINGS: dict[str, Callable[[str], str]] = {
    "in lower case": str.lower,
    "with 'Please answer:' before it": lambda query: f"Please answer: {query}",
    "without its last mark": lambda query: query.rstrip(" .?!") or query,
}
"""Ways to say the same; they change no fact."""


def phrased_prompts(given: OtherWords) -> int:
    """How many prompts' worth of generations the instructions in other words cost."""
    return len(PHRASINGS) + bool(given.queries)


def paraphrased(prompt: Prompt, plan: Plan, texts: Collected) -> dict[Key, Wanted]:
    """The winner with each paraphrase that the plan reaches."""
    return {
        ("paraphrase", number): Wanted(
            replace(prompt, system=one.text), plan.examples, plan.examples
        )
        for number, one in enumerate(texts.kept[: plan.paraphrases])
    }


def rephrased(prompt: Prompt, plan: Plan, given: OtherWords) -> dict[Key, Wanted]:
    """The winner on instructions in other words; from a file on those that it names."""
    work: dict[Key, Wanted] = {}
    for name, (places, queries) in _phrasings(plan, given).items():
        examples = [plan.examples[place] for place in places]
        asked = [replace(one, query=text) for one, text in zip(examples, queries, strict=True)]
        work["phrasing", name] = Wanted(prompt, examples, asked)
    return work


def phrasings_told(
    experiment: Experiment, plan: Plan, given: OtherWords, found: Mapping[Key, Answered]
) -> dict[str, Any]:
    """What each way to put the instructions loses; None where it does not fit into the context."""
    level, seed = experiment.confirm.level, experiment.seed
    usual, told = found["subset", plan.masks[0]].values, dict[str, Any]()
    for name, (places, _) in _phrasings(plan, given).items():
        one = found.get(("phrasing", name))
        told[name] = None if one is None else figure(usual[places] - one.values, level, seed)
    return told


def paraphrases_told(
    experiment: Experiment, plan: Plan, texts: Collected, found: Mapping[Key, Answered]
) -> dict[str, Any] | None:
    """The system text in other words; None where the winner has none."""
    without = found.get(("no system", "all"))
    if without is None:
        return None
    others = [
        (one, found["paraphrase", number].values)
        for number, one in enumerate(texts.kept)
        if ("paraphrase", number) in found
    ]
    usual, level = found["subset", plan.masks[0]].values, experiment.confirm.level
    writer = texts.given.writer
    return {
        **restated(usual, without.values, others, level, experiment.seed),
        "writer": signature(writer) if writer else None,
        "same": texts.same,
        "unread": texts.unread,
        "unmeasured": len(texts.kept) - plan.paraphrases,
        "too_long": plan.paraphrases - len(others),
    }


def beyond(plan: Plan, texts: Collected, need: int) -> dict[str, Any] | None:
    """Names the other words that the budget does not reach, with one that does; None where it reaches all."""
    names = [one.name for one in texts.kept[plan.paraphrases :]]
    if not plan.phrasings:
        names.append("instructions in other words")
    return {"names": names, "budget": need} if names else None


def _phrasings(plan: Plan, given: OtherWords) -> dict[str, tuple[list[int], list[str]]]:
    """Places of instructions with their other words, by name; none where the budget does not reach."""
    if not plan.phrasings:
        return {}
    every = list(range(len(plan.examples)))
    found = {
        name: (every, [phrase(example.query) for example in plan.examples])
        for name, phrase in PHRASINGS.items()
    }
    ids = example_ids(plan.examples)
    there = [place for place in every if ids[place] in given.queries]
    if there:
        found[given.origin] = (there, [given.queries[ids[place]] for place in there])
    return found
