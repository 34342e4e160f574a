"""Logs to Weights & Biases by its own client; WANDB_PROJECT, WANDB_MODE, WANDB_DIR etc. say where."""

from __future__ import annotations

import importlib
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from icl_align.config.hidden import without_queries
from icl_align.trackers.base import Outcome, Position, Proved, Row, Subject
from icl_align.trackers.wandb_file import last_step

_PROJECT = "icl_align"
_FINISH_S = 60.0
"""How long uploading the rest may take."""


class WandbTracker:
    """A tracked run is a W&B run: its steps are trials, its charts go by generations spent.

    Which trial is next is told by W&B online, and offline by the files that earlier processes left:
    each writes a folder of its own, all under one run id. Where these are gone, it is trackers.json.

    Args:
        client: The module `wandb`.
    """

    def __init__(self, client: Any) -> None:
        self._wandb = client
        self._run: Any = None

    def start(self, run: Subject) -> Position:
        """Starts a W&B run, or continues the one that was made for this run here."""
        settings = self._wandb.setup().settings
        offline = settings.mode in ("offline", "dryrun")
        project = settings.project or _PROJECT
        where = "offline" if offline else without_queries(str(settings.base_url))
        place = "/".join((where, settings.entity or "", project))
        earlier = next((one for one in run.known if one.place == place), None)
        if settings.mode == "online" and not self._wandb.login(prompt=False):
            raise RuntimeError(
                "not logged in; run 'wandb login', set WANDB_API_KEY, or WANDB_MODE=offline"
            )
        name = earlier.id if earlier else settings.run_id or uuid.uuid4().hex[:12]
        left = self._left(Path(settings.wandb_dir), name) if offline else None
        self._run = self._wandb.init(
            project=project,
            name=run.name,
            id=name,
            resume="allow",
            settings=self._settings(),
        )
        self._run.config.update(dict(run.params), allow_val_change=True)
        self._run.define_metric("spent/generations")
        self._run.define_metric("*", step_metric="spent/generations")
        known = left if left is not None else earlier.next if earlier else 0
        return Position(name, known if offline else self._run.starting_step, place)

    def trials(self, rows: Sequence[Row]) -> None:
        """Logs trials, each as the step of its number."""
        for row in rows:
            self._run.log({**row.values, "trial/state": row.state}, step=row.number, commit=True)

    def end(self, outcome: Outcome) -> None:
        """Puts the result and the best prompts into the run's summary, and the winner's text beside it.

        A table logged with `log` would take a step, and the next trial would be told under another.
        """
        self._run.summary.update(dict(outcome.values))
        if outcome.top:
            columns = list(outcome.top[0])
            data = [[row[name] for name in columns] for row in outcome.top]
            self._run.summary["top"] = self._wandb.Table(columns=columns, data=data)
            made = self._artifact("winner", "prompt")
            with made.new_file("winner.txt", encoding="utf-8") as file:
                file.write(outcome.winner)
            self._run.log_artifact(made)

    def proved(self, proof: Proved) -> None:
        """Puts the proof's numbers into the summary, and its files beside it."""
        self._run.summary.update(dict(proof.values))
        made = self._artifact("proof", "proof")
        for file in proof.files:
            made.add_file(str(file), name=Path(file).name)
        self._run.log_artifact(made)

    def close(self, *, failed: bool) -> None:
        """Ends this process's part of the W&B run."""
        self._run.finish(exit_code=int(failed))

    def _left(self, folder: Path, name: str) -> int | None:
        """The first trial that earlier processes' files lack; None where there are no files."""
        messages = importlib.import_module("wandb.proto.wandb_internal_pb2")
        step = last_step(folder, name, messages.Record)
        return None if step is None else step + 1

    def _artifact(self, name: str, kind: str) -> Any:
        return self._wandb.Artifact(f"{name}-{self._run.id}", kind)

    def _settings(self) -> Any:
        """What the client's environment leaves open.

        It is not to copy what the terminal shows, and not to hold up a run's end without a limit.
        """
        ours = {"console": "off", "finish_timeout": _FINISH_S, "finish_timeout_raises": True}
        given = {
            name: value for name, value in ours.items() if f"WANDB_{name.upper()}" not in os.environ
        }
        return self._wandb.Settings(**given)
