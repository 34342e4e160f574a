"""What a search may vary: systems x ordered distinct exemplars x K x formats x decoding."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from icl_align.errors import UserError
from icl_align.prompt import Format, Prompt
from icl_align.types import Decoding, Example


@dataclass(frozen=True)
class Space:
    """The prompts a search may try: Optuna distributions, and a pure function from point to prompt.

    A point names exemplars by position in the pool, one per slot; slots beyond `k` are ignored.
    Dimensions with a single choice are left out of the point.

    Attributes:
        systems: System texts, distinct.
        pool: Exemplars with answers, distinct in query and answer.
        k_min: Fewest exemplars in a prompt, >= 0.
        k_max: Most exemplars in a prompt, at most the size of the pool.
        formats: Formats with distinct names.
        temperatures: Grid of sampling temperatures.
        repetition_penalties: Grid of repetition penalties.
        decoding: What the grids do not vary (top_p, max_tokens, scope, seed).
        source: Where the pool came from, for messages.
    """

    systems: tuple[str, ...]
    pool: tuple[Example, ...]
    k_min: int
    k_max: int
    formats: tuple[Format, ...]
    temperatures: tuple[float, ...] = (0.0,)
    repetition_penalties: tuple[float, ...] = (1.0,)
    decoding: Decoding = field(default_factory=Decoding)
    source: str = "pool"

    def __post_init__(self) -> None:
        """Refuses a space that holds no prompt, or the same prompt under two points.

        Raises:
            UserError: naming what is empty, repeated or out of range.
        """
        size = len(self.pool)
        if not 0 <= self.k_min <= self.k_max:
            raise UserError(f"K must go from at least 0 upwards, got {self.k_min} to {self.k_max}")
        if self.k_max > 0 and size == 0:
            raise UserError(
                f"K may be up to {self.k_max} but the pool is empty ({self.source}); add exemplars"
            )
        if self.k_max > size:
            plural = "" if size == 1 else "s"
            raise UserError(
                f"K may be up to {self.k_max} but the pool holds {size} exemplar{plural} "
                f"({self.source})"
            )
        unanswered = [item.id or item.query for item in self.pool if item.answer is None]
        if unanswered:
            raise UserError(f"exemplar {unanswered[0]!r} has no answer ({self.source}); add one")
        _refuse_repeated("exemplar", [_identity(item) for item in self.pool], self.source)
        _refuse_repeated("system text", self.systems, "systems")
        _refuse_repeated("format", [form.name for form in self.formats], "formats")
        _refuse_repeated("temperature", self.temperatures, "temperatures")
        _refuse_repeated("repetition penalty", self.repetition_penalties, "repetition_penalties")
        for name in ("systems", "formats", "temperatures", "repetition_penalties"):
            if not getattr(self, name):
                raise UserError(f"a space needs at least one of {name}, got none")
        for temperature in self.temperatures:
            for penalty in self.repetition_penalties:
                self._decoding(temperature, penalty)

    @property
    def digest(self) -> str:
        """The sha256 (hex) of everything that says what a point means."""
        content = asdict(self)
        del content["source"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode("ascii")).hexdigest()

    def distributions(self) -> dict[str, BaseDistribution]:
        """Gives the dimensions of a point, the same for every trial, in a fixed order."""
        dimensions: dict[str, BaseDistribution] = {}
        for name, choices in self._choices().items():
            dimensions[name] = CategoricalDistribution(tuple(choices))
        if self.k_max > self.k_min:
            dimensions["k"] = IntDistribution(self.k_min, self.k_max)
        return dimensions

    def build(self, point: Mapping[str, Any]) -> Prompt:
        """Makes the prompt of a point; the same point always gives the same prompt.

        Where a slot names an exemplar that an earlier slot already holds, the next free one in the
        pool's order is taken, cyclically: there are always exactly K distinct exemplars.

        Raises:
            ValueError: a dimension is missing or has a value outside the space.
        """
        choices = self._choices()
        for name, dimension in self.distributions().items():
            if name not in point:
                raise ValueError(f"a point of this space needs {name!r}, got {sorted(point)}")
            allowed = choices.get(name, range(self.k_min, self.k_max + 1))
            if point[name] not in allowed:
                raise ValueError(f"{name!r} must be in {dimension}, got {point[name]!r}")
        taken: list[int] = []
        for slot in range(1, point.get("k", self.k_max) + 1):
            index = int(point.get(f"slot_{slot}", 0))
            while index in taken:
                index = (index + 1) % len(self.pool)
            taken.append(index)
        forms = {form.name: form for form in self.formats}
        return Prompt(
            system=self.systems[point.get("system", 0)],
            exemplars=tuple(self.pool[index] for index in taken),
            format=forms[point.get("format", self.formats[0].name)],
            decoding=self._decoding(
                point.get("temperature", self.temperatures[0]),
                point.get("repetition_penalty", self.repetition_penalties[0]),
            ),
        )

    def point(self, prompt: Prompt) -> dict[str, Any]:
        """Finds the point of a prompt, for warm starts; exemplars are known by their text.

        Raises:
            UserError: naming what about the prompt is not in the space.
        """
        identities = [_identity(item) for item in self.pool]
        slots: list[int] = []
        for number, exemplar in enumerate(prompt.exemplars, start=1):
            if _identity(exemplar) not in identities:
                _refuse_outside(
                    f"exemplar {number} ({exemplar.query[:40]!r})", f"the pool ({self.source})"
                )
            slots.append(identities.index(_identity(exemplar)))
        if not self.k_min <= len(slots) <= self.k_max:
            _refuse_outside(f"K = {len(slots)}", f"K from {self.k_min} to {self.k_max}")
        decoding = prompt.decoding
        wanted: dict[str, tuple[Any, Sequence[Any]]] = {
            "system": (prompt.system, self.systems),
            "format": (prompt.format.name, [form.name for form in self.formats]),
            "temperature": (decoding.temperature, self.temperatures),
            "repetition_penalty": (decoding.repetition_penalty, self.repetition_penalties),
        }
        for name, (value, allowed) in wanted.items():
            if value not in allowed:
                _refuse_outside(f"{name} {value!r}"[:80], f"its {len(allowed)} choices")
        free = (index for index in range(len(self.pool)) if index not in slots)
        slots += [next(free) for _ in range(self.k_max - len(slots))]
        everything: dict[str, Any] = {f"slot_{i}": index for i, index in enumerate(slots, start=1)}
        everything |= {name: value for name, (value, _) in wanted.items()}
        everything |= {"system": self.systems.index(prompt.system), "k": len(prompt.exemplars)}
        point = {name: everything[name] for name in self.distributions()}
        if self.build(point).digest != prompt.digest:
            fixed = replace(
                self.decoding,
                temperature=decoding.temperature,
                repetition_penalty=decoding.repetition_penalty,
            )
            what = "the prompt as a whole"
            if prompt.layouts:
                what = f"irregular white space between exemplars {prompt.layouts}"
            if decoding != fixed:
                what = f"decoding {decoding}"
            _refuse_outside(what, f"what the space fixes ({fixed})")
        return point

    def _choices(self) -> dict[str, Sequence[Any]]:
        """Gives the categorical dimensions that have more than one choice."""
        slots = {f"slot_{slot}": range(len(self.pool)) for slot in range(1, self.k_max + 1)}
        dimensions: dict[str, Sequence[Any]] = {
            "system": range(len(self.systems)),
            **slots,
            "format": [form.name for form in self.formats],
            "temperature": self.temperatures,
            "repetition_penalty": self.repetition_penalties,
        }
        return {name: choices for name, choices in dimensions.items() if len(choices) > 1}

    def _decoding(self, temperature: float, repetition_penalty: float) -> Decoding:
        try:
            return replace(
                self.decoding, temperature=temperature, repetition_penalty=repetition_penalty
            )
        except ValueError as error:
            raise UserError(str(error)) from error


def _identity(exemplar: Example) -> tuple[object, ...]:
    """Gives what makes an exemplar itself: the text it puts into a prompt."""
    return (exemplar.turns, exemplar.query, exemplar.answer)


def _refuse_repeated(kind: str, values: Sequence[Any], source: str) -> None:
    for position, value in enumerate(values):
        if value in values[:position]:
            text = value[1] if isinstance(value, tuple) else value
            raise UserError(
                f"each {kind} must be there once, but {str(text)[:60]!r} is at positions "
                f"{values.index(value) + 1} and {position + 1} ({source}); remove one"
            )


def _refuse_outside(what: str, space: str) -> None:
    raise UserError(f"the prompt is not in the space: {what} is not in {space}")
