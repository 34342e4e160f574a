"""The judge that a passport is about: from a file, recorded in the data, or a plain rule to beat."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import Field, JsonValue, ValidationError

from icl_align.assemble import build_scorer
from icl_align.config import Part, Table
from icl_align.data import read_text
from icl_align.errors import UserError
from icl_align.parts import call_part, load_part
from icl_align.scorers import PairJudge, Scorer
from icl_align.scorers.calibration import CalibratedScorer
from icl_align.scorers.pairwise import PairwiseScorer
from icl_align.types import Example, Preference, Response

RECORDED = "recorded:"
RULES = ("longer", "shorter", "annotator")
"""Reference judges: the longer response in characters, the shorter one, and people among themselves."""


class JudgeTable(Table):
    """The table [judge] of a judge's file.

    Attributes:
        scorer: As in an objective: a name, or one's own as `module:attr` or `file.py:attr`.
        options: What it is made with.
        author: Who made the model that judges, as the data's `model1` and `model2` name it.
        tie_margin: Two responses whose scores differ by no more are a tie; for a judge of single
            responses.
    """

    scorer: Part
    options: dict[str, JsonValue] = Field(default_factory=dict)
    author: str = ""
    tie_margin: float = Field(0.0, ge=0, le=1)


@dataclass(frozen=True, slots=True)
class Judge:
    """A judge under examination.

    Attributes:
        name: For people.
        fingerprint: Everything that can change its verdicts; what a sweep looks for in a passport.
        pairs: Compares two responses; None for recorded ones and for a rule among people.
        scorer: Grades one response, where it can.
        column: The field that holds recorded predictions.
        table: What its file says; None where it has none.
    """

    name: str
    fingerprint: str
    pairs: PairJudge | None = field(default=None, repr=False)
    scorer: Scorer | None = field(default=None, repr=False)
    column: str = ""
    table: JudgeTable | None = None


@dataclass(frozen=True, slots=True)
class Comparing:
    """A judge of pairs made of a scorer: the better score wins, however the two are shown.

    Attributes:
        scorer: Grades each response on its own.
        margin: A difference up to this is a tie.
    """

    scorer: Scorer
    margin: float = 0.0

    @property
    def name(self) -> str:
        """The scorer's."""
        return self.scorer.name

    @property
    def fingerprint(self) -> str:
        """The scorer's, and the margin."""
        return f"{self.scorer.fingerprint}:pairs:margin={self.margin:g}"

    @property
    def usage(self) -> object:
        """What the scorer has cost, where it says."""
        return getattr(self.scorer, "usage", None)

    def prefer(
        self, examples: Sequence[Example], first: Sequence[Response], second: Sequence[Response]
    ) -> list[Preference]:
        """Compares scores; no verdict where one of the two has none."""
        scores = self.scorer.score([*examples, *examples], [*first, *second])
        found = []
        for mine, theirs in zip(scores[: len(examples)], scores[len(examples) :], strict=True):
            if mine.value is None or theirs.value is None:
                reason = mine.note if mine.value is None else theirs.note
                found.append(Preference(None, note=reason or "no score", judge=self.name))
                continue
            lead = mine.value - theirs.value
            found.append(_plain(0.5 if abs(lead) <= self.margin else float(lead > 0), self.name))
        return found


@dataclass(frozen=True, slots=True)
class ByLength:
    """Prefers the longer response (or the shorter one) in characters; equal ones are a tie.

    Attributes:
        name: "longer" or "shorter".
    """

    name: str

    @property
    def fingerprint(self) -> str:
        """Its name and version."""
        return f"{self.name}:characters:1"

    def prefer(
        self,
        examples: Sequence[Example],  # noqa: ARG002 (the protocol)
        first: Sequence[Response],
        second: Sequence[Response],
    ) -> list[Preference]:
        """Compares lengths."""
        leads = [len(a.text) - len(b.text) for a, b in zip(first, second, strict=True)]
        sign = 1 if self.name == "longer" else -1
        return [_plain(0.5 if not lead else float(lead * sign > 0), self.name) for lead in leads]


def load_judge(config: str) -> Judge:
    """Makes the judge from the command line's word for it.

    Args:
        config: A TOML file with a table [judge], "recorded:COLUMN", "longer", "shorter" or
            "annotator".

    Raises:
        UserError: there is no such file, it is no judge's, or the judge cannot be made.
    """
    if config.startswith(RECORDED):
        column = config.removeprefix(RECORDED)
        return Judge(column, config, column=column)
    if config in ("longer", "shorter"):
        rule = ByLength(config)
        return Judge(config, rule.fingerprint, rule)
    if config == "annotator":
        return Judge(config, "annotator:1")
    place = Path(config)
    if not place.is_file():
        near = get_close_matches(config, RULES, 1, 0.6)
        hint = f"did you mean {near[0]!r}?" if near else f"or {RECORDED}COLUMN, {', '.join(RULES)}"
        raise UserError(f"--judge takes a judge's TOML file, and there is no {config}; {hint}")
    return make_judge(_table(place), _slug(place.stem))


def make_judge(table: JudgeTable, name: str) -> Judge:
    """Makes a judge of a table.

    Raises:
        UserError: it cannot be made.
    """
    made = _made(table)
    # What scores by comparing with fixed answers cannot rate a response on its own.
    compares = isinstance(made, PairwiseScorer)
    scorer: Scorer | None = made if hasattr(made, "score") and not compares else None
    pairs: PairJudge
    if compares:
        pairs = made.judge
    elif hasattr(made, "prefer"):
        pairs = made
    else:
        assert scorer is not None
        pairs = Comparing(scorer, table.tie_margin)
    return Judge(name, judge_fingerprint(made), pairs, scorer, table=table)


def judge_fingerprint(scorer: Scorer | PairJudge) -> str:
    """Gives the fingerprint under which a scorer has its passport.

    It is the scorer's own, without what is none of the judge's: a calibration, or the fixed answers that
    it compares with.
    """
    if isinstance(scorer, CalibratedScorer):
        return judge_fingerprint(scorer.scorer)
    return scorer.judge.fingerprint if isinstance(scorer, PairwiseScorer) else scorer.fingerprint


def reseeded(judge: Judge, seed: int) -> Judge:
    """Gives the judge with another seed; the same one where its options have no place for a seed."""
    table = judge.table
    if table is None:
        return judge
    options: dict[str, Any] = dict(table.options)
    model = options.get("model")
    if isinstance(model, str):
        model = {"name": model}
    if isinstance(model, dict):
        options["model"] = {**model, "seed": seed}
    elif "seed" in options:
        options["seed"] = seed
    else:
        return judge
    made = make_judge(table.model_copy(update={"options": options}), judge.name)
    return replace(made, fingerprint=judge.fingerprint, table=table)


def _made(table: JudgeTable) -> Any:
    """Makes what the table says: one's own may compare, score or both."""
    if ":" not in table.scorer:
        return build_scorer(table.scorer, table.options, "judge")
    where = f"judge {table.scorer!r}"
    made = call_part(load_part("judge", table.scorer), where, table.options)
    judges = hasattr(made, "prefer") or hasattr(made, "score")
    if not judges or not hasattr(made, "fingerprint"):
        raise UserError(
            f"the {where} gave a {type(made).__name__}, which is no judge: it needs a fingerprint, and "
            "prefer or score"
        )
    return made


def _table(place: Path) -> JudgeTable:
    try:
        content = tomllib.loads(read_text(place))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{place}: broken TOML: {error}") from error
    given = content.get("judge")
    if not isinstance(given, dict) or len(content) > 1:
        keys = ", ".join(content) or "nothing"
        raise UserError(f"{place}: a judge's file has one table, [judge]; this one has {keys}")
    _refuse_unknown(given, place)
    try:
        return JudgeTable.model_validate(given, context={"base": place.resolve().parent})
    except ValidationError as error:
        mistake = error.errors(include_url=False)[0]
        key = ".".join(map(str, mistake["loc"]))
        reason = mistake["msg"].removeprefix("Value error, ")
        raise UserError(f"{place}: [judge] {key}: {reason}") from error


def _refuse_unknown(given: Mapping[str, Any], place: Path) -> None:
    known = list(JudgeTable.model_fields)
    for key in given:
        if key not in known:
            near = get_close_matches(key, known, 1, 0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise UserError(f"{place}: [judge] has an unknown key {key!r}; {hint}")


def _plain(value: float, name: str) -> Preference:
    """A verdict of a judge that sees no order: both orders would say the same."""
    return Preference(value, (value, value), judge=name)


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "judge"
