"""Requests to servers that may be slow, busy, broken or gone: bounded, and patient to a limit."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx
import tenacity

from icl_align.engines._reply import BadReplyError, decoded, told
from icl_align.errors import UserError

if TYPE_CHECKING:
    import ssl

_LONGEST_WAIT_S = 60.0
_LOCAL = ("all://localhost", "all://127.0.0.1", "all://[::1]")

T = TypeVar("T")
R = TypeVar("R")


@dataclass(slots=True)
class Health:
    """What is known of a server from its last replies.

    Attributes:
        failures: How often in a row it has failed, failures of one moment counted once; 0 is healthy.
        rests_until: No request before, because it has failed and another server lives.
        asked_until: No request before, because it has said so.
    """

    failures: int = 0
    rests_until: float = 0.0
    asked_until: float = 0.0

    @property
    def ends(self) -> tuple[float, float]:
        """When its rests end."""
        return self.rests_until, self.asked_until

    def fail(self, backoff_s: float) -> None:
        """Notes a failure; what was under way when it began to rest tells nothing new."""
        now = time.monotonic()
        if now >= self.rests_until:
            self.failures += 1
            self.rests_until = now + min(_LONGEST_WAIT_S, backoff_s * 2 ** min(self.failures, 16))


@dataclass(slots=True, eq=False)
class _Server:
    """One base URL, what is known of it, and how many requests it has."""

    url: str
    health: Health
    busy: int = 0


class Servers:
    """Sends each request to the least busy of the healthiest servers, again up to a bound.

    A server gets at most `concurrency` requests at once. One that fails more than another is left
    aside: it gets one request now and then, to see whether it has come back. To be used within
    `async with`.
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
        known: dict[str, Health],
    ) -> None:
        """Stores the settings; nothing is sent.

        Args:
            urls: Base URLs, such as http://127.0.0.1:8000/v1.
            concurrency: Most requests at once to one server.
            timeout_s: How long a server may be silent; connecting may take 10 seconds.
            attempts: How often a request is sent at most.
            backoff_s: First wait after a failure; it doubles each time, up to a minute.
            headers: Sent with each request.
            known: What calls before have found out about servers; changed as this one goes on.
        """
        self.servers = [_Server(url, known.setdefault(url, Health())) for url in urls]
        self.concurrency, self.attempts, self.backoff_s = concurrency, attempts, backoff_s
        self.timeout = httpx.Timeout(timeout_s, connect=min(10.0, timeout_s))
        self.headers = dict(headers)
        self.giving_up = False
        """Set it when a failed request is sent again no more."""

    @property
    def room(self) -> int:
        """Most requests at once to all servers together."""
        return self.concurrency * len(self.servers)

    async def __aenter__(self) -> Self:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self.client = httpx.AsyncClient(
            headers=self.headers,
            timeout=self.timeout,
            limits=limits,
            verify=_tls(),
            mounts=dict.fromkeys(_LOCAL),  # a proxy of the environment does not lead to them
        )
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
            if any(not s.health.failures and s.url not in failed for s in self.servers):
                return 0.0
            return max(grow(state), min(asked or 0.0, _LONGEST_WAIT_S))

        failed: dict[str, str] = {}  # reasons by URL, the last one last
        attempts = 0
        try:
            async for attempt in tenacity.AsyncRetrying(
                stop=lambda state: self.giving_up or state.attempt_number >= self.attempts,
                wait=wait,
                retry=tenacity.retry_if_exception_type((BadReplyError, httpx.RequestError)),
                reraise=True,
            ):
                attempts = attempt.retry_state.attempt_number
                with attempt:
                    return await self._once(path, body, read, failed)
        except (BadReplyError, httpx.RequestError) as error:
            (url, reason), *others = reversed(failed.items())
            more = "".join(f"; before, from {other}: {said}" for other, said in others)
            raise UserError(
                f"no usable reply after {attempts} attempts, the last time from {url}: {reason}"
                f"{more}; see that the server runs, then start the same command again: what has come "
                "is kept"
            ) from error
        raise AssertionError("a retried request neither returned nor raised")

    async def _once(
        self,
        path: str,
        body: Mapping[str, Any] | None,
        read: Callable[[Any], T],
        failed: dict[str, str],
    ) -> T:
        async with self._server(failed) as server:
            url = server.url + path
            try:
                sent = self.client.get(url) if body is None else self.client.post(url, json=body)
                found = read(decoded(await sent))
            except (BadReplyError, httpx.RequestError) as error:
                failed.pop(server.url, None)  # so that the last one stands last
                failed[server.url] = told(error)
                wait_s = error.wait_s if isinstance(error, BadReplyError) else None
                if wait_s is None:
                    server.health.fail(self.backoff_s)
                else:
                    server.health.asked_until = time.monotonic() + min(wait_s, _LONGEST_WAIT_S)
                raise
            server.health.failures, server.health.rests_until = 0, 0.0
            return found

    @asynccontextmanager
    async def _server(self, failed: dict[str, str]) -> AsyncIterator[_Server]:
        """The best server for a request that has failed at some, when there is room."""
        async with self.changed:
            while (server := self._free(failed)) is None:
                now = time.monotonic()
                ends = [end for s in self.servers for end in s.health.ends]
                nap = min((end - now for end in ends if end > now), default=None)
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

    def _free(self, failed: dict[str, str]) -> _Server | None:
        now = time.monotonic()
        free = [
            s for s in self.servers if s.busy < self.concurrency and s.health.asked_until <= now
        ]
        best = min(s.health.failures for s in self.servers)

        def may(server: _Server) -> bool:
            back = server.health.rests_until <= now and not server.busy
            return server.health.failures == best or (back and server.url not in failed)

        free = [server for server in free if may(server)]
        return min(free, key=lambda s: (s.url in failed, s.busy), default=None)


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
                servers.giving_up = True

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


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """Certificates, read once: it takes longer than many a request."""
    return httpx.create_ssl_context()
