"""What a report shows, read from a run's folder and database; nothing is generated, no model is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from icl_align.assemble import build_baselines, load_splits
from icl_align.data import read_text
from icl_align.errors import UserError
from icl_align.explain import EXPLANATION_FILE, read_explanation
from icl_align.ledger import Ledger
from icl_align.pack import Pack
from icl_align.prompt import Prompt
from icl_align.proof_scores import Measured, read_scores
from icl_align.prove import PACK_FILE
from icl_align.report.grid import Column, Grid, Place, Row, make_grid, rows_of, scores_of
from icl_align.run import RUN_VERSION, Run
from icl_align.search.identity import RUN_ATTR
from icl_align.search.ranking import Ranked
from icl_align.search.study import DEFAULT_STUDY, TrialRecord, opened_study
from icl_align.types import Example, Score

_PROOF_HAS = {"tuned", "baseline", "difference", "others", "finalists", "proof", "generations"}
PROMPTS = 50
"""Prompts in the grid: the winner, the baselines that were searched over, and the best others."""


@dataclass(frozen=True)
class Collected:
    """A run as its report needs it.

    Attributes:
        run: The run.
        pack: The winner, proved or the best so far.
        proof: confirmation.json; None before `confirm`.
        explanation: What `explain` found about this winner; None where it found nothing.
        trials: All trials.
        ranking: The measured prompts, best first.
        baseline: The main baseline's name and prompt; None where the experiment has none.
        rows: The instructions of the grid: the proof's, then those of the choice and the search.
        columns: The prompts of the grid.
        grid: The grid.
    """

    run: Run
    pack: Pack
    proof: dict[str, Any] | None
    explanation: dict[str, Any] | None
    trials: tuple[TrialRecord, ...]
    ranking: tuple[Ranked, ...]
    baseline: tuple[str, Prompt] | None
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    grid: Grid


def collect(run: Run) -> Collected:
    """Reads a run.

    Raises:
        UserError: nothing is measured yet, or a file of the run cannot be read.
    """
    ranking, trials, fingerprint = run.ranking(), run.trials(), _fingerprint(run)
    pack = _winner(run, ranking, fingerprint)
    baselines = build_baselines(run.experiment)
    kept = read_scores(run.folder)
    columns = grid_columns(ranking, kept, pack.prompt, baselines)
    rows = grid_rows(load_splits(run.experiment), columns)
    ledger = Ledger(run.url)
    try:
        grid = make_grid(rows, columns, ledger, fingerprint, next(iter(baselines), ""))
    finally:
        ledger.close()
    return Collected(
        run,
        pack,
        _proof(run),
        _explanation(run, pack.prompt),
        trials,
        ranking,
        next(iter(baselines.items()), None),
        tuple(rows),
        tuple(columns),
        grid,
    )


def grid_columns(
    ranking: Sequence[Ranked],
    kept: Sequence[Measured],
    winner: Prompt,
    baselines: Mapping[str, Prompt],
) -> list[Column]:
    """Chooses the prompts of the grid: the winner, the baselines, then the best of the ranking.

    Args:
        ranking: The prompts of the search.
        kept: What the confirmation has measured.
        winner: The winner.
        baselines: Those of the experiment; others are among `kept`.
    """
    roles = {one.evaluation.prompt.digest: one.role for one in kept if one.role}
    # of baselines with one prompt the main one, which is the first, gives the name
    roles |= {prompt.digest: name for name, prompt in reversed([*baselines.items()])}
    roles[winner.digest] = "winner"
    prompts, labels = dict[str, Prompt](), dict[str, str]()
    scores: dict[str, dict[Place, Score]] = {}
    for item in ranking:
        digest = item.prompt.digest
        prompts[digest], labels[digest] = item.prompt, f"trial {item.number}"
        scores[digest] = scores_of("dev", item.evaluation)
    for one in kept:
        prompt = one.evaluation.prompt
        prompts.setdefault(prompt.digest, prompt)
        labels.setdefault(prompt.digest, one.role)
        scores.setdefault(prompt.digest, {}).update(scores_of(one.split, one.evaluation))
    named = dict.fromkeys([winner.digest, *roles])
    places = {digest: place for place, digest in enumerate(named)}
    order = sorted(prompts, key=lambda digest: places.get(digest, len(places)))
    return [
        Column(labels[digest], roles.get(digest, ""), prompts[digest], scores[digest])
        for digest in order[:PROMPTS]
    ]


def grid_rows(splits: Mapping[str, Sequence[Example]], columns: Sequence[Column]) -> list[Row]:
    """Gives the instructions that anything was measured on: the proof's first, those of dev always."""
    there = {split for column in columns for split, _ in column.scores} | {"dev"}
    wanted = [split for split in ("test", "confirm", "dev") if split in there and split in splits]
    return [row for split in wanted for row in rows_of(split, splits[split])]


def _winner(run: Run, ranking: Sequence[Ranked], fingerprint: str) -> Pack:
    """The proved winner, or the best prompt so far, without making an engine for it.

    Raises:
        UserError: no prompt is measured.
    """
    path = run.folder / PACK_FILE
    if path.exists():
        return Pack.load(path)
    if not ranking:
        raise UserError(f"{run.folder} has no measured prompt to report; run the sweep first")
    table = run.experiment.model
    model = {"id": table.id, "engine": table.engine, "fingerprint": fingerprint}
    return Pack(ranking[0].prompt, model, {"versions": {"icl-align": version("icl-align")}})


def _fingerprint(run: Run) -> str:
    """The engine's that answered, as the study remembers it; the model need not be loaded for it."""
    with opened_study(run.url, DEFAULT_STUDY, create=False) as study:
        identity = study.user_attrs.get(RUN_ATTR, {}).get("identity", {})
    return str(identity.get("engine", ""))


def _proof(run: Run) -> dict[str, Any] | None:
    path = run.folder / "confirmation.json"
    if not path.exists():
        return None
    try:
        content = json.loads(read_text(path))
        written = content["version"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is damaged ({error}); make it anew with icl-align confirm"
        ) from error
    if written != RUN_VERSION:
        raise UserError(f"{path} has version {written}, this icl_align reads {RUN_VERSION}")
    if lacking := _PROOF_HAS - content.keys():
        raise UserError(
            f"{path} is damaged (it lacks {min(lacking)!r}); make it anew with icl-align confirm"
        )
    return dict(content)


def _explanation(run: Run, winner: Prompt) -> dict[str, Any] | None:
    """The explanation, if it is of this winner."""
    path = run.folder / EXPLANATION_FILE
    if not path.exists():
        return None
    found = read_explanation(path)
    return found if found["digest"] == winner.digest else None
