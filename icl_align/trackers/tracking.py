"""Follows a run with trackers: what the verbs use."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from icl_align.assemble import build_budget
from icl_align.errors import UserError
from icl_align.passport.plain import printable
from icl_align.prove import PACK_FILE, Proof
from icl_align.run import Run
from icl_align.search.ranking import Ranked
from icl_align.search.study import TrialRecord
from icl_align.search.sweep import Progress, Sweep
from icl_align.trackers.base import Outcome, Proved, Subject, Tracker
from icl_align.trackers.follow import Follower
from icl_align.trackers.memory import remembered
from icl_align.trackers.names import make_tracker
from icl_align.trackers.params import params_of
from icl_align.trackers.rows import Rows, finite

TOP = 10
"""Prompts in the table at the end."""
PATIENCE_S = 20.0
"""How long the end of a run waits for one call of a tracker."""
_HURRY_S = 2.0
_BEST_EVERY_S = 2.0
_BEST_SHARE = 0.02
"""Of the time at most so much goes into asking the sampler for its best prompt."""


@dataclass
class Tracking:
    """The trackers of a run, told as it goes.

    Attributes:
        run: The run.
        followers: One for each tracker.
        rows: What makes rows of its trials.
    """

    run: Run
    followers: Sequence[Follower] = ()
    rows: Rows | None = None
    _look_at: float = field(default=0.0, init=False)

    def beside(self, on_trial: Callable[[Progress], None]) -> Callable[[Progress], None]:
        """Gives a function that is told of each trial in place of another, and tells that too."""
        if not self.followers:
            return on_trial

        def both(now: Progress) -> None:
            on_trial(now)
            self._told(now)

        return both

    def end(self, found: dict[str, Any], sweep: Sweep) -> None:
        """Tells what a sweep has found.

        Args:
            found: Its summary (`icl_align.run.summary`).
            sweep: The sweep.
        """
        if self.followers:
            self._all(_outcome(found, sweep.ranking))

    def proved(self, proof: Proof) -> None:
        """Tells what a proof has found, and hands on its files."""
        if self.followers:
            names = (PACK_FILE, "pack.txt", "confirmation.json", "explanation.json", "report.html")
            places = [self.run.folder / name for name in names]
            self._all(Proved(_proof_values(proof), [place for place in places if place.exists()]))

    def _told(self, now: Progress) -> None:
        assert self.rows is not None
        row = self.rows.add(now.trial, self._best(now))
        for follower in self.followers:
            follower.tell(row)

    def _best(self, now: Progress) -> Ranked | None:
        """What the sampler believes, asked for now and then, since it takes as long as a proposal."""
        started = time.monotonic()
        if started < self._look_at:
            return None
        best = now.best
        ended = time.monotonic()
        self._look_at = ended + max(_BEST_EVERY_S, (ended - started) / _BEST_SHARE)
        return best

    def _all(self, what: Outcome | Proved) -> None:
        for follower in self.followers:
            follower.tell(what)


@contextmanager
def tracking(
    names: Sequence[str], run: Run, warn: Callable[[str], None], patience_s: float = PATIENCE_S
) -> Iterator[Tracking]:
    """Follows a run with trackers; without names nothing is imported, written or sent.

    What a tracked run lacks of the trials so far is logged first.

    Args:
        names: "mlflow", "wandb", or `module:attr` or `file.py:attr` of one's own.
        run: The run, started.
        warn: Told of what went wrong, a line each; from any thread.
        patience_s: How long a call of a tracker may take, in seconds, when only it is waited for.

    Raises:
        UserError: no such tracker, its client is not installed, trackers.json cannot be used, or
            another process is tracking the run.
    """
    if not names:
        yield Tracking(run)
        return
    trackers: dict[str, Tracker] = {name: make_tracker(name) for name in dict.fromkeys(names)}
    with ExitStack() as stack:
        memory = stack.enter_context(remembered(run.folder))
        rows = Rows(build_budget(run.experiment))
        told = [rows.add(trial) for trial in _told(run)]
        name = f"{run.experiment.name} {run.folder.resolve().name}"
        subject = Subject(printable(name), run.folder.resolve(), params_of(run.experiment))
        followers = [Follower(name, one, subject, memory, warn) for name, one in trackers.items()]
        for follower in followers:
            follower.begin(told)
        failed = True
        try:
            yield Tracking(run, followers, rows)
            failed = False
        except KeyboardInterrupt:  # whoever wants out at once waits for no tracker
            patience_s = min(patience_s, _HURRY_S)
            raise
        finally:
            for follower in followers:
                follower.close(failed=failed, patience_s=patience_s)


def _told(run: Run) -> list[TrialRecord]:
    """The trials that have ended; none before the run has a study."""
    try:
        trials = run.trials()
    except UserError:  # a real problem with the database stops the sweep a moment later
        return []
    return [trial for trial in trials if trial.state not in ("running", "waiting")]


def _outcome(found: dict[str, Any], ranking: Sequence[Ranked]) -> Outcome:
    best, tokens = found["best"] or {}, found["tokens"]
    values = {
        "final/estimate": best.get("estimate"),
        "final/sd": best.get("sd"),
        "final/mean": best.get("mean"),
        "final/n": best.get("n"),
        "final/length": best.get("length"),
        "final/trial": best.get("trial"),
        "final/share": found["share"],
        "final/prefill_saved": tokens["saved"],
    }
    winner = ranking[0].prompt.to_text() if ranking else ""
    return Outcome(finite(values), found, [_top_row(item) for item in ranking[:TOP]], winner)


def _top_row(item: Ranked) -> dict[str, Any]:
    """A prompt as a row of a table: text and numbers that steer nothing where they are shown."""
    prompt = item.prompt
    return {
        "trial": item.number,
        "estimate": item.estimate,
        "sd": item.sd,
        "mean": item.mean,
        "n": item.evaluation.n,
        "length": item.length,
        "k": len(prompt.exemplars),
        "format": printable(prompt.format.name),
        "temperature": prompt.decoding.temperature,
        "exemplars": printable(" ".join(one.id or one.query[:20] for one in prompt.exemplars)),
        "system": printable(prompt.system),
    }


def _proof_values(proof: Proof) -> dict[str, float]:
    found = proof.confirmation.to_json()
    difference = found["difference"]
    values = {
        "proof/tuned": found["tuned"]["mean"],
        "proof/n": found["tuned"]["n"],
        "proof/baseline": found["baseline"]["mean"],
        "proof/difference": difference["mean"],
        "proof/low": difference["low"],
        "proof/high": difference["high"],
        "proof/level": difference["level"],
    }
    for place, other in enumerate(found["others"], 2):
        values[f"proof/baseline_{place}"] = other["mean"]
        values[f"proof/difference_{place}"] = other["difference"]["mean"]
        values[f"proof/low_{place}"] = other["difference"]["low"]
        values[f"proof/high_{place}"] = other["difference"]["high"]
    return finite(values)
