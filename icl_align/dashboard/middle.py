"""What stands between a browser and optuna-dashboard: notes are filled in, what would harm a run is refused."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import optuna
from optuna.trial import FrozenTrial

from icl_align.dashboard.notes import Notes
from icl_align.search.ranking import published
from icl_align.search.study import TrialRecord, record_of

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_DETAIL = re.compile(r"/api/studies/(\d+)/*\Z")
_PAGE = re.compile(r"/dashboard(/|\Z)")
_NOTE = re.compile(r"/api/studies/\d+(/\d+)?/note/*\Z")
_JUDGED = re.compile(r"/api/studies/(\d+)/(preference(/[\w-]+)?|\d+/skip)/*\Z", re.ASCII)
_READING = ("GET", "HEAD")
_STYLE = (
    b"<style>pre, pre code { white-space: pre-wrap !important; overflow-wrap: anywhere }</style>"
)
"""Long lines of answers are folded, not cut off."""


class Filling:
    """Gives trials and the study that have no note of a person's ours, where the page asks for them.

    Nothing is written: the database holds what people have written, and theirs stands before ours.
    optuna-dashboard reads all of a study's notes once for every trial, so stored ones would make
    each look at a long run slow.
    """

    def __init__(self, app: WSGIApplication, study: optuna.Study, notes: Notes) -> None:
        """Stores its parts; `study` is the run's."""
        self._app, self._study, self._notes = app, study, notes
        self._id = study._study_id  # noqa: SLF001 (the page knows studies by it)
        self._lock = threading.Lock()
        self._records: dict[int, TrialRecord] = {}
        self._texts: dict[int, str] = {}
        self._whole: tuple[int, bool, str] = (-1, False, "")

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answers a request."""
        path = environ.get("PATH_INFO", "")
        asked = _DETAIL.match(path)
        ours = asked is not None and int(asked[1]) == self._id
        if environ["REQUEST_METHOD"] != "GET" or not (ours or _PAGE.match(path)):
            return self._app(environ, start_response)
        head, body = _answer(self._app, environ)
        if head[0].startswith("200"):
            body = self._filled(body) if ours else body.replace(b"</head>", _STYLE + b"</head>", 1)
        headers = [(name, value) for name, value in head[1] if name.lower() != "content-length"]
        start_response(head[0], [*headers, ("Content-Length", str(len(body)))])
        return [body]

    def _filled(self, body: bytes) -> bytes:
        content = json.loads(body)
        with self._lock:
            trials = self._study.get_trials(deepcopy=False)
            _fill(content, partial(self._of_study, trials))
            for row in (*content["trials"], *content["best_trials"]):
                number = row["number"]
                if number < len(trials):  # it may have come since
                    _fill(row, partial(self._of_trial, trials[number]))
        return json.dumps(content).encode("utf-8")

    def _of_trial(self, trial: FrozenTrial) -> str:
        known = self._texts.get(trial.number)
        if known is not None:
            return known
        text = self._notes.of_trial(self._record(trial))
        if trial.state.is_finished():
            self._texts[trial.number] = text
        return text

    def _of_study(self, trials: Sequence[FrozenTrial]) -> str:
        told = sum(trial.state.is_finished() for trial in trials)
        if self._whole[:2] == (told, True):
            return self._whole[2]
        records = [self._record(trial) for trial in trials]
        ended = published(self._study, records) is not None
        if self._whole[:2] != (told, ended):
            self._whole = (told, ended, self._notes.of_study(records, ended=ended))
        return self._whole[2]

    def _record(self, trial: FrozenTrial) -> TrialRecord:
        """Reads a trial as a record; of one that has ended once only."""
        known = self._records.get(trial.number)
        if known is None:
            known = record_of(trial)
            if trial.state.is_finished():
                self._records[trial.number] = known
        return known


def _fill(row: dict[str, Any], text: Callable[[], str]) -> None:
    if row["note"]["version"] == 0 and not row["note"]["body"]:
        row["note"]["body"] = text()


def _answer(
    app: WSGIApplication, environ: WSGIEnvironment
) -> tuple[tuple[str, list[tuple[str, str]]], bytes]:
    """Calls an application and gives status, headers and the whole body."""
    found: list[tuple[str, list[tuple[str, str]]]] = []

    def keep(status: str, headers: list[tuple[str, str]], _error: Any = None) -> Callable[..., Any]:
        found.append((status, headers))
        return lambda _: None

    parts = app(environ, keep)
    try:
        body = b"".join(parts)
    finally:
        if hasattr(parts, "close"):
            parts.close()
    return found[-1], body


class Guard:
    """Refuses what would change a run: only notes, and preferences of preference studies, are written."""

    def __init__(
        self,
        app: WSGIApplication,
        judged: Callable[[], set[int]],
        names: set[str],
        *,
        writable: bool,
    ) -> None:
        """Stores its parts.

        Args:
            app: What is guarded.
            judged: Gives the ids of the studies that people's preferences may be told to.
            names: Host names that a request may come by; empty for any.
            writable: Refuse nothing but foreign host names and other sites' pages.
        """
        self._app, self._judged, self._names, self._writable = app, judged, names, writable

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answers a request."""
        name = re.sub(r":\d+\Z", "", environ.get("HTTP_HOST", "")).lower()
        if self._names and name not in self._names:  # a page elsewhere whose name leads here
            return _refused(start_response, f"this server does not answer to the name {name!r}")
        method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "")
        if method not in _READING and _foreign(environ):
            return _refused(start_response, "only this server's own pages may write")
        if self._writable or method in _READING or self._allowed(method, path):
            return self._app(environ, start_response)
        return _refused(
            start_response,
            "icl-align dashboard changes no run: only notes and preferences can be written; "
            "start it with --writable to allow all that optuna-dashboard can do",
        )

    def _allowed(self, method: str, path: str) -> bool:
        if method == "PUT" and _NOTE.match(path):
            return True
        judged = _JUDGED.match(path)
        return bool(judged and method in ("POST", "DELETE") and int(judged[1]) in self._judged())


def _foreign(environ: WSGIEnvironment) -> bool:
    """Whether a page of another site sent a request; browsers say so, and other clients say nothing."""
    origin = environ.get("HTTP_ORIGIN")
    host = environ.get("HTTP_HOST", "").lower()
    return origin is not None and urlsplit(origin).netloc.lower() != host


def _refused(start_response: StartResponse, reason: str) -> Iterable[bytes]:
    body = json.dumps({"reason": reason}).encode("ascii")
    start_response(
        "403 Forbidden",
        [("Content-Type", "application/json"), ("Content-Length", str(len(body)))],
    )
    return [body]
