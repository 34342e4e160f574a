"""Logs to MLflow by its own client; MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME etc. say where."""

from __future__ import annotations

import csv
import io
import os
import time
from collections.abc import Sequence
from typing import Any

from icl_align.config.hidden import without_queries
from icl_align.trackers.base import Outcome, Position, Proved, Row, Subject

_EXPERIMENT = "icl_align"
_CALL_PARAMS = 100
"""Parameters that one call of MLflow takes."""


class MLflowTracker:
    """A tracked run is an MLflow run: trials are steps of metrics, files are artifacts.

    MLflow itself is asked for the last trial that it has, so none is logged twice.

    Args:
        client: The module `mlflow`.
    """

    def __init__(self, client: Any) -> None:
        self._mlflow = client
        self._runs: Any = None
        self._id = ""
        self._step = 0
        # Else the client writes its links among the data on stdout.
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

    def start(self, run: Subject) -> Position:
        """Starts an MLflow run, or continues the one that was made for this run here."""
        self._runs = self._mlflow.MlflowClient()
        place = without_queries(self._mlflow.get_tracking_uri())
        ours = (
            (Position(self._id, place=place),) if self._id else ()
        )  # a start that failed half-way
        found = self._earlier((*ours, *run.known), place)
        if found is None:
            found = self._runs.create_run(self._experiment(), run_name=run.name)
        else:
            self._runs.update_run(found.info.run_id, status="RUNNING")
        self._id = found.info.run_id
        self._params(run, found.data.params)
        last = found.data.metrics.get("trial/number")
        self._step = int(found.data.metrics.get("spent/generations", 0))
        return Position(self._id, 0 if last is None else int(last) + 1, place)

    def trials(self, rows: Sequence[Row]) -> None:
        """Logs trials as metrics by generations spent."""
        now = _milliseconds()
        metric = self._mlflow.entities.Metric
        metrics = [
            metric(name, value, now, row.step)
            for row in rows
            # what tells the last trial comes last, should a store be cut off in between
            for name, value in sorted(row.values.items(), key=lambda one: one[0] == "trial/number")
        ]
        self._runs.log_batch(self._id, metrics=metrics)
        self._step = rows[-1].step

    def end(self, outcome: Outcome) -> None:
        """Logs the result, the best prompts as a table, and the winner's text."""
        self._numbers(outcome.values)
        self._runs.log_dict(self._id, dict(outcome.summary), "summary.json")
        if outcome.top:
            self._runs.log_text(self._id, _table(outcome.top), "top.csv")
            self._runs.log_text(self._id, outcome.winner, "winner.txt")

    def proved(self, proof: Proved) -> None:
        """Logs the proof's numbers and files."""
        self._numbers(proof.values)
        for file in proof.files:
            self._runs.log_artifact(self._id, str(file))

    def close(self, *, failed: bool) -> None:
        """Ends the MLflow run."""
        self._runs.set_terminated(self._id, "FAILED" if failed else "FINISHED")

    def _earlier(self, runs: Sequence[Position], place: str) -> Any:
        """The MLflow run that was made earlier; None where there is none, or it was deleted."""
        for known in runs:
            if known.place == place:
                try:
                    found = self._runs.get_run(known.id)
                except self._mlflow.exceptions.MlflowException as error:
                    if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                        raise
                    continue
                if found.info.lifecycle_stage == "active":
                    return found
        return None

    def _experiment(self) -> str:
        """The experiment of the client's environment, made where there is none."""
        if given := os.environ.get("MLFLOW_EXPERIMENT_ID"):
            return given
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or _EXPERIMENT
        found = self._runs.get_experiment_by_name(name)
        return str(found.experiment_id if found else self._runs.create_experiment(name))

    def _params(self, run: Subject, there: dict[str, str]) -> None:
        """Logs the settings; MLflow's cannot change, so what has (a limit) becomes a tag."""
        entities = self._mlflow.entities
        texts = {_name(name): str(value) or "(empty)" for name, value in run.params.items()}
        new = [entities.Param(name, text) for name, text in texts.items() if name not in there]
        tags = [
            entities.RunTag(f"now.{name}", text)
            for name, text in texts.items()
            if there.get(name, text) != text
        ]
        for at in range(0, len(new), _CALL_PARAMS):
            self._runs.log_batch(self._id, params=new[at : at + _CALL_PARAMS])
        if tags:
            self._runs.log_batch(self._id, tags=tags[:_CALL_PARAMS])

    def _numbers(self, values: Any) -> None:
        now, metric = _milliseconds(), self._mlflow.entities.Metric
        metrics = [metric(name, value, now, self._step) for name, value in values.items()]
        self._runs.log_batch(self._id, metrics=metrics)


def _milliseconds() -> int:
    return int(time.time() * 1000)


def _name(name: str) -> str:
    """A name as MLflow allows it: no path but its own simplest form."""
    plain = "".join(one if one.isalnum() or one in "_-./ " else "_" for one in name)[:250]
    return "/".join(part for part in plain.split("/") if part not in ("", ".", ".."))


def _table(rows: Sequence[Any]) -> str:
    """Rows as CSV, which MLflow shows as a table."""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()
