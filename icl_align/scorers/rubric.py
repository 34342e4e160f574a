"""Rubrics: what a judge grades, aspect by aspect; built in, or from a TOML file of one's own."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from icl_align.errors import UserError

_NAMES = "a letter, then letters, digits, '_' and '-'"

_ASPECT_KEYS: Mapping[str, type] = {
    "question": str,
    "levels": list,
    "tags": list,
    "optional": bool,
    "weight": float,
}


@dataclass(frozen=True, slots=True)
class Aspect:
    """One thing that is graded.

    Attributes:
        name: Its key in replies and tables.
        question: What is asked about the response.
        levels: What each grade means, from the lowest up; empty where the rubric's own do.
        tags: Examples that have none of these tags are not graded on it; all are where it is empty.
        optional: The judge may say that it does not apply ("N/A").
        weight: Its share of the mean, > 0.
    """

    name: str
    question: str
    levels: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    optional: bool = False
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Rubric:
    """Aspects on one scale.

    Attributes:
        name: For people.
        aspects: What is graded, at least one.
        low: The worst grade.
        high: The best one.
        levels: What each grade means, from the lowest up; empty where the ends say enough.
        guide: What else a judge should know.
        choose: Where above 0, so many aspects are chosen for each instruction, and only they are graded.
    """

    name: str
    aspects: tuple[Aspect, ...]
    low: int = 1
    high: int = 5
    levels: tuple[str, ...] = ()
    guide: str = ""
    choose: int = 0

    def __post_init__(self) -> None:
        """Refuses a rubric that cannot be used.

        Raises:
            UserError: naming the rubric, the aspect and the rule.
        """
        where = f"rubric {self.name!r}"
        names = [aspect.name for aspect in self.aspects]
        if not names or len(set(names)) < len(names):
            raise UserError(f"{where} needs aspects with distinct names, got {names}")
        if not self.low < self.high:
            raise UserError(f"{where}: low must be below high, got {self.low} and {self.high}")
        if not 0 <= self.choose <= len(names):
            raise UserError(f"{where} cannot choose {self.choose} of {len(names)} aspects")
        self._check_levels(self.levels, where)
        for aspect in self.aspects:
            plain = aspect.name.replace("_", "").replace("-", "")
            if not (plain.isascii() and plain.isalnum() and aspect.name[0].isalpha()):
                raise UserError(f"{where}: an aspect's name is {_NAMES}, got {aspect.name!r}")
            if not aspect.question.strip():
                raise UserError(f"{where}: aspect {aspect.name!r} has no question")
            self._check_levels(aspect.levels, f"{where}: aspect {aspect.name!r}")
            if not aspect.weight > 0:
                raise UserError(f"{where}: the weight of {aspect.name!r} must be above 0")

    def _check_levels(self, levels: tuple[str, ...], where: str) -> None:
        if levels and len(levels) != self.high - self.low + 1:
            raise UserError(
                f"{where} describes {len(levels)} levels, but the grades go from {self.low} to {self.high}"
            )

    @property
    def digest(self) -> str:
        """The sha256 (hex, 16 digits) of all it says."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def unit(self, grade: float) -> float:
        """Puts a grade on the scale from 0 to 1."""
        return min(1.0, max(0.0, (grade - self.low) / (self.high - self.low)))

    def described(self, aspect: Aspect) -> str:
        """Says what an aspect asks and what its grades mean."""
        lines = [f"{aspect.name}: {aspect.question}", *self._leveled(aspect.levels)]
        if aspect.optional:
            lines.append('  If it cannot apply to this instruction, the score is "N/A".')
        return "\n".join(lines)

    @property
    def scale(self) -> str:
        """Says what grades there are, and what they mean where an aspect does not say it itself."""
        ends = f"Scores are whole numbers from {self.low} (worst) to {self.high} (best)."
        return "\n".join([ends, *self._leveled(self.levels)])

    def _leveled(self, levels: tuple[str, ...]) -> list[str]:
        return [f"  {grade}: {meaning}" for grade, meaning in enumerate(levels, start=self.low)]


def load_rubric(given: str | Mapping[str, Any] | Rubric) -> Rubric:
    """Gives a rubric by its name, from a TOML file (a name that ends in .toml), or from a table.

    Raises:
        UserError: no such rubric or file, or one with unknown, missing or wrong keys.
    """
    if isinstance(given, Rubric):
        return given
    if isinstance(given, Mapping):
        return _from_table(given, "rubric")
    if given.endswith(".toml"):
        place = Path(given).expanduser()
        try:
            content = tomllib.loads(place.read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"cannot read the rubric {place}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{place}: the rubric is no TOML: {error}") from error
        return _from_table({"name": place.stem, **content}, str(place))
    from icl_align.scorers.rubrics import RUBRICS

    if given in RUBRICS:
        return RUBRICS[given]
    near = get_close_matches(given, RUBRICS, 1, 0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(RUBRICS)}"
    raise UserError(f"there is no rubric {given!r}; {hint}; a file of one's own ends in .toml")


def _from_table(table: Mapping[str, Any], where: str) -> Rubric:
    """Reads `name`, `low`, `high`, `guide`, `choose`, and `[aspects.NAME]` tables."""
    content = dict(table)
    aspects = content.pop("aspects", None)
    if not isinstance(aspects, Mapping) or not aspects:
        raise UserError(f"{where}: a rubric needs a table [aspects.NAME] for each aspect")
    kinds = {"name": str, "low": int, "high": int, "levels": list, "guide": str, "choose": int}
    _check(content, kinds, where)
    if "levels" in content:
        content["levels"] = tuple(content["levels"])
    made = []
    for name, entry in aspects.items():
        place = f"{where}: [aspects.{name}]"
        fields = {"question": entry} if isinstance(entry, str) else entry
        if not isinstance(fields, Mapping):
            raise UserError(f"{place} must be a question or a table, got {entry!r}")
        _check(fields, _ASPECT_KEYS, place)
        if "question" not in fields:
            raise UserError(f"{place} has no question")
        lists = {key: tuple(fields[key]) for key in ("levels", "tags") if key in fields}
        made.append(Aspect(name, **{**fields, **lists}))
    return Rubric(aspects=tuple(made), **{"name": "custom", **content})


def _check(content: Mapping[str, Any], kinds: Mapping[str, type], where: str) -> None:
    for key, value in content.items():
        if key not in kinds:
            near = get_close_matches(key, kinds, 1, 0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(kinds)}"
            raise UserError(f"{where}: unknown key {key!r}; {hint}")
        kind = kinds[key]
        right = isinstance(value, (int, float) if kind is float else kind)
        if isinstance(value, bool) and kind is not bool:
            right = False
        if kind is list and right:
            right = all(isinstance(item, str) for item in value)
        if not right:
            wanted = "a list of texts" if kind is list else kind.__name__
            raise UserError(f"{where}: {key} must be {wanted}, got {value!r}")
