"""What people have said of a run's prompts in the dashboard: strengths, and whether the objective agrees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from icl_align.dashboard.choosing import Contender
from icl_align.dashboard.preferring import Asked, rounds, worse_pairs
from icl_align.dashboard.server import need_dashboard
from icl_align.errors import UserError
from icl_align.run import Run
from icl_align.search.ranking import Ranked
from icl_align.search.study import DEFAULT_STUDY, opened_study
from icl_align.stats import Match, bradley_terry
from icl_align.stats.agreement import rank_agreement


def read_preferences(run: Run) -> dict[str, Any]:
    """Gives Bradley-Terry strengths of the prompts that people compared, beside the objective's order.

    A round is one group: all that is said in it is about the same answers, by the same person as a rule.
    So intervals need two rounds or more. Prompts behind one card tie with each other there, and share what
    was said of the card; so one round gives them the same strength.

    Returns:
        "run", "rounds", "comparisons" (of cards), "level", "cards" (by round, the trials behind each
        card), "prompts" (the strongest first: digest, trial, role,
        strength, low, high, win_rate, matches, estimate and rank by the objective), "spearman" (of
        strengths and estimates; None where undefined) and "warnings".

    Raises:
        UserError: nobody has compared anything yet, or optuna-dashboard is missing.
    """
    need_dashboard()
    run.trials()
    with opened_study(run.url, DEFAULT_STUDY, create=False) as study:
        storage = study._storage  # noqa: SLF001 (with its cache; Optuna has no public way to it)
        told = [(asked, worse_pairs(storage, asked)) for asked in rounds(storage)]
    matches = [match for asked, pairs in told for match in _matches(asked, pairs)]
    if not matches:
        raise UserError(
            f"nobody has compared prompts of {run.folder} yet; "
            f"start with: icl-align dashboard {run.folder} --prefer"
        )
    contenders = {one.digest: one for asked, _ in told for one in asked.contenders}
    played = {name for match in matches for name in (match.first, match.second)}
    found = bradley_terry(matches, systems=sorted(played)).to_json()
    names = {digest: f"trial {one.trial}" for digest, one in contenders.items()}
    rows = _rows(found["ranked"], contenders, run.ranking())
    agreed = rank_agreement(
        [row["estimate"] for row in rows],
        [row["strength"] for row in rows],
        [row["digest"] for row in rows],
    ).to_json()
    return {
        "run": str(run.folder),
        "rounds": found["groups"],
        "comparisons": sum(len(_valid(asked, pairs)) for asked, pairs in told),
        "level": found["level"],
        "cards": {
            asked.name: [[one.trial for one in card] for card in asked.cards]
            for asked, pairs in told
            if _valid(asked, pairs)
        },
        "prompts": rows,
        "spearman": agreed["spearman"],
        "warnings": [_named(warning, names) for warning in found["warnings"]],
    }


def _matches(asked: Asked, pairs: Sequence[tuple[int, int]]) -> list[Match]:
    """What was said of cards, as said of each prompt behind them; those behind one card tie."""
    valid = _valid(asked, pairs)
    found = [
        Match(one.digest, other.digest, 1.0, asked.name)
        for better, worse in valid
        for one in asked.cards[better]
        for other in asked.cards[worse]
    ]
    for place in sorted({place for pair in valid for place in pair}):
        alike = asked.cards[place]
        found += [
            Match(one.digest, other.digest, 0.5, asked.name)
            for number, one in enumerate(alike)
            for other in alike[:number]
        ]
    return found


def _valid(asked: Asked, pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    known = range(len(asked.cards))
    return [(a, b) for a, b in pairs if a in known and b in known and a != b]


def _rows(
    ranked: Sequence[Mapping[str, Any]],
    contenders: Mapping[str, Contender],
    ranking: Sequence[Ranked],
) -> list[dict[str, Any]]:
    places = {item.prompt.digest: (place, item) for place, item in enumerate(ranking, start=1)}
    rows = []
    for strength in ranked:
        one = contenders[strength["system"]]
        rank, item = places.get(one.digest, (None, None))
        rows.append(
            {
                "digest": one.digest,
                "trial": one.trial,
                "role": one.role,
                "strength": strength["value"],
                **{name: strength[name] for name in ("low", "high", "win_rate", "matches")},
                "estimate": None if item is None else item.estimate,
                "rank": rank,
            }
        )
    return rows


def _named(warning: str, names: Mapping[str, str]) -> str:
    for digest, name in names.items():
        warning = warning.replace(digest, name)
    return warning
