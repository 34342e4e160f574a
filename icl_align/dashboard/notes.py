"""What the dashboard shows with a run and with each of its trials: prompt, diff, scores, cost."""

from __future__ import annotations

import difflib
import math
import shlex
from collections.abc import Mapping, Sequence

from icl_align.assemble import build_baselines, load_splits
from icl_align.dashboard.markdown import fenced, line
from icl_align.dashboard.proved import proved, stamp
from icl_align.errors import UserError
from icl_align.evaluation import Evaluation, example_ids
from icl_align.prompt import Prompt
from icl_align.report.collect import collect
from icl_align.report.telling import headline, reproduce
from icl_align.run import Run
from icl_align.search.study import TrialRecord

_SYSTEM, _DIFF, _QUERY = 2000, 4000, 90
"""Characters shown of a system text, of a diff, and of an instruction."""
_EXTREMES = 3
"""Instructions shown at either end."""


class Notes:
    """Writes the notes of one run; what they are held against is read once."""

    def __init__(self, run: Run) -> None:
        """Reads the development instructions and the main baseline.

        Raises:
            UserError: one of the experiment's files cannot be read.
        """
        self.run = run
        self.baseline = next(iter(build_baselines(run.experiment).items()), None)
        examples = load_splits(run.experiment)["dev"]
        self.queries = dict(
            zip(example_ids(examples), (one.query for one in examples), strict=True)
        )

    def stamp(self) -> tuple[int, int]:
        """Gives what changes when the run is proved: older notes are to be made anew."""
        return stamp(self.run.folder)

    def of_decided(self) -> str:
        """Gives what a round of preferences says when one card is left."""
        command = f"icl-align dashboard {shlex.quote(str(self.run.folder))} --preferences"
        return f"**Decided.** Nothing is left to choose here. See:\n\n{fenced(command, _SYSTEM)}"

    def of_trial(self, record: TrialRecord) -> str:
        """Gives a trial's note as Markdown."""
        found = record.evaluation
        if found is None:
            return f"Trial {record.number} is {record.state}: nothing is measured yet."
        mean, error = _number(found.mean), _number(found.standard_error)
        parts = [
            f"### Trial {record.number}: {mean} on {found.n} instructions",
            *self._crown(found.prompt),
            _facts(record, found, error),
            "**System text**",
            fenced(found.prompt.system or "(none)", _SYSTEM),
            f"**Exemplars** ({len(found.prompt.exemplars)})",
            fenced(_exemplars(found.prompt), _SYSTEM),
            *self._diff(found.prompt),
            "**Worst and best instructions**",
            fenced(self._extremes(found), _DIFF),
        ]
        if record.note:
            parts += ["**Said of it**", fenced(record.note, _SYSTEM)]
        return "\n\n".join(parts)

    def of_study(self, records: Sequence[TrialRecord], *, ended: bool) -> str:
        """Gives the run's note: what it is, what it has found, and the command to run it again.

        Args:
            records: Its trials.
            ended: Whether the sweep has come to its end, so that its ranking need not be computed.
        """
        experiment = self.run.experiment
        told = [one for one in records if one.evaluation is not None]
        parts = [
            "### A run of icl-align",
            fenced(
                f"experiment  {experiment.name}\nseed        {experiment.seed}\n"
                f"sampler     {experiment.search.sampler}\nmodel       {experiment.model.id}\n"
                f"trials      {len(told)} measured of {len(records)}",
                _SYSTEM,
            ),
        ]
        try:
            found = collect(self.run) if ended else None
        except UserError as error:
            return "\n\n".join([*parts, fenced(str(error), _SYSTEM)])
        if found is None:
            return "\n\n".join([*parts, fenced(_best(told), _SYSTEM)])
        commands, toml = reproduce(found)
        return "\n\n".join(
            [
                *parts,
                fenced(headline(found)[0], _SYSTEM),
                "**To run it again** (`experiment.toml` is below; `icl-align report` shows more)",
                fenced(commands, _SYSTEM),
                fenced(toml, _DIFF),
            ]
        )

    def _crown(self, prompt: Prompt) -> list[str]:
        """Says of the winner that it is, and how it was proved."""
        winner = proved(self.run.folder)
        if winner is None or winner.digest != prompt.digest:
            return []
        return ["**The winner.** Proved:", fenced(line(winner.told, _SYSTEM), _SYSTEM)]

    def _diff(self, prompt: Prompt) -> list[str]:
        if self.baseline is None:
            return []
        name, before = self.baseline
        lines = list(
            difflib.unified_diff(
                before.to_text().split("\n"), prompt.to_text().split("\n"), "baseline", "trial",
                n=1, lineterm="",
            )
        )  # fmt: skip
        text = "\n".join(lines[2:]) or "the same text"
        return [
            "**Against the main baseline**",
            fenced(f"baseline: {line(name, _QUERY)}\n{text}", _DIFF, "diff"),
        ]

    def _extremes(self, found: Evaluation) -> str:
        rows = sorted(
            (score.value, name)
            for name, score in zip(found.ids, found.scores, strict=True)
            if score.value is not None
        )
        if not rows:
            return "no verdict"
        worst = rows[:_EXTREMES]
        best = [row for row in rows[::-1][:_EXTREMES] if row not in worst]
        return "\n".join(
            f"{value:.3f}  {line(name, 40)}  {line(self.queries.get(name, ''), _QUERY)}"
            for value, name in [*worst, *best]
        )


def _facts(record: TrialRecord, found: Evaluation, error: str) -> str:
    """Figures, with names that may be anybody's; so all of it in a fence."""
    prompt, usage = found.prompt, record.usage
    decoding = prompt.decoding
    rows = {
        "state": record.state,
        "mean": f"{_number(found.mean)}, standard error {error}",
        "verdicts": f"{found.n}, missing {found.missing}",
        "aspects": "\n          ".join(
            f"{v:.3f}  {line(k, 40)}" for k, v in _aspects(found).items()
        )
        or "-",
        "prompt": f"K = {len(prompt.exemplars)}, format {line(prompt.format.name, 40)}, "
        f"about {record.length:,} tokens",
        "decoding": f"temperature {decoding.temperature:g}, top-p {decoding.top_p:g}, repetition "
        f"penalty {decoding.repetition_penalty:g}, at most {decoding.max_tokens} tokens",
        "cost": f"this trial {_counted(record.measured, 'generation')} ({usage.paid} paid, "
        f"{usage.generated_tokens:,} tokens, {record.seconds:.1f} s); its prompt measured on "
        f"{_counted(len(found.ids), 'instruction')} in all trials together",
        "digest": prompt.digest[:16],
    }
    return fenced("\n".join(f"{name:10}{value}" for name, value in rows.items()), _DIFF)


def _aspects(found: Evaluation) -> Mapping[str, float]:
    """Means of the aspects over the verdicts that have them."""
    values: dict[str, list[float]] = {}
    for score in found.scores:
        for name, value in score.aspects.items():
            values.setdefault(name, []).append(value)
    return {name: math.fsum(them) / len(them) for name, them in sorted(values.items())}


def _exemplars(prompt: Prompt) -> str:
    rows = [
        f"{place}  {line(one.id, 40) or '-'}  {line(one.query, _QUERY)}"
        for place, one in enumerate(prompt.exemplars, start=1)
    ]
    return "\n".join(rows) or "(none)"


def _best(told: Sequence[TrialRecord]) -> str:
    """The best whole trial of a sweep that goes on; a ranking would have to be computed."""
    whole = [(one.mean, one.number, one) for one in told if one.mean is not None]
    if not whole:
        return "The search goes on: no prompt is measured on all instructions yet."
    mean, number, one = max(whole, key=lambda row: (row[0], -row[1]))
    error = _number(one.evaluation.standard_error if one.evaluation else None)
    return (
        f"The search goes on: trial {number} has the best mean so far, {mean:.3f} (standard error "
        f"{error}) on the instructions it was searched on; `icl-align top` says what is believed"
    )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
