"""Requests to servers that may be slow, busy, broken or gone: bounded, and patient to a limit."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import queue
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import httpx
import tenacity

from icl_align.errors import UserError

_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
_LONGEST_WAIT_S = 60.0
_SNIPPET = 200

T = TypeVar("T")
R = TypeVar("R")


class BadReplyError(Exception):
    """A reply that is no answer to the request: it is asked for again."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class RefusedError(Exception):
    """A reply that says the request itself is wrong; asking again would not help."""

    def __init__(self, status: int, reason: str, url: str) -> None:
        super().__init__(f"HTTP {status} from {url}: {reason}")
        self.status, self.reason = status, reason


@dataclass(slots=True)
class _Server:
    """One base URL, how many requests it has, and until when it is left alone."""

    url: str
    busy: int = 0
    rests_until: float = 0.0


class Servers:
    """Sends each request to the least busy server that is awake, again up to a bound.

    A server gets at most `concurrency` requests at once. To be used within `async with`.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        concurrency: int,
        timeout_s: float,
        attempts: int,
        backoff_s: float,
        headers: Mapping[str, str],
    ) -> None:
        """Stores the settings; nothing is sent.

        Args:
            urls: Base URLs, such as http://127.0.0.1:8000/v1.
            concurrency: Most requests at once to one server.
            timeout_s: How long a server may be silent; connecting may take 10 seconds.
            attempts: How often a request is sent at most.
            backoff_s: First wait after a failure; it doubles each time, up to a minute.
            headers: Sent with each request.

        Raises:
            UserError: no URL, or one that is none.
        """
        for url in urls:
            if not url.startswith(("http://", "https://")) or not httpx.URL(url).host:
                raise UserError(f"base_url must be like http://host:8000/v1, got {url!r}")
        if not urls:
            raise UserError("base_url is empty; give the server's, such as http://host:8000/v1")
        self.servers = [_Server(url.rstrip("/")) for url in urls]
        self.concurrency, self.attempts, self.backoff_s = concurrency, attempts, backoff_s
        self.timeout = httpx.Timeout(timeout_s, connect=min(10.0, timeout_s))
        self.headers = dict(headers)
        self.client = httpx.AsyncClient()
        self.changed = asyncio.Condition()

    @property
    def room(self) -> int:
        """Most requests at once to all servers together."""
        return self.concurrency * len(self.servers)

    async def __aenter__(self) -> Self:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self.client = httpx.AsyncClient(headers=self.headers, timeout=self.timeout, limits=limits)
        self.changed = asyncio.Condition()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.client.aclose()

    async def ask(self, path: str, body: Mapping[str, Any] | None, read: Callable[[Any], T]) -> T:
        """Sends a request until a reply can be read.

        Args:
            path: Behind the base URL, such as "/completions".
            body: Sent as JSON; None for a GET.
            read: Makes a value of the decoded JSON, or raises `BadReplyError`.

        Raises:
            RefusedError: the server says that the request is wrong.
            UserError: no reply could be had.
        """
        grow = tenacity.wait_exponential_jitter(
            multiplier=self.backoff_s, max=_LONGEST_WAIT_S, jitter=self.backoff_s
        )

        def wait(state: tenacity.RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            asked = error.wait_s if isinstance(error, BadReplyError) else None
            return grow(state) if asked is None else min(asked, _LONGEST_WAIT_S)

        place = _Place()
        try:
            async for attempt in tenacity.AsyncRetrying(
                stop=tenacity.stop_after_attempt(self.attempts),
                wait=wait,
                retry=tenacity.retry_if_exception_type((BadReplyError, httpx.TransportError)),
                reraise=True,
            ):
                with attempt:
                    return read(await self._once(path, body, place))
        except (BadReplyError, httpx.TransportError) as error:
            raise UserError(
                f"no usable reply after {self.attempts} attempts, the last time from {place.url}: "
                f"{told(error)}; see that the server runs, then start the same command again: what has "
                "come is kept"
            ) from error
        raise AssertionError("a retried request neither returned nor raised")

    async def _once(self, path: str, body: Mapping[str, Any] | None, place: _Place) -> Any:
        async with self._server() as server:
            place.url = server.url
            url = server.url + path
            try:
                sent = self.client.get(url) if body is None else self.client.post(url, json=body)
                return _decoded(await sent)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                server.rests_until = time.monotonic() + self.backoff_s
                raise
            except BadReplyError as error:
                if error.wait_s is not None:
                    server.rests_until = time.monotonic() + min(error.wait_s, _LONGEST_WAIT_S)
                raise

    @asynccontextmanager
    async def _server(self) -> AsyncIterator[_Server]:
        """The least busy server that has room and is awake, when there is one."""
        async with self.changed:
            while (server := self._free()) is None:
                naps = [s.rests_until - time.monotonic() for s in self.servers]
                nap = min((nap for nap in naps if nap > 0), default=None)
                try:
                    await asyncio.wait_for(self.changed.wait(), nap)
                except TimeoutError:
                    continue
            server.busy += 1
        try:
            yield server
        finally:
            server.busy -= 1
            async with self.changed:
                self.changed.notify_all()

    def _free(self) -> _Server | None:
        now = time.monotonic()
        free = [s for s in self.servers if s.busy < self.concurrency and s.rests_until <= now]
        return min(free, key=lambda server: server.busy, default=None)


def each(
    servers: Servers, jobs: Sequence[T], work: Callable[[T], Awaitable[R]]
) -> Iterator[tuple[int, R]]:
    """Does jobs, as many at once as the servers take; gives index and result of each as it is done.

    The event loop has a thread of its own, so this works in a notebook too. Whoever stops iterating,
    by an interrupt too, cancels what is under way.

    Raises:
        Exception: what the first job that failed has raised, when those under way with it are
            through: what a server has answered is paid, and is not to be lost.
    """
    done: queue.SimpleQueue[tuple[int, R] | BaseException | None] = queue.SimpleQueue()
    waiting = iter(enumerate(jobs))
    failures: list[Exception] = []
    loop = asyncio.new_event_loop()

    async def worker() -> None:
        for index, job in waiting:
            if failures:
                return
            try:
                done.put((index, await work(job)))
            except Exception as error:  # noqa: BLE001 (raised below, when the others are through)
                failures.append(error)

    async def all_of_them() -> None:
        async with servers:
            workers = [asyncio.create_task(worker()) for _ in range(min(servers.room, len(jobs)))]
            try:
                await asyncio.gather(*workers)
            finally:
                for one in workers:
                    one.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
        if failures:
            raise failures[0]

    whole = loop.create_task(all_of_them())

    def run() -> None:
        try:
            loop.run_until_complete(whole)
            done.put(None)
        except BaseException as error:  # noqa: BLE001 (it is raised where the results are awaited)
            done.put(error)
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    thread = threading.Thread(target=run, name="icl_align requests", daemon=True)
    thread.start()
    try:
        while (item := done.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        if thread.is_alive() and not loop.is_closed():
            with contextlib.suppress(RuntimeError):  # it ended in between
                loop.call_soon_threadsafe(whole.cancel)
        thread.join()


@dataclass(slots=True)
class _Place:
    """Where a request was sent last."""

    url: str = ""


def told(error: BaseException) -> str:
    """An error in a few words."""
    words = " ".join(str(error).split())[:_SNIPPET]
    return words if isinstance(error, BadReplyError) else f"{type(error).__name__} {words}".strip()


def _decoded(reply: httpx.Response) -> Any:
    """The JSON of a good reply.

    Raises:
        BadReplyError: it may be better next time.
        RefusedError: it will not.
    """
    status = reply.status_code
    if status in _RETRIED:
        raise BadReplyError(f"HTTP {status}: {_reason(reply)}", _retry_after(reply))
    if status != httpx.codes.OK:
        raise RefusedError(status, _reason(reply), str(reply.url))
    try:
        return reply.json()
    except ValueError as error:
        raise BadReplyError(f"a reply that is no JSON: {reply.text[:_SNIPPET]!r}") from error


def _reason(reply: httpx.Response) -> str:
    """What a server says about an error, in whichever of the usual places it stands."""
    try:
        body = reply.json()
    except ValueError:
        body = reply.text
    for key in ("error", "detail", "message"):
        if isinstance(body, dict) and key in body:
            body = body[key]
    return " ".join(str(body).split())[:_SNIPPET]


def _retry_after(reply: httpx.Response) -> float | None:
    """Seconds that a server asks to wait, given as a number or as a date (RFC 9110, 10.2.3)."""
    given = reply.headers.get("retry-after", "")
    if given.strip().isdigit():
        return float(given)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(given).timestamp() - time.time())
    except ValueError:
        return None
