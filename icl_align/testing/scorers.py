"""What every scorer promises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from icl_align.scorers import Scorer
from icl_align.types import Example, Response

_TOLERANCE = 1e-5


def check_scorer(
    make_scorer: Callable[[], Scorer], examples: Sequence[Example], responses: Sequence[Response]
) -> None:
    """Checks what every scorer promises.

    Args:
        make_scorer: Makes a fresh scorer.
        examples: Examples it can grade.
        responses: One response each.

    Raises:
        AssertionError: naming the promise that was broken.
    """
    scorer = make_scorer()
    assert scorer.fingerprint == make_scorer().fingerprint, (
        "two scorers alike have different fingerprints"
    )
    assert scorer.score([], []) == [], "no responses must give no scores"
    scores = scorer.score(examples, responses)
    assert len(scores) == len(responses), "each response must have one score"
    for score in scores:
        assert score.value is not None or score.note, "a missing verdict needs a reason"
        assert all(0 <= value <= 1 for value in score.aspects.values()), "aspects must be in [0, 1]"
    values = [score.value for score in scores]
    again = [score.value for score in scorer.score(examples, responses)]
    assert _close(values, again), "scores must be repeatable"
    backwards = [score.value for score in scorer.score(examples[::-1], responses[::-1])]
    assert _close(values, backwards[::-1]), "a score must not depend on the order"
    single = [scorer.score([e], [r])[0].value for e, r in zip(examples, responses, strict=True)]
    assert _close(values, single), "a score must not depend on the other responses"
    blank = replace(responses[0], text="", tokens=0)
    (empty,) = scorer.score(examples[:1], [blank])
    assert empty.value in (None, 0.0), "an answer without text must not earn anything"


def _close(a: Sequence[float | None], b: Sequence[float | None]) -> bool:
    return all(
        (x is None and y is None) or (x is not None and y is not None and abs(x - y) < _TOLERANCE)
        for x, y in zip(a, b, strict=True)
    )
