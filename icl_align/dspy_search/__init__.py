"""DSPy's optimisers on an engine and an objective of ours; what they find is a pack.

MIPROv2, GEPA, COPRO and BootstrapFewShot run as they are, on programs from `query` to `answer` under
`UrialAdapter`, so that what they measure is what the pack sends. Scores come from the examples of a full
evaluation, demos from the space's pool where the scorer can judge answers to it, else from the examples
that are left. Without a model that writes, instructions are the space's system texts in turn.
Written against DSPy 3.4.1.

DSPy makes 0 of whatever fails. Here a failed generation ends the run with its error; an answer without a
verdict counts as the mean of the verdicts so far, is counted, and ends the run where it is too common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from icl_align.dspy_search.runners import RUNNERS, THREADS, Run
from icl_align.dspy_search.verdicts import Grader
from icl_align.errors import UserError
from icl_align.evaluate import EngineEvaluator, evaluate
from icl_align.pack import Pack
from icl_align.prompt import Prompt
from icl_align.search.baselines.dspy_search import quiet
from icl_align.types import Example, Response

if TYPE_CHECKING:
    import dspy

    from icl_align.config import Experiment
    from icl_align.engines import Engine
    from icl_align.scorers import Scorer
    from icl_align.space import Space

Kind = Literal["mipro", "gepa", "copro", "bootstrap"]
KINDS: tuple[Kind, ...] = ("mipro", "gepa", "copro", "bootstrap")
_SHARE = 15
"""A full evaluation takes a 15th of the budget, or all examples where these are fewer."""
_LEAST = 4
"""Fewest examples of a full evaluation, and fewest full evaluations that a budget must pay for."""


@dataclass(frozen=True)
class Setting:
    """What an optimiser works on.

    Attributes:
        space: System texts, pool, K; format and decoding are those it names first.
        engine: The base model.
        scorer: Grades answers.
        examples: What prompts are measured on.
    """

    space: Space
    engine: Engine
    scorer: Scorer
    examples: Sequence[Example]

    @staticmethod
    def of(experiment: Experiment) -> Setting:
        """Makes the parts of an experiment; its development examples are what is measured on.

        Raises:
            UserError: a part cannot be made.
        """
        from icl_align.assemble import build_engine, build_objective, build_space, load_splits

        return Setting(
            build_space(experiment),
            build_engine(experiment),
            build_objective(experiment),
            load_splits(experiment)["dev"],
        )


def optimise(
    kind: Kind,
    setting: Setting | Experiment,
    *,
    budget: int,
    seed: int = 0,
    start: Pack | None = None,
    writer: dspy.LM | None = None,
) -> Pack:
    """Runs an optimiser of DSPy's and gives what it found, measured.

    Args:
        kind: "mipro" is MIPROv2, "gepa" GEPA, "copro" COPRO, "bootstrap" BootstrapFewShot.
        setting: What it works on; an experiment is turned into one.
        budget: Most generations of the engine, the last measurement included.
        seed: Seed of the examples' and the pool's order and of the optimiser.
        start: The pack it starts from; the space's first system text and K_min exemplars where None.
        writer: A chat model that writes instructions; the space's system texts in turn where None.

    Returns:
        The prompt found, with the mean of its verdicts on the examples of a full evaluation. They chose
        it, so the mean flatters it: confirm it on untouched examples.

    Raises:
        UserError: no such optimiser, too small a budget, nothing to pick from, or too many answers
            without a verdict.
        BaseException: whatever the engine or the scorer raised first.
    """
    if kind not in KINDS:
        raise UserError(f"there is no optimiser {kind!r}; known are {', '.join(KINDS)}")
    given = setting if isinstance(setting, Setting) else Setting.of(setting)
    import dspy

    from icl_align.dspy_adapter import UrialAdapter, starting_program
    from icl_align.dspy_parts.lm import CompletionLM
    from icl_align.dspy_search.writer import ByModel, TextsLM

    prompt = _start(given.space, start)
    rng = np.random.default_rng([seed, 0xD59])
    val, train = _deal(given, budget, rng)
    engine = CompletionLM(given.engine, prompt.decoding, THREADS)
    lm = dspy.LM("icl_align/base", engine=engine, cache=False, num_retries=0)
    grader = Grader(given.scorer, {item.id: item for item in (*val, *train)})
    texts = dspy.LM("icl_align/texts", engine=TextsLM(given.space.systems), cache=False)
    run = Run(
        given.space, starting_program(Pack(prompt), history=False), _dealt(train), _dealt(val),
        budget - len(val), seed, grader, writer or texts,
    )  # fmt: skip
    adapter = ByModel(lm, UrialAdapter(prompt.format, system=prompt.system))
    try:
        with (
            quiet(),
            dspy.context(lm=lm, adapter=adapter, num_threads=THREADS, disable_history=True),
        ):
            found = RUNNERS[kind](run)
    except Exception:
        grader.check(engine.failure)
        raise
    grader.check(engine.failure)
    return _packed(given, kind, run, prompt, found, engine.usage.paid, val)


def _packed(
    setting: Setting,
    kind: Kind,
    run: Run,
    prompt: Prompt,
    program: Any,
    paid: int,
    val: Sequence[Example],
) -> Pack:
    """Makes a pack of what was found, and measures it."""
    from icl_align.dspy_adapter import UrialAdapter

    (predictor,) = program.predictors()
    adapter = UrialAdapter(prompt.format, decoding=prompt.decoding, system=prompt.system)
    found = adapter.prompt(predictor.signature, predictor.demos)
    evaluator = EngineEvaluator(setting.engine, setting.scorer)
    measured = evaluate(found, val, evaluator)
    dev = {"mean": measured.mean, "n": measured.n, "missing": measured.missing}
    import dspy

    evidence = {
        "confirmed": False,
        "experiment": f"dspy {kind}",
        "seed": run.seed,
        "dev": dev,
        "generations": {
            "paid": paid + evaluator.paid,
            "graded": run.grader.graded,
            "missing": run.grader.missing,
            "unjudged demos": run.grader.unjudged,
        },
        "versions": {"dspy": dspy.__version__},
    }
    return Pack(found, {"fingerprint": setting.engine.fingerprint}, evidence)


def _start(space: Space, start: Pack | None) -> Prompt:
    decoding = replace(
        space.decoding,
        temperature=space.temperatures[0],
        repetition_penalty=space.repetition_penalties[0],
    )
    if start is None:
        return Prompt(space.systems[0], space.pool[: space.k_min], space.formats[0], decoding)
    if any(exemplar.turns for exemplar in start.prompt.exemplars):
        raise UserError(
            "DSPy's optimisers ask one question at a time; start from a pack without turns"
        )
    return replace(start.prompt, decoding=decoding, layouts=())


def _deal(
    setting: Setting, budget: int, rng: np.random.Generator
) -> tuple[list[Example], list[Example]]:
    """Gives examples for full evaluations, and the pool in an order of the seed's."""
    examples, pool = setting.examples, setting.space.pool
    size = min(len(examples), max(_LEAST, budget // _SHARE))
    if not examples or not pool or setting.space.k_max == 0 or budget < _LEAST * size:
        raise UserError(
            f"DSPy needs a pool, K above 0, examples and a budget of at least {_LEAST * max(size, 1)} "
            f"generations; got {len(pool)} exemplars, K up to {setting.space.k_max}, "
            f"{len(examples)} examples and {budget}"
        )
    order = [int(i) for i in rng.permutation(len(examples))]
    val = [replace(examples[i], id=f"val-{i}") for i in order[:size]]
    rest = [replace(examples[i], id=f"dev-{i}") for i in order[size:] if examples[i].answer]
    if rest and not _judged(setting.scorer, pool):
        return val, rest
    return val, [replace(pool[i], id=f"pool-{i}") for i in rng.permutation(len(pool))]


def _judged(scorer: Scorer, pool: Sequence[Example]) -> bool:
    """Whether a scorer has a verdict on answers to a pool, by those that it holds."""
    answers = [Response(exemplar.answer or "", 1, "stop") for exemplar in pool[:_LEAST]]
    return all(score.value is not None for score in scorer.score(pool[:_LEAST], answers))


def _dealt(examples: Sequence[Example]) -> list[Any]:
    import dspy

    return [
        dspy.Example(id=item.id, query=item.query, answer=item.answer or "").with_inputs("query")
        for item in examples
    ]
