"""A small server for optuna-dashboard on a run's database, beside a sweep that may be going on."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from optuna.storages import BaseStorage

from icl_align.dashboard.middle import Filling, Guard
from icl_align.dashboard.notes import Notes
from icl_align.dashboard.preferring import Asked, asked_in, open_round, undecided
from icl_align.errors import UserError
from icl_align.run import Run
from icl_align.search.study import DEFAULT_STUDY, opened_study

_NAMES = {"localhost", "127.0.0.1", "[::1]"}


@dataclass(frozen=True, slots=True)
class Served:
    """A dashboard that answers once `server.serve_forever` is called.

    Attributes:
        url: The page of the run's study.
        preferences: The page where answers are compared; "" without.
        asked: What is compared there; None without.
        local: Whether only this machine can reach it.
        server: The server.
    """

    url: str
    preferences: str
    asked: Asked | None
    local: bool
    server: WSGIServer


class _Server(ThreadingMixIn, WSGIServer):
    """Answers requests side by side: one that is slow does not hold up the others."""

    daemon_threads = True
    block_on_close = False


class _SixServer(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its base's name)
        """Says nothing of each request."""


@contextmanager
def serving(
    run: Run,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    prefer: tuple[int, int] | None = None,
    writable: bool = False,
) -> Iterator[Served]:
    """Opens a run's database and binds a port; the caller calls `serve_forever`.

    The database is opened as `search.study` opens it: readers and the writer of a sweep work at once,
    and a write waits for its turn.

    Args:
        run: The run, going on or ended.
        host: Where to listen.
        port: 0 for a free one.
        prefer: How many prompts and how many instructions people shall compare; None for none.
        writable: Let the page do all it can, also delete and rename studies.

    Raises:
        UserError: optuna-dashboard is missing, there is no such run, nothing to compare, or the port
            cannot be had.
    """
    need_dashboard()
    from optuna_dashboard import wsgi

    run.trials()  # there is such a run, and this icl_align reads it
    with opened_study(run.url, DEFAULT_STUDY, create=False) as study:
        asked = open_round(run, study, *prefer) if prefer else None
        storage = study._storage  # noqa: SLF001 (with its cache; Optuna has no public way to it)
        local = _local(host)
        app = Guard(
            Filling(wsgi(storage), study, Notes(run)),
            lambda identity: _judging(storage, identity),
            _NAMES | {host.lower()} if local else set(),
            writable=writable,
        )
        server = _bound(host, port)
        server.set_app(app)
        try:
            place = f"http://{_shown(host)}:{server.server_port}/dashboard/studies/"
            identity = study._study_id  # noqa: SLF001 (the page knows studies by it)
            yield Served(
                f"{place}{identity}",
                f"{place}{asked.study_id}" if asked else "",
                asked,
                local,
                server,
            )
        finally:
            server.server_close()


def _judging(storage: BaseStorage, study_id: int) -> bool | None:
    """Whether people's preferences decide a study still; None for one that is no round."""
    asked = asked_in(storage, study_id)
    return None if asked is None else undecided(storage, asked)


def need_dashboard() -> None:
    """Refuses to go on without optuna-dashboard.

    Raises:
        UserError: it is not installed.
    """
    if find_spec("optuna_dashboard") is None:
        raise UserError("optuna_dashboard is not installed; pip install 'icl-align[dashboard]'")


def _bound(host: str, port: int) -> WSGIServer:
    kind = _SixServer if ":" in host else _Server
    try:
        return kind((host, port), _Handler)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"port {port} of {host} is taken; choose another --port, or 0 for a free one"
            ) from error
        raise UserError(
            f"cannot listen at {host}:{port}: {error.strerror or error}; choose another --host or --port"
        ) from error


def _local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _shown(host: str) -> str:
    """A host as a URL has it; one that stands for all addresses is shown as this machine's own."""
    if host in ("0.0.0.0", "::", ""):  # noqa: S104 (compared, not bound)
        return "127.0.0.1" if host != "::" else "[::1]"
    return f"[{host}]" if ":" in host else host
