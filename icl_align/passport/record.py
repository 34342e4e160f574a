"""A passport: what is known of a judge, whether that is enough, and the file it is kept in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from icl_align.data import read_text
from icl_align.errors import UserError
from icl_align.run import write_json

PASSPORT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Criteria:
    """What a judge must reach.

    What was not asked for (places, repeats) is neither met nor missed. The first two, and `spearman`
    where there are ratings, are always asked for: undefined, they are missed.

    Attributes:
        beat_longer: The judge's accuracy (of all pairs) must be above that of "the longer one wins"
            by more than this, even at the lower end of the paired difference's interval.
        kappa: Least Cohen's kappa with people.
        consistency: Least share of verdicts that survive a change of places.
        repeatability: Least share of verdicts that another seed gives again.
        length_bias: Most that its share of verdicts for the longer response may be off people's share,
            either way.
        missing: Greatest share of missing verdicts.
        spearman: Least correlation with people's ratings.
        alt_test: Whether the alternative annotator test must be passed.
    """

    beat_longer: float = 0.0
    kappa: float = 0.4
    consistency: float = 0.8
    repeatability: float = 0.8
    length_bias: float = 0.1
    missing: float = 0.05
    spearman: float = 0.4
    alt_test: bool = False

    def __post_init__(self) -> None:
        """Refuses bounds that are no numbers from -1 to 1.

        Raises:
            UserError: naming the criterion.
        """
        for name, value in asdict(self).items():
            if not isinstance(value, bool) and not -1 <= value <= 1:
                raise UserError(f"the criterion {name} must be from -1 to 1, got {value}")


@dataclass(frozen=True, slots=True)
class Passport:
    """What is known of a judge.

    Attributes:
        judge: Its name, fingerprint and settings.
        data: The files it was examined on, with digests and counts.
        pairs: Figures about pairs (`figures.pair_figures`); None where none were given.
        ratings: Figures about ratings (`ratings.rating_figures`); None where none were given.
        criteria: What was asked of it.
        checks: What came of each: "met", "missed" or "not measured".
        settings: Level, seed and so on.
    """

    judge: Mapping[str, Any]
    data: Mapping[str, Any]
    pairs: Mapping[str, Any] | None
    ratings: Mapping[str, Any] | None
    criteria: Mapping[str, Any]
    checks: tuple[Mapping[str, Any], ...]
    settings: Mapping[str, Any]

    @property
    def passes(self) -> bool:
        """Whether there were criteria and none was missed."""
        return bool(self.checks) and all(check["verdict"] != "missed" for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Gives the whole as `passport.json` has it."""
        return {
            "version": PASSPORT_VERSION,
            "verdict": "passes" if self.passes else "fails",
            "judge": dict(self.judge),
            "data": dict(self.data),
            "criteria": dict(self.criteria),
            "checks": [dict(check) for check in self.checks],
            "pairs": self.pairs,
            "ratings": self.ratings,
            "settings": dict(self.settings),
        }


def judge_checks(
    pairs: Mapping[str, Any] | None, ratings: Mapping[str, Any] | None, criteria: Criteria
) -> tuple[dict[str, Any], ...]:
    """Holds figures against criteria.

    Returns:
        For each criterion that concerns the figures: its name, the rule in words, the value (None where
        not measured) and the verdict.
    """
    found: list[dict[str, Any]] = []
    if pairs is not None:
        found += _pair_checks(pairs, criteria)
    if ratings is not None:
        value = _at(ratings, "judge", "spearman", "mean")
        rule = f"Spearman correlation with people's ratings at least {criteria.spearman:g}"
        found.append(
            _check("spearman", rule, value, value is not None and value >= criteria.spearman)
        )
        found.append(_missing_check("missing_ratings", ratings, criteria))
    return tuple(found)


def save_passport(passport: Passport, path: Path) -> None:
    """Writes a passport."""
    write_json(path, passport.to_json())


def load_passport(path: Path | str) -> Passport:
    """Reads a passport.

    Args:
        path: `passport.json`, or the folder that it is in.

    Raises:
        UserError: it cannot be read, is damaged, or of another version.
    """
    place = Path(path)
    place = place / "passport.json" if place.is_dir() else place
    try:
        content = json.loads(read_text(place))
        version = content["version"]
    except (json.JSONDecodeError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{place} is no passport ({error}); make one with: icl-align judge validate"
        ) from error
    if version != PASSPORT_VERSION or isinstance(version, bool):
        raise UserError(
            f"{place} has version {version}, this icl_align reads version {PASSPORT_VERSION}; "
            "make it again with: icl-align judge validate"
        )
    try:
        found = Passport(
            judge=content["judge"],
            data=content["data"],
            pairs=content["pairs"],
            ratings=content["ratings"],
            criteria=content["criteria"],
            checks=tuple(content["checks"]),
            settings=content["settings"],
        )
        _ = (found.judge["fingerprint"], found.judge["name"], found.passes)
        _ = [(check["rule"], check["value"]) for check in found.checks]
    except (KeyError, TypeError) as error:
        raise UserError(f"{place} is damaged ({error}); make it again") from error
    return found


def check_passport(passport: Passport, fingerprint: str) -> list[str]:
    """Gives the reasons not to rely on a judge; none where its passport is in order.

    Args:
        passport: The judge's.
        fingerprint: That of the judge which is to be used.
    """
    name = passport.judge["name"]
    reasons = []
    if passport.judge["fingerprint"] != fingerprint:
        reasons.append(
            f"the passport of {name!r} is about {passport.judge['fingerprint']!r}, the judge in use is "
            f"{fingerprint!r}; validate that one"
        )
    reasons += [
        f"{name!r} fails: {check['rule']}, but it is {_told(check['value'])}"
        for check in passport.checks
        if check["verdict"] == "missed"
    ]
    if not reasons and not passport.passes:
        reasons.append(f"nothing was measured that {name!r} could pass; validate it on more data")
    return reasons


def _pair_checks(pairs: Mapping[str, Any], criteria: Criteria) -> list[dict[str, Any]]:
    # With a single instruction the lower end is infinite, in JSON null: that shows nothing.
    lead = _at(pairs, "beats_longer", "low")
    kappa = _at(pairs, "judge", "kappa", "mean")
    consistency = _at(pairs, "position", "consistency", "mean")
    repeated = _at(pairs, "repeatability", "identical", "mean")
    bias = _at(pairs, "length", "longer_share_difference", "mean")
    found = [
        _check(
            "beat_longer",
            'accuracy minus that of "the longer one wins", lower end, above '
            f"{criteria.beat_longer:g}",
            lead,
            lead is not None and lead > criteria.beat_longer,
        ),
        _check(
            "kappa",
            f"Cohen's kappa with people at least {criteria.kappa:g}",
            kappa,
            kappa is not None and kappa >= criteria.kappa,
        ),
        _check(
            "consistency",
            f"verdicts that survive a change of places at least {criteria.consistency:g}",
            consistency,
            _least(consistency, criteria.consistency),
        ),
        _check(
            "repeatability",
            f"verdicts given again with another seed at least {criteria.repeatability:g}",
            repeated,
            _least(repeated, criteria.repeatability),
        ),
        _check(
            "length_bias",
            "share of verdicts for the longer response minus people's, either way at most "
            f"{criteria.length_bias:g}",
            bias,
            None if bias is None else abs(bias) <= criteria.length_bias,
        ),
        _missing_check("missing", pairs, criteria),
    ]
    if criteria.alt_test:
        test = pairs["alt_test"]
        found.append(
            _check(
                "alt_test",
                "alternative annotator test: winning rate at least 0.5",
                None if test is None else test["winning_rate"],
                None if test is None else bool(test["passes"]),
            )
        )
    return found


def _missing_check(name: str, figures: Mapping[str, Any], criteria: Criteria) -> dict[str, Any]:
    share = float(figures["missing"]["share"])
    rule = f"missing verdicts at most {criteria.missing:g}"
    return _check(name, rule, share, share <= criteria.missing)


def _check(name: str, rule: str, value: float | None, met: bool | None) -> dict[str, Any]:
    verdict = "not measured" if met is None else "met" if met else "missed"
    return {"name": name, "rule": rule, "value": value, "verdict": verdict}


def _least(value: float | None, bound: float) -> bool | None:
    return None if value is None else value >= bound


def _at(figures: Mapping[str, Any], *names: str) -> float | None:
    """A figure inside of figures, None where any part of the way is."""
    found: Any = figures
    for name in names:
        if found is None:
            return None
        found = found[name]
    return None if found is None else float(found)


def _told(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
