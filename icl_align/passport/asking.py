"""Asks a judge about pairs, in chunks, and remembers each verdict as it comes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl_align.ledger import content_digest
from icl_align.passport.items import Pair, example, response
from icl_align.scorers import PairJudge
from icl_align.types import Preference, Usage

CHUNK = 16
"""Pairs asked and recorded at once."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A verdict and what it has cost, now or when it was first given.

    Attributes:
        preference: The verdict.
        seconds: Its share of the time of its chunk.
        tokens: Its share of the tokens; None where the judge keeps no account.
    """

    preference: Preference
    seconds: float = 0.0
    tokens: float | None = None


class Verdicts:
    """Remembered verdicts, one per line of a file; missing ones are never remembered.

    A line that a killed process left unfinished is passed over, and asked for again.
    """

    def __init__(self, file: Path | None) -> None:
        """Reads what is there.

        Args:
            file: JSONL; None to remember nothing beyond the process.
        """
        self.file = file
        self._known: dict[str, Asked] = {}
        self._broken = False
        if file is not None and file.exists():
            content = file.read_text(encoding="utf-8", errors="replace")
            self._broken = bool(content) and not content.endswith("\n")
            for line in content.split("\n"):
                self._take(line)

    def get(self, key: str) -> Asked | None:
        """Gives a verdict, None where it is not known."""
        return self._known.get(key)

    def put(self, verdicts: Mapping[str, Asked]) -> None:
        """Remembers verdicts, those that are missing left out."""
        kept = {key: one for key, one in verdicts.items() if one.preference.value is not None}
        self._known |= kept
        if self.file is None or not kept:
            return
        lines = [json.dumps({"key": key, **_stored(one)}) + "\n" for key, one in kept.items()]
        with self.file.open("a", encoding="utf-8", newline="") as stream:
            stream.write("\n" * self._broken + "".join(lines))
        self._broken = False

    def _take(self, line: str) -> None:
        try:
            row = json.loads(line)
            preference = Preference(
                row["value"], tuple(row["orders"]), str(row["note"]), str(row["judge"])
            )
            if preference.value is not None:
                self._known[row["key"]] = Asked(preference, row["seconds"], row["tokens"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return


def ask(
    judge: PairJudge,
    pairs: Sequence[Pair],
    verdicts: Verdicts,
    *,
    repeat: int = 0,
    swapped: bool = False,
    on_done: Callable[[int], None] | None = None,
) -> list[Asked]:
    """Asks a judge about pairs; what is remembered is not asked again.

    Args:
        judge: Compares.
        pairs: What is compared.
        verdicts: Where verdicts are remembered.
        repeat: 0 the first time, else the seed; each has verdicts of its own.
        swapped: Show the second response as the first; verdicts are still about the first of the pair.
        on_done: Told how many more pairs are done, now and then.

    Raises:
        ValueError: the judge gave another number of verdicts than pairs.
    """
    found: list[Asked] = []
    for start in range(0, len(pairs), CHUNK):
        part = pairs[start : start + CHUNK]
        keys = [_key(judge, pair, repeat, swapped=swapped) for pair in part]
        new = {key: pair for key, pair in zip(keys, part, strict=True) if verdicts.get(key) is None}
        fresh = dict(zip(new, _fresh(judge, list(new.values()), swapped=swapped), strict=True))
        verdicts.put(fresh)
        found += [fresh.get(key) or verdicts.get(key) or Asked(Preference(None)) for key in keys]
        if on_done is not None:
            on_done(len(part))
    return [_turned(one) for one in found] if swapped else found


def _fresh(judge: PairJudge, pairs: Sequence[Pair], *, swapped: bool) -> list[Asked]:
    if not pairs:
        return []
    first, second = [response(pair.first) for pair in pairs], [response(p.second) for p in pairs]
    if swapped:
        first, second = second, first
    before, started = getattr(judge, "usage", None), time.perf_counter()
    given = judge.prefer([example(pair) for pair in pairs], first, second)
    seconds = (time.perf_counter() - started) / len(pairs)
    after = getattr(judge, "usage", None)
    if len(given) != len(pairs):
        raise ValueError(
            f"the judge {judge.name!r} gave {len(given)} verdicts to {len(pairs)} pairs"
        )
    tokens = None
    if isinstance(before, Usage) and isinstance(after, Usage):
        spent = after - before
        tokens = (spent.prompt_tokens + spent.generated_tokens) / len(pairs)
    return [Asked(preference, seconds, tokens) for preference in given]


def _turned(asked: Asked) -> Asked:
    """A verdict about swapped responses, from the point of view of the pair's first."""
    given = asked.preference
    if given.value is None:
        return asked
    orders = tuple(1 - one for one in reversed(given.orders))
    return Asked(
        Preference(1 - given.value, orders, given.note, given.judge), asked.seconds, asked.tokens
    )


def _key(judge: PairJudge, pair: Pair, repeat: int, *, swapped: bool) -> str:
    shown = [pair.second, pair.first] if swapped else [pair.first, pair.second]
    return content_digest([judge.fingerprint, pair.query, *shown, repeat])


def _stored(asked: Asked) -> dict[str, Any]:
    given = asked.preference
    return {
        "value": given.value,
        "orders": list(given.orders),
        "note": given.note,
        "judge": given.judge,
        "seconds": round(asked.seconds, 6),
        "tokens": asked.tokens,
    }
