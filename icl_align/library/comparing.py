"""Two packs on the same examples: both answered and graded, and the paired difference bounded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from icl_align.assemble import build_engine, build_objective
from icl_align.config import Experiment
from icl_align.data import read_examples
from icl_align.engines import Engine
from icl_align.errors import UserError
from icl_align.evaluate import EngineEvaluator
from icl_align.evaluation import Evaluation, compare, example_ids
from icl_align.lint import lint
from icl_align.pack import Pack
from icl_align.retrieval import RetrievalPack
from icl_align.scorers import Scorer
from icl_align.types import Example, Score

AnyPack = Pack | RetrievalPack
_WEIGHTS = {"checklist": 0.7, "embedding": 0.3}
"""The usual objective's terms and their shares: those of the bundled experiment."""
_AT_ONCE = 16


def compare_packs(
    packs: Mapping[str, AnyPack],
    items: Path,
    *,
    model: str | None = None,
    objective: Path | None = None,
    seed: int = 0,
    on_share: Callable[[float, str], None] = lambda _share, _done: None,
) -> dict[str, Any]:
    """Answers examples with two packs, grades both, and bounds how much better the first one is.

    Args:
        packs: Two packs by the names they are told under.
        items: Examples: .jsonl, .csv or .txt.
        model: A folder or Hub id for both; by default each pack's own, or the other's.
        objective: A TOML file with [objective.NAME] tables; by default checklist and embedding, as
            far as the examples have checks and references.
        seed: Of the bootstrap.
        on_share: Told the share that is done.

    Returns:
        JSON values: "packs" with their figures, "difference" (paired, with its interval), "leaks"
        (exemplars that are also examples, by pack), "objective" with the terms' weights.

    Raises:
        UserError: a file cannot be read, no model is named, or nothing can be graded.
    """
    examples = read_examples(items)
    terms, scorer = _scorer(examples, items, objective)
    models = _models(packs, model)
    engine = cache(lambda name: build_engine(Experiment.for_model(name)))
    done: dict[str, Evaluation] = {}
    for number, (name, pack) in enumerate(packs.items()):
        start = number / len(packs)

        def told(share: float, name: str = name, start: float = start) -> None:
            on_share(start + share / len(packs), name)

        done[name] = evaluated(pack, examples, engine(models[name]), scorer, told)
    first, second = done.values()
    return {
        "packs": {
            name: {"model": models[name], **_figures(packs[name], evaluation)}
            for name, evaluation in done.items()
        },
        "difference": compare(first, second, seed=seed).to_json(),
        "leaks": {name: _leaks(pack, examples) for name, pack in packs.items()},
        "objective": terms,
        "examples": len(examples),
    }


def evaluated(
    pack: AnyPack,
    examples: Sequence[Example],
    engine: Engine,
    scorer: Scorer,
    on_share: Callable[[float], None] = lambda _share: None,
) -> Evaluation:
    """Grades a pack's answers to examples, with chosen exemplars where it is a retrieval pack.

    Raises:
        UserError: two examples share an id.
    """
    ids = example_ids(examples)
    evaluator = EngineEvaluator(engine, scorer)
    scores: list[Score] = []
    for start in range(0, len(examples), _AT_ONCE):
        part = examples[start : start + _AT_ONCE]
        if isinstance(pack, RetrievalPack):
            asked = [
                (prompt, [item]) for prompt, item in zip(pack.prompts(part), part, strict=True)
            ]
            scores += [score for row in evaluator.many(asked) for score in row]
        else:
            scores += evaluator(pack.prompt, part)
        on_share(min(1.0, (start + _AT_ONCE) / len(examples)))
    return Evaluation(pack.prompt, ids, tuple(scores), evaluator.usage)


def _models(packs: Mapping[str, AnyPack], model: str | None) -> dict[str, str]:
    """Each pack's model by the pack's name."""
    own = {name: _whole(pack).model.get("id") for name, pack in packs.items()}
    known = [str(given) for given in own.values() if given]
    if model is None and not known:
        raise UserError("neither pack names a model; give one with --model FOLDER or a Hub id")
    return {name: model or str(given or known[0]) for name, given in own.items()}


def _scorer(
    examples: Sequence[Example], items: Path, objective: Path | None
) -> tuple[dict[str, float], Scorer]:
    """The weights of the terms, and the objective."""
    from icl_align.rescore import with_objective

    whole = Experiment.for_model("bundled")
    if objective is not None:
        whole = with_objective(whole, objective)
    else:
        there = _graded(examples)
        if not there:
            raise UserError(
                f"{items}: no example has checks or a reference answer, so answers cannot be graded; "
                "add them, or say how with --objective FILE.toml"
            )
        tables = {name: {"weight": _WEIGHTS[name]} for name in there}
        whole = Experiment.from_json({**whole.to_json(), "objective": tables})
    weights = {name: table.weight for name, table in sorted(whole.objective.items())}
    return weights, build_objective(whole)


def _graded(examples: Sequence[Example]) -> list[str]:
    """Terms that can grade every example; else those that can grade some."""
    can: dict[str, Callable[[Example], bool]] = {
        "checklist": lambda one: bool(one.checks),
        "embedding": lambda one: bool(one.answer and one.answer.strip()),
    }
    whole = [name for name, has in can.items() if all(map(has, examples))]
    return whole or [name for name, has in can.items() if any(map(has, examples))][:1]


def _figures(pack: AnyPack, evaluation: Evaluation) -> dict[str, Any]:
    aspects: dict[str, list[float]] = {}
    for score in evaluation.scores:
        for name, value in score.aspects.items():
            if "." not in name:
                aspects.setdefault(name, []).append(value)
    return {
        "digest": pack.digest if isinstance(pack, RetrievalPack) else pack.prompt.digest,
        "mean": evaluation.mean,
        "standard_error": evaluation.standard_error,
        "n": evaluation.n,
        "missing": evaluation.missing,
        "terms": {name: sum(values) / len(values) for name, values in aspects.items()},
        "tokens": evaluation.usage.to_json(),
    }


def _leaks(pack: AnyPack, examples: Sequence[Example]) -> int:
    """How many exemplars are also examples; a retrieval pack never shows them together."""
    if isinstance(pack, RetrievalPack):
        return 0
    return sum(found.code == "leak" for found in lint(pack.prompt, items=examples))


def _whole(pack: AnyPack) -> Pack:
    return pack.pack if isinstance(pack, RetrievalPack) else pack


def comparison_text(found: Mapping[str, Any]) -> str:
    """Tells a comparison in a few lines."""
    names = list(found["packs"])
    width = max(map(len, names)) + 2
    lines = [f"{'':{width}}{'mean':>7}{'s.e.':>8}{'n':>6}{'missing':>9}{'computed':>10}{'s':>8}"]
    for name, row in found["packs"].items():
        mean, error = (
            "-" if row[key] is None else f"{row[key]:.3f}" for key in ("mean", "standard_error")
        )
        spent = row["tokens"]
        lines.append(
            f"{name:{width}}{mean:>7}{error:>8}{row['n']:>6}{row['missing']:>9}"
            f"{spent['computed']:>10}{spent['seconds']:>8.1f}"
        )
    one = found["difference"]
    low, high = ("-" if one[key] is None else f"{one[key]:+.3f}" for key in ("low", "high"))
    lines.append(
        f"{names[0]} - {names[1]}: {one['mean']:+.3f} [{low}, {high}] at {one['level']:.0%}, "
        f"paired, n = {one['n']}"
    )
    lines += [
        f"{name}: {count} of its exemplars are also in the file; its score is inflated"
        for name, count in found["leaks"].items()
        if count
    ]
    return "\n".join(lines)
