"""What of an experiment should not leave the machine: logins in URLs, and what is called a secret."""

from __future__ import annotations

import re

_LOGIN = re.compile(r"(?<=://)[^/\s\"]*@")
_QUERY = re.compile(r"(://[^?#\s\"]+)[?#][^\s\"]*")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SECRET = re.compile(
    r"(^|[_\- ])((api)?keys?|token|secrets?|pass(words?|wd|phrase)?|credentials?|auth|authorization|"
    r"bearer|headers?|cookies?)$",
    re.IGNORECASE,
)


def is_secret(name: str) -> bool:
    """Says whether a setting of this name holds a secret: api_key, accessToken, passwords, headers.

    Not "tokens", which is a number of them.
    """
    return _SECRET.search(_CAMEL.sub("_", name)) is not None


def without_logins(text: str) -> str:
    """Takes logins out of the URLs of a text."""
    return _LOGIN.sub("", text)


def without_queries(text: str) -> str:
    """Takes logins, queries and fragments out of the URLs of a text."""
    return _QUERY.sub(r"\1", without_logins(text))
