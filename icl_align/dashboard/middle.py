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
from icl_align.dashboard.preferring import asked_in, standing
from icl_align.search.ranking import published
from icl_align.search.study import TrialRecord, record_of

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_DETAIL = re.compile(r"/api/studies/(\d+)/*\Z")
_PAGE = re.compile(r"/dashboard(/|\Z)")
_NOTE = re.compile(r"/api/studies/\d+(/\d+)?/note/*\Z")
_JUDGED = re.compile(r"/api/studies/(\d+)/(preference|preference/[\w-]+|\d+/skip)/*\Z", re.ASCII)
_READING = ("GET", "HEAD")
_STYLE = (
    b"<style>pre, pre code, pre div { white-space: pre-wrap !important; overflow-wrap: anywhere }"
    b" :where(main, main div) { min-width: 0 }</style>"  # :where, so that the page's own widths win
)
"""Long lines are folded, not cut off, and no column of the page is as wide as its longest text."""


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
        self._stamp = (-1, -1)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answers a request."""
        path = environ.get("PATH_INFO", "")
        asked = _DETAIL.match(path)
        if environ["REQUEST_METHOD"] != "GET" or not (asked or _PAGE.match(path)):
            return self._app(environ, start_response)
        head, body = _answer(self._app, environ)
        if head[0].startswith("200"):
            if asked is None:
                body = body.replace(b"</head>", _STYLE + b"</head>", 1)
            elif int(asked[1]) == self._id:
                body = self._filled(body)
            else:
                body = self._ended(int(asked[1]), body)
        headers = [(name, value) for name, value in head[1] if name.lower() != "content-length"]
        start_response(head[0], [*headers, ("Content-Length", str(len(body)))])
        return [body]

    def _filled(self, body: bytes) -> bytes:
        content = json.loads(body)
        with self._lock:
            if self._stamp != (now := self._notes.stamp()):  # proved, or anew
                self._stamp, self._whole = now, (-1, False, "")
                self._texts.clear()
            trials = self._study.get_trials(deepcopy=False)
            _fill(content, partial(self._of_study, trials))
            for row in (*content["trials"], *content["best_trials"]):
                number = row["number"]
                if number < len(trials):  # it may have come since
                    _fill(row, partial(self._of_trial, trials[number]))
        return json.dumps(content).encode("utf-8")

    def _ended(self, identity: int, body: bytes) -> bytes:
        """Says of a round that is decided that it is: the page goes on asking for the worst."""
        storage = self._study._storage  # noqa: SLF001 (with its cache; Optuna has no public way to it)
        asked = asked_in(storage, identity)
        if asked is None or len(left := standing(storage, asked)) > 1:
            return body
        content = json.loads(body)
        told = self._notes.of_decided()
        _fill(content, lambda: told)
        for row in (*content["trials"], *content["best_trials"]):
            if row["number"] in left and not row["note"]["body"].startswith(told):
                row["note"]["body"] = f"{told}\n\n{row['note']['body']}"
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
        judging: Callable[[int], bool | None],
        names: set[str],
        *,
        writable: bool,
    ) -> None:
        """Stores its parts.

        Args:
            app: What is guarded.
            judging: Says of a study's id whether people's preferences decide it still; None where it
                is no study of preferences.
            names: Host names that a request may come by; empty for any.
            writable: Refuse nothing but foreign host names and other sites' pages.
        """
        self._app, self._judging, self._names, self._writable = app, judging, names, writable
        self._writing = threading.Lock()  # two clicks at once make optuna-dashboard fail with 500

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answers a request."""
        name = re.sub(r":\d+\Z", "", environ.get("HTTP_HOST", "")).lower()
        if self._names and name not in self._names:  # a page elsewhere whose name leads here
            return _refused(start_response, f"this server does not answer to the name {name!r}")
        method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "")
        if method not in _READING and _foreign(environ):
            return _refused(start_response, "only this server's own pages may write")
        if method in _READING:
            return self._app(environ, start_response)
        with self._writing:
            reason = "" if self._writable else self._against(method, path)
            if not reason:
                return self._app(environ, start_response)
        return _refused(start_response, reason)

    def _against(self, method: str, path: str) -> str:
        """What stands against a request that writes; "" for nothing."""
        judged = _JUDGED.match(path)
        asked = self._judging(int(judged[1])) if judged and method in ("POST", "DELETE") else None
        if (method == "PUT" and _NOTE.match(path)) or asked:
            return ""
        if judged is None or asked is None:
            return (
                "icl-align dashboard changes no run: only notes and preferences can be written; "
                "start it with --writable to allow all that optuna-dashboard can do"
            )
        if method == "DELETE" or "/preference/" in path:
            return ""  # a verdict is taken back, or given again
        return (
            "this round is decided: one card is left, and a click changes nothing; take a verdict back "
            "(Undo), or start icl-align dashboard --prefer again for the next round"
        )


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
