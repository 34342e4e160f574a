"""What a sweep says of itself while it runs: the best so far, what was left early, speed, what is saved."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from icl_align.live.display import shares
from icl_align.live.state import Facts
from icl_align.types import Usage

if TYPE_CHECKING:
    from icl_align.contest import Standing
    from icl_align.search.ranking import Ranked
    from icl_align.search.sweep import Progress

_SHORTEST_S = 1.0
_THRIFT = 20
"""Looking at the best prompt takes at most one part in so many of the time."""


@dataclass
class SweepFacts:
    """The facts of a sweep, from what it tells and from what its evaluator has spent.

    Attributes:
        usage: What this process has spent; read while a batch is in flight. None to go by the trials.
        clock: Seconds, for tests.
    """

    usage: Callable[[], Usage] | None = None
    clock: Callable[[], float] = time.perf_counter
    _best: str = field(default="", init=False)
    _next: float = field(default=0.0, init=False)
    _told: Usage = field(default=Usage(), init=False)

    def facts(self, now: Progress) -> Facts:
        """Gives the facts as a trial ends."""
        self._told = now.usage
        started = self.clock()
        if started >= self._next or now.share >= 1:
            self._best = best_text(now.best, now.examples)
            ended = self.clock()
            self._next = ended + max(_SHORTEST_S, _THRIFT * (ended - started))
        return {
            "best": self._best,
            "tried": f"{now.prompts:,} prompts in {now.spent.trials:,} trials, "
            f"{now.dropped:,} dropped early; {now.half:,} measured on {math.ceil(now.examples / 2):,} "
            f"instructions or more, {now.whole:,} on all {now.examples:,}",
        }

    def pulse(self) -> Facts:
        """Gives what changes while a batch is in flight; safe to ask from another thread."""
        usage = self.usage() if self.usage else self._told
        return {"speed": speed_text(usage)} if usage.paid else {}


def best_text(best: Ranked | None, examples: int) -> str:
    """Says which prompt is the best so far, and how sure that is."""
    if best is None:
        return "none yet, no prompt has a verdict"
    sure = best.evaluation.standard_error if best.sd is None else best.sd
    value = f"{best.estimate:.3f}" + (f" \u00b1 {sure:.3f}" if sure is not None else "")
    broken = "" if best.allowed else ", breaks the constraint"
    prompt = best.prompt
    return (
        f"{value} on dev{broken} (trial {best.number}: K={len(prompt.exemplars)}, "
        f"{best.evaluation.n:,} of {examples:,} instructions)"
    )


def speed_text(usage: Usage) -> str:
    """Says how fast tokens come, and what sharing prefixes has spared."""
    parts = []
    if usage.seconds:
        parts.append(f"{usage.generated_tokens / usage.seconds:,.0f} tokens/s")
    if usage.saved is not None:
        parts.append(f"prefill {usage.saved:.0%} saved")
    parts.append(f"{usage.paid:,} paid, {usage.cached:,} from the ledger")
    return ", ".join(parts)


@dataclass(frozen=True)
class Watch:
    """What a sweep and a proof are to tell.

    Attributes:
        on_trial: Of each trial.
        on_progress: Of a confirmation: the share that is done, and what is being measured.
        on_cancel: Of a first interrupt.
    """

    on_trial: Callable[[Progress], None]
    on_progress: Callable[[float, str], None]
    on_cancel: Callable[[], None]


@contextmanager
def progress(*, quiet: bool = False, usage: Callable[[], Usage] | None = None) -> Iterator[Watch]:
    """Shows how far a sweep is: live on a terminal, else a plain line now and then.

    Args:
        quiet: Show it on a terminal only, and no plain lines (for `--json`).
        usage: Gives what this process has spent, to be shown while a batch is in flight.
    """
    told = SweepFacts(usage)
    with shares("sweep", quiet=quiet, pulse=told.pulse) as shown:
        yield Watch(
            lambda now: shown(now.share, budget_text(now), told.facts(now)), shown, shown.cancelling
        )


def budget_text(now: Progress) -> str:
    """Says what is spent of each limit."""
    spent = now.spent.to_json()
    limits = [(name, limit) for name, limit in now.budget.to_json().items() if name in spent]
    return ", ".join(f"{spent[name]:,.6g} of {limit:,.6g} {name}" for name, limit in limits)


@contextmanager
def proof_progress(
    *, quiet: bool = False, usage: Callable[[], Usage] | None = None
) -> Iterator[Watch]:
    """Shows how far a proof is: its random search, and its confirmation."""
    told = SweepFacts(usage)
    with shares("confirm", quiet=quiet, pulse=told.pulse) as shown:
        yield Watch(
            lambda now: shown(0.0, f"random search, {budget_text(now)}", told.facts(now)),
            shown,
            shown.cancelling,
        )


@contextmanager
def contest_progress(
    *, quiet: bool = False
) -> Iterator[tuple[Callable[[Standing], None], Callable[[], None]]]:
    """Shows how far a contest is; gives what is told of its standing, and of an interrupt."""
    with shares("contest", quiet=quiet) as shown:
        yield (
            lambda now: shown(now.share, f"{now.done} of {now.total} entrants, now {now.entrant}"),
            shown.cancelling,
        )
