"""Scores answers by the verifiable instructions that come with an example."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from icl_align.errors import UserError
from icl_align.scorers.checklist import ChecklistScorer, Kind
from icl_align.scorers.constraints.loose import variants
from icl_align.scorers.constraints.rules import RULES
from icl_align.scorers.constraints.values import Rule
from icl_align.scorers.kinds import KINDS
from icl_align.types import Example, Response, Score

Mode = Literal["strict", "loose"]


class ConstraintScorer:
    """Grades a response by the share of its example's instructions that it follows.

    The kinds are those of `RULES` and, graded the same in both modes, those of the checklist. An
    answer without text follows nothing; an example without checks has no verdict.
    """

    def __init__(self, mode: Mode = "strict", rules: Mapping[str, Rule] = RULES) -> None:
        """Stores the mode and the rules.

        Args:
            mode: Whether the response itself must follow an instruction, or one of its `variants`.
            rules: The rules by the names of their kinds.

        Raises:
            UserError: the mode is unknown.
        """
        if mode not in ("strict", "loose"):
            raise UserError(f"a constraint scorer's mode must be 'strict' or 'loose', got {mode!r}")
        self.mode: Mode = mode
        self.rules = rules

    @property
    def name(self) -> str:
        """The term's name."""
        return "constraints"

    @property
    def fingerprint(self) -> str:
        """The mode, and which rules are known, by which functions; version 1 of them."""
        known = sorted(f"{name}={_place(rule)}" for name, rule in self.rules.items())
        digest = hashlib.sha256(" ".join(known).encode()).hexdigest()[:16]
        return f"constraints:1:{self.mode}:{digest}:{self._checklist('strict').fingerprint}"

    def score(self, examples: Sequence[Example], responses: Sequence[Response]) -> list[Score]:
        """Grades `responses[i]` by the checks of `examples[i]`.

        Aspects are the instructions' outcomes in this mode, by the checks' aspects (or kinds), and
        `prompt_strict` and `prompt_loose`: 1 where every instruction was followed.

        Raises:
            UserError: a check's kind is unknown, or its values or weight cannot be used.
        """
        strict = self._checklist("strict").score(examples, responses)
        loose = self._checklist("loose").score(examples, responses)
        return [self._told(*pair) for pair in zip(strict, loose, strict=True)]

    def _told(self, strict: Score, loose: Score) -> Score:
        mine = strict if self.mode == "strict" else loose
        if mine.value is None:
            return replace(mine, judge=self.name)
        prompts = {
            "prompt_strict": float(strict.value == 1.0),
            "prompt_loose": float(loose.value == 1.0),
        }
        return Score(mine.value, {**mine.aspects, **prompts}, mine.note, self.name)

    def _checklist(self, mode: Mode) -> ChecklistScorer:
        rules = {name: _Graded(rule, mode) for name, rule in self.rules.items()}
        kinds: dict[str, Kind] = {**KINDS, **rules}
        return ChecklistScorer(kinds)


@dataclass(frozen=True, slots=True)
class _Graded:
    """A rule as a kind of check."""

    rule: Rule
    mode: Mode

    def __call__(self, values: Sequence[str], response: Response) -> float:
        """1 if the response, or in loose mode one of its variants, follows; blank ones do not."""
        asked = self.rule(values, response.text)  # of a blank text, too: values are checked
        if self.mode == "strict" or not response.text.strip() or asked:
            return float(asked and bool(response.text.strip()))
        forms = variants(response.text)[1:]
        return float(any(form.strip() and self.rule(values, form) for form in forms))


def _place(rule: Rule) -> str:
    module, name = getattr(rule, "__module__", ""), getattr(rule, "__qualname__", "")
    return f"{module}.{name}" if name else f"{module}.{type(rule).__qualname__}"
