"""The winner beside its baseline, instruction by instruction: by tag, and where it is worse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from icl_align.explain.games import Floats, bounded
from icl_align.explain.measure import Answered
from icl_align.types import Example

_SHOWN = 10
_TAGS = 30


def by_tag(
    examples: Sequence[Example], mine: Floats, theirs: Floats, level: float, seed: int
) -> list[dict[str, Any]]:
    """Winner minus baseline for each tag, the most frequent tags first; an instruction may have several."""
    places: dict[str, list[int]] = {}
    for place, example in enumerate(examples):
        for tag in dict.fromkeys(example.tags):
            places.setdefault(tag, []).append(place)
    found = []
    for tag, rows in sorted(places.items(), key=lambda item: (-len(item[1]), item[0]))[:_TAGS]:
        interval = bounded((mine - theirs)[rows], level=level, seed=seed)
        if interval is not None:
            both = [row for row in rows if np.isfinite(mine[row] - theirs[row])]
            found.append(
                {
                    "tag": tag,
                    "winner": float(np.mean(mine[both])),
                    "baseline": float(np.mean(theirs[both])),
                    "difference": interval.to_json(),
                }
            )
    return found


def regressions(
    examples: Sequence[Example], ids: Sequence[str], winner: Answered, baseline: Answered
) -> list[dict[str, Any]]:
    """The instructions on which the winner loses most, with both answers; none where it loses nowhere."""
    lost = winner.values - baseline.values
    worst = [int(i) for i in np.argsort(np.where(np.isnan(lost), np.inf, lost), kind="stable")]
    return [
        {
            "id": ids[i],
            "query": examples[i].query,
            "tags": list(examples[i].tags),
            "difference": float(lost[i]),
            **{
                name: {
                    "value": side.scores[i].value,
                    "answer": side.responses[i].text,
                    "note": side.scores[i].note,
                    "aspects": dict(side.scores[i].aspects),
                }
                for name, side in (("winner", winner), ("baseline", baseline))
            },
        }
        for i in worst[:_SHOWN]
        if lost[i] < 0
    ]
