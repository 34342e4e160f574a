"""Makes the parts of a run from its experiment: space, examples, engine, objective, baselines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from icl_align.config import BUNDLED, ZERO_SHOT, Experiment
from icl_align.data import normalise, read_examples, read_hf_dataset, read_text, split_examples
from icl_align.engines import Engine
from icl_align.engines.load import load_engine
from icl_align.errors import UserError
from icl_align.models import bundled
from icl_align.pack import Pack
from icl_align.parts import call_part, load_part
from icl_align.prompt import FORMATS, Prompt
from icl_align.scorers import Scorer
from icl_align.scorers.calibration import CalibratedScorer, load_calibrations
from icl_align.scorers.objective import Objective, Term
from icl_align.search.budget import Budget, Prices
from icl_align.search.goal import Goal
from icl_align.space import Space
from icl_align.types import Decoding, Example

_SPLITS = ("dev", "confirm", "test")


def build_space(experiment: Experiment) -> Space:
    """Makes the space of the sweep.

    Raises:
        UserError: pool or systems cannot be read, or the space holds no prompt.
    """
    table = experiment.space
    pool = _place(table.pool, "pool.jsonl")
    return Space(
        systems=_systems(experiment),
        pool=tuple(read_examples(pool)),
        k_min=table.k[0],
        k_max=table.k[1],
        formats=tuple(FORMATS[name] for name in table.formats),
        temperatures=table.temperatures,
        repetition_penalties=table.repetition_penalties,
        decoding=_decoding(experiment),
        source=str(pool),
    )


def build_budget(experiment: Experiment) -> Budget:
    """Gives what the sweep may cost."""
    search = experiment.search
    price = search.price
    return Budget(
        trials=search.trials,
        generations=search.generations,
        tokens=search.tokens,
        seconds=search.seconds,
        money=search.money,
        prices=Prices(price.prompt, price.reused, price.generated),
    )


def build_goal(experiment: Experiment) -> Goal:
    """Gives what besides quality the sweep looks at.

    Raises:
        UserError: the constraint is on an aspect of a term that the objective does not have.
    """
    search = experiment.search
    constraint = search.constraint
    if constraint is None:
        return Goal(tokens="tokens" in search.objectives)
    term = constraint.aspect.partition(".")[0]
    if term not in experiment.objective:
        raise UserError(
            f"[search.constraint]: the objective has no term {term!r}, "
            f"only {', '.join(sorted(experiment.objective))}"
        )
    return Goal("tokens" in search.objectives, constraint.aspect, constraint.at_least)


def load_splits(experiment: Experiment) -> dict[str, list[Example]]:
    """Reads the examples: "dev", and "confirm" and "test" where the experiment has them.

    Raises:
        UserError: they cannot be read, are too few, or one text is in two splits, or in the pool.
    """
    data = experiment.data
    sizes = {name: getattr(data.sizes, name) for name in _SPLITS}
    if data.dev is not None:
        splits: dict[str, list[Example]] = {}
        for name in _SPLITS:
            given = getattr(data, name)
            if given is not None:
                splits[name] = read_examples(_place(given, f"{name}.jsonl"))[: sizes[name]]
    else:
        wanted = {name: size for name, size in sizes.items() if size is not None}
        splits = split_examples(_source(experiment), wanted, experiment.seed)
    pool = read_examples(_place(experiment.space.pool, "pool.jsonl"))
    _refuse_overlap({"the pool": pool, **splits})
    return splits


def build_engine(experiment: Experiment) -> Engine:
    """Makes the engine; its model is loaded at first use or here, as the engine does it.

    Raises:
        UserError: the model cannot be loaded, or an engine of one's own cannot be made.
    """
    table = experiment.model
    name: str | Path = bundled("base") if table.id == BUNDLED else table.id
    if table.engine == "hf":
        from icl_align.engines.hf import HFEngine

        if table.options:
            raise UserError("[model.options] are for other engines; the engine 'hf' takes none")
        return HFEngine(
            name,
            device=table.device,
            dtype=table.dtype,
            batch_size=table.batch_size,
            strategy=table.strategy,
        )
    return load_engine(table.engine, str(name), table.options)


def build_objective(experiment: Experiment) -> Objective:
    """Makes the objective, its terms in the order of their names.

    Raises:
        UserError: an unknown scorer, options it does not take, or one that is no scorer.
    """
    terms = []
    for name, table in sorted(experiment.objective.items()):
        where = f"objective.{name}"
        scorer = build_scorer(table.scorer or name, table.options, where)
        if table.calibration is not None:
            scorer = _calibrated(name, scorer, table.calibration, where)
        terms.append(Term(name, table.weight, scorer))
    return Objective(tuple(terms))


def build_baselines(experiment: Experiment) -> dict[str, Prompt]:
    """Reads the prompts to compare with, the main one first, the others by name.

    A URIAL text has no decoding of its own; it is decoded as the first choices of the space say.

    Raises:
        UserError: one cannot be read.
    """
    table, decoding = experiment.confirm, _decoding(experiment)
    names = sorted(table.baselines, key=lambda name: (name != table.main, name))
    found: dict[str, Prompt] = {}
    for name in names:
        given = table.baselines[name]
        if given == ZERO_SHOT:
            found[name] = Prompt("", (), FORMATS[experiment.space.formats[0]], decoding)
            continue
        place = _place(given, "baseline.txt")
        if place.suffix == ".json":
            found[name] = Pack.load(place).prompt
        else:
            found[name] = Prompt.from_text(read_text(place), where=str(place), decoding=decoding)
    return found


def _decoding(experiment: Experiment) -> Decoding:
    """The decoding of the space's first choices."""
    table = experiment.space
    return Decoding(
        temperature=next(iter(table.temperatures), 0.0),
        repetition_penalty=next(iter(table.repetition_penalties), 1.0),
        max_tokens=table.max_tokens,
        top_p=table.top_p,
        repetition_scope=table.repetition_scope,
        seed=experiment.seed,
    )


def _place(given: str, name: str) -> Path:
    return bundled(name) if given == BUNDLED else Path(given)


def _systems(experiment: Experiment) -> tuple[str, ...]:
    table = experiment.space.systems
    if table.file is None:
        return table.texts
    place = _place(table.file, "systems.json")
    try:
        content = json.loads(read_text(place))
    except json.JSONDecodeError as error:
        raise UserError(f"{place}:{error.lineno}: broken JSON: {error.msg}") from error
    entries = content if isinstance(content, list) else []
    given = [entry.get("text") if isinstance(entry, dict) else entry for entry in entries]
    texts = [text for text in given if isinstance(text, str)]
    if not texts or len(texts) < len(given):
        raise UserError(f'{place}: system texts are a list of texts, or of objects with "text"')
    return tuple(texts)


def _source(experiment: Experiment) -> list[Example]:
    data = experiment.data
    if data.hub is None:
        return read_examples(_place(data.source or "", "dev.jsonl"))
    return read_hf_dataset(
        data.hub.name,
        split=data.hub.split,
        query_column=data.hub.query_column,
        answer_column=data.hub.answer_column,
        config=data.hub.config,
        limit=data.hub.limit,
    )


def _refuse_overlap(groups: Mapping[str, list[Example]]) -> None:
    """Refuses a text in two groups: what was searched on, or shown, proves nothing."""
    seen: dict[tuple[str, ...], str] = {}
    for group, examples in groups.items():
        for example in examples:
            key = (*(normalise(turn.query) for turn in example.turns), normalise(example.query))
            if seen.setdefault(key, group) != group:
                raise UserError(
                    f"{seen[key]} and {group} must not share examples, but both have "
                    f"{example.query[:60]!r}; remove one"
                )


_SCORERS = {
    "embedding": "icl_align.scorers.embedding:EmbeddingScorer",
    "checklist": "icl_align.scorers.checklist:ChecklistScorer",
    "judge": "icl_align.scorers.judge:JudgeScorer",
    "pairwise": "icl_align.scorers.pairwise:PairwiseScorer",
    "questions": "icl_align.scorers.questions:QuestionsScorer",
    "safety": "icl_align.scorers.safety:SafetyScorer",
    "reference": "icl_align.scorers.reference:ReferenceScorer",
    "similarity": "icl_align.scorers.similarity:SimilarityScorer",
    "reward": "icl_align.scorers.reward:RewardScorer",
    "constraints": "icl_align.scorers.constraints:ConstraintScorer",
}
_NO_OPTIONS = ("checklist",)
"""Scorers whose settings are no values of an experiment file."""


def build_scorer(name: str, options: Mapping[str, Any], where: str) -> Scorer:
    """Makes a scorer.

    Args:
        name: A built-in scorer, or one of one's own as `module:attr` or `file.py:attr`.
        options: What it is made with.
        where: The table they stand in, for messages.

    Raises:
        UserError: an unknown scorer, options it does not take, or one that is no scorer.
    """
    part = _SCORERS.get(name, name)
    if ":" not in part:
        near = get_close_matches(name, _SCORERS, 1, 0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(_SCORERS)}."
        raise UserError(
            f"[{where}]: there is no scorer {name!r}; {hint} For one of your own write "
            'scorer = "module:attr" or "file.py:attr"'
        )
    if name in _NO_OPTIONS and options:
        raise UserError(f"[{where}.options]: the scorer {name!r} takes none")
    place = f"[{where}.options]" if name in _SCORERS else f"scorer {name!r}"
    made = call_part(load_part("scorer", part), place, options)
    if not hasattr(made, "score") or not hasattr(made, "fingerprint"):
        raise UserError(f"the scorer {name!r} gave a {type(made).__name__}, which is no scorer")
    scorer: Scorer = made
    return scorer


def _calibrated(term: str, scorer: Scorer, path: str, where: str) -> Scorer:
    known = load_calibrations(path)
    if term not in known:
        raise UserError(
            f"[{where}]: {path} has no term {term!r}, only {', '.join(known) or 'none'}"
        )
    return CalibratedScorer(scorer, known[term])
