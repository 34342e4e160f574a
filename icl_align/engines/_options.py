"""Checks of settings that come from an experiment file; each mistake is one line."""

from __future__ import annotations

import math
import os

import httpx

from icl_align.errors import UserError


def check_numbers(**given: object) -> None:
    """Refuses what is no whole number above 0; None is left out.

    Raises:
        UserError: naming the setting and what was given.
    """
    for name, value in given.items():
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UserError(f"{name} must be a whole number >= 1, got {value!r}")


def check_seconds(**given: object) -> None:
    """Refuses what is no number of seconds.

    Raises:
        UserError: naming the setting and what was given.
    """
    for name, value in given.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not isinstance(value, int | float) or not number or not 0 < value < math.inf:
            raise UserError(f"{name} must be a number of seconds > 0, got {value!r}")


def check_texts(**given: object) -> None:
    """Refuses what is no text; None is left out.

    Raises:
        UserError: naming the setting and what was given.
    """
    for name, value in given.items():
        if value is not None and not isinstance(value, str):
            raise UserError(f"{name} must be a text, got {value!r}")


def key_from(variable: str) -> str:
    """The key in an environment variable, "" without one; it never stands in an error.

    Raises:
        UserError: it cannot be sent.
    """
    key = os.environ.get(variable, "").strip()
    if not key.isascii() or not key.isprintable():
        raise UserError(f"the key in {variable} holds characters that no key has; set it again")
    return key


def checked_urls(given: object) -> list[str]:
    """Base URLs as they were given, one or a list of them.

    Raises:
        UserError: none, or one that is no base URL, or holds a secret.
    """
    urls = [given] if isinstance(given, str) else given
    if not isinstance(urls, list | tuple) or not urls:
        raise UserError("base_url is empty; give the server's, such as http://host:8000/v1")
    for url in urls:
        try:
            parsed = httpx.URL(url)
        except (httpx.InvalidURL, TypeError) as error:
            raise UserError(f"base_url must be like http://host:8000/v1, got {url!r}") from error
        if parsed.userinfo or parsed.query:
            raise UserError(
                f"the base_url of {parsed.host} holds a password or a query; put the key into the "
                "environment and give the plain URL"
            )
        if parsed.scheme not in ("http", "https") or not parsed.host.strip():
            raise UserError(f"base_url must be like http://host:8000/v1, got {url!r}")
        if parsed.path.rstrip("/").endswith("/completions"):
            raise UserError(f"base_url ends before /completions, usually in /v1, got {url!r}")
    return [str(url).rstrip("/") for url in urls]
