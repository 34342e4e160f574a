"""Examines a judge: asks it, computes its figures, and writes the passport."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from icl_align.errors import UserError
from icl_align.passport.asking import Asked, Verdicts, ask
from icl_align.passport.figures import Answers, annotator_figures, pair_figures
from icl_align.passport.items import Pair, read_pairs, read_ratings, recorded, verdict_of
from icl_align.passport.judges import Judge, reseeded
from icl_align.passport.length import Settings
from icl_align.passport.ratings import rating_figures, rating_scores
from icl_align.passport.record import Criteria, Passport, judge_checks, save_passport
from icl_align.types import Preference


@dataclass(frozen=True, slots=True)
class Plan:
    """What a judge is examined on.

    Attributes:
        pairs: A file of pairs; None for none.
        ratings: A file of ratings; None for none.
        seeds: How often the judge is asked about each pair, >= 1.
        limit: At most so many pairs and so many ratings, drawn at random; None for all.
        swap: Ask in the other order too, where the judge does not do so itself.
        settings: How figures are computed.
        criteria: What the judge must reach.
    """

    pairs: Path | None = None
    ratings: Path | None = None
    seeds: int = 1
    limit: int | None = None
    swap: bool = True
    settings: Settings = Settings()  # noqa: RUF009 (frozen)
    criteria: Criteria = Criteria()  # noqa: RUF009 (frozen)


def validate(
    judge: Judge,
    plan: Plan,
    out: Path,
    on_progress: Callable[[float, str], None] | None = None,
) -> Passport:
    """Examines a judge and writes `passport.json` and `passport.html`.

    Verdicts are kept in `verdicts.jsonl` as they come, so a run that was cut off goes on where it was.

    Args:
        judge: Whom to examine.
        plan: On what.
        out: The folder to write to; made where it is not there.
        on_progress: Told the share that is done, in [0, 1], and in words.

    Raises:
        UserError: neither pairs nor ratings, files that cannot be read, or a judge that cannot do it.
    """
    from icl_align.passport.page import write_page

    if plan.pairs is None and plan.ratings is None:
        raise UserError("a judge is examined on --pairs FILE, --ratings FILE or both; give one")
    seed = plan.settings.seed
    pairs = read_pairs(plan.pairs, plan.limit, seed) if plan.pairs else []
    ratings = read_ratings(plan.ratings, plan.limit, seed) if plan.ratings else []
    out.mkdir(parents=True, exist_ok=True)
    told = _Told(len(pairs) * max(1, plan.seeds) + len(ratings), on_progress)
    verdicts = Verdicts(out / "verdicts.jsonl")
    found_pairs = found_ratings = None
    answers = Answers(())
    if pairs and judge.fingerprint == "annotator:1":
        if not any(len(pair.labels) > 1 for pair in pairs):
            raise UserError(f"{plan.pairs}: the judge 'annotator' needs 'labels' of two annotators")
        found_pairs = annotator_figures(pairs, plan.settings)
    elif pairs:
        answers = answers_of(judge, pairs, plan, verdicts, told)
        found_pairs = pair_figures(pairs, answers, plan.settings)
    if ratings:
        scores = rating_scores(judge, ratings, told, verdicts)
        found_ratings = rating_figures(ratings, scores, plan.settings)
    passport = Passport(
        judge=_named(judge),
        data={
            "pairs": _data(plan.pairs, len(pairs), len({pair.query for pair in pairs})),
            "ratings": _data(plan.ratings, len(ratings), len({one.query for one in ratings})),
        },
        pairs=found_pairs,
        ratings=found_ratings,
        criteria=asdict(plan.criteria),
        checks=judge_checks(found_pairs, found_ratings, plan.criteria),
        settings={**asdict(plan.settings), "seeds": plan.seeds, "limit": plan.limit},
    )
    save_passport(passport, out / "passport.json")
    write_page(passport, pairs, answers.given, out / "passport.html")
    return passport


def answers_of(
    judge: Judge,
    pairs: Sequence[Pair],
    plan: Plan,
    verdicts: Verdicts,
    on_done: Callable[[int], None] | None = None,
) -> Answers:
    """Gives what a judge says about pairs: recorded, remembered, or asked now.

    Raises:
        UserError: no line has the recorded column, or the judge cannot compare.
    """
    author = judge.table.author if judge.table else ""
    if judge.column:
        given = [_recorded(value) for value in recorded(pairs, judge.column)]
        return Answers([Asked(preference) for preference in given], author=author)
    if judge.pairs is None:
        raise UserError(f"the judge {judge.name!r} cannot be asked about pairs")
    given_now = ask(judge.pairs, pairs, verdicts, on_done=on_done)
    swapped = _swapped(judge, pairs, given_now, verdicts) if plan.swap else []
    repeats = []
    for number in range(1, plan.seeds):
        again = plan.settings.seed + number
        other = reseeded(judge, again)
        assert other.pairs is not None
        repeats.append(ask(other.pairs, pairs, verdicts, repeat=again, on_done=on_done))
    return Answers(given_now, swapped, repeats, author)


class _Told:
    """Counts what is done and tells it as a share."""

    def __init__(self, total: int, on_progress: Callable[[float, str], None] | None) -> None:
        self.total, self.done, self.on_progress = max(1, total), 0, on_progress

    def __call__(self, more: int) -> None:
        self.done += more
        if self.on_progress is not None:
            self.on_progress(self.done / self.total, f"{self.done} of {self.total} verdicts")


def _swapped(
    judge: Judge, pairs: Sequence[Pair], given: Sequence[Asked], verdicts: Verdicts
) -> list[Asked | None]:
    """Asks in the other order about the pairs whose verdict does not tell both orders already."""
    assert judge.pairs is not None
    open_ = [
        number
        for number, asked in enumerate(given)
        if asked.preference.value is not None and not asked.preference.orders[1:]
    ]
    found: list[Asked | None] = [None] * len(pairs)
    other = ask(judge.pairs, [pairs[number] for number in open_], verdicts, swapped=True)
    for number, asked in zip(open_, other, strict=True):
        found[number] = asked
    return found


def _recorded(value: object) -> Preference:
    found = verdict_of(value)
    if found is None:
        said = "nothing" if value is None else repr(str(value)[:40])
        return Preference(None, note=f"recorded {said} is no verdict")
    return Preference((1 + found) / 2)


def _named(judge: Judge) -> dict[str, Any]:
    table = judge.table
    settings = table.model_dump(mode="json") if table else {}
    return {"name": judge.name, "fingerprint": judge.fingerprint, **settings}


def _data(path: Path | None, n: int, instructions: int) -> dict[str, Any] | None:
    if path is None:
        return None
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"file": path.name, "sha256": digest, "n": n, "instructions": instructions}
