"""A judge of pairs whose verdicts are kept in a ledger: a killed comparison goes on where it was."""

from __future__ import annotations

import json
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass

from icl_align.ledger import content_digest, example_digest
from icl_align.scorers import PairJudge
from icl_align.types import Example, Preference, Response

_CHUNK = 16
"""Pairs asked about at once; what a kill can lose."""


@dataclass(frozen=True, slots=True)
class RememberedJudge:
    """Asks a judge only what the notes do not hold; a missing verdict is not noted, and asked again.

    Attributes:
        judge: Compares.
        notes: Verdicts by key, a ledger's.
    """

    judge: PairJudge
    notes: MutableMapping[str, str]

    @property
    def name(self) -> str:
        """The judge's."""
        return self.judge.name

    @property
    def fingerprint(self) -> str:
        """The judge's."""
        return self.judge.fingerprint

    def prefer(
        self,
        examples: Sequence[Example],
        first: Sequence[Response],
        second: Sequence[Response],
    ) -> list[Preference]:
        """Compares `first[i]` with `second[i]` as answers to `examples[i]`."""
        rows = list(zip(examples, first, second, strict=True))
        keys = [
            content_digest([self.fingerprint, example_digest(e), a.text, b.text])
            for e, a, b in rows
        ]
        found = {key: _read(text) for key in keys if (text := self.notes.get(key)) is not None}
        new = {key: row for key, row in zip(keys, rows, strict=True) if key not in found}
        wanted = list(new)
        for start in range(0, len(wanted), _CHUNK):
            part = wanted[start : start + _CHUNK]
            asked = [new[key] for key in part]
            given = self.judge.prefer(
                [row[0] for row in asked], [row[1] for row in asked], [row[2] for row in asked]
            )
            for key, preference in zip(part, given, strict=True):
                found[key] = preference
                if preference.value is not None:
                    self.notes[key] = _written(preference)
        return [found[key] for key in keys]


def _written(preference: Preference) -> str:
    return json.dumps(
        [preference.value, list(preference.orders), preference.note, preference.judge]
    )


def _read(text: str) -> Preference:
    value, orders, note, judge = json.loads(text)
    return Preference(value, tuple(orders), note, judge)
