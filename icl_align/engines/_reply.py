"""What a server's HTTP reply means: a value, a failure that may pass, or a refusal."""

from __future__ import annotations

import email.utils
import time
from typing import Any

import httpx

_RETRIED = frozenset({408, 409, 425, 429})
"""Refusals that may not last; nor may any status of 500 and above."""

_SNIPPET = 200


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


def told(error: BaseException) -> str:
    """An error in a few words."""
    words = " ".join(str(error).split())[:_SNIPPET]
    return words if isinstance(error, BadReplyError) else f"{type(error).__name__} {words}".strip()


def decoded(reply: httpx.Response) -> Any:
    """The JSON of a good reply.

    Raises:
        BadReplyError: it may be better next time.
        RefusedError: it will not.
    """
    status = reply.status_code
    if status in _RETRIED or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise BadReplyError(f"HTTP {status}: {_reason(reply)}", _retry_after(reply))
    if not reply.is_success:
        raise RefusedError(status, _reason(reply), str(reply.url))
    try:
        return reply.json()
    except (ValueError, RecursionError) as error:
        raise BadReplyError(f"a reply that is no JSON: {reply.text[:_SNIPPET]!r}") from error


def _reason(reply: httpx.Response) -> str:
    """What a server says about an error, in whichever of the usual places it stands."""
    if reply.is_redirect:
        return f"it is elsewhere: {reply.headers.get('location', '')[:_SNIPPET]}"
    try:
        body = reply.json()
    except (ValueError, RecursionError):
        body = reply.text
    for key in ("error", "detail", "message"):
        if isinstance(body, dict) and key in body:
            body = body[key]
    return " ".join(str(body).split())[:_SNIPPET]


def _retry_after(reply: httpx.Response) -> float | None:
    """Seconds that a server asks to wait, given as a number or as a date (RFC 9110, 10.2.3)."""
    given = reply.headers.get("retry-after", "")
    if given.strip().isdecimal():
        return float(given)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(given).timestamp() - time.time())
    except ValueError:
        return None
