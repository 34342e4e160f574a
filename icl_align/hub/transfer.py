"""Sends packs to the Hub, and fetches them.

What is pulled is a stranger's. Only `pack.json` is fetched, never more than `MOST_BYTES` of it; its
content is compared with the hash that the Hub names, read as any pack is read (so its digest is that of
its prompt), and written where the user says. Nothing in it is run, and it names no file to be opened.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from icl_align.errors import UserError
from icl_align.hub.cards import card, check_repo, publishable
from icl_align.pack import Pack
from icl_align.passport.plain import printable

FILE = "pack.json"
MOST_BYTES = 8 * 2**20
"""A pack of 8 exemplars has 10 kB; one with a pool of 10,000 would have more than this."""
_DEEPEST = 50
"""Levels of nesting; a pack has five, what scorers leave as evidence a few more."""
_TIMEOUT_S = 30.0
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_COMMIT = re.compile(r"[0-9a-f]{40}")


def push(
    pack: Pack,
    repo: str,
    *,
    private: bool = True,
    message: str = "Pack by icl-align",
    endpoint: str | None = None,
) -> dict[str, Any]:
    """Uploads a pack and its card in one commit.

    Args:
        pack: What is uploaded, as `publishable` gives it.
        repo: "OWNER/NAME", made where it is not there yet.
        private: Whether only its owner may see it.
        message: The commit's.
        endpoint: The Hub's address; HF_ENDPOINT, or huggingface.co, where None.

    Returns:
        JSON values: "repo", "url", "commit", "visibility" and "digest".

    Raises:
        UserError: no token, no right to write there, a public repository that should be private, or
            the Hub cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    check_repo(repo)
    token = get_token()
    if token is None:
        raise UserError("pushing needs a token of the Hub; set HF_TOKEN, or run: hf auth login")
    shown = publishable(pack)
    files = {FILE: _as_bytes(shown), "README.md": card(shown, repo).encode("utf-8")}
    if len(files[FILE]) > MOST_BYTES:
        raise UserError(f"this pack has {len(files[FILE])} bytes, pull takes up to {MOST_BYTES}")
    with _told(repo):
        api = HfApi(endpoint=endpoint, token=token)
        api.create_repo(repo, private=private, exist_ok=True)
        found = api.repo_info(repo)
        if private and not found.private:
            raise UserError(
                f"{repo} is there already and public; push --public if everybody may see the pack, "
                "or choose another name"
            )
        added = [CommitOperationAdd(name, content) for name, content in files.items()]
        commit = api.create_commit(repo, added, commit_message=message)
    return {
        "repo": repo,
        "url": f"{api.endpoint}/{repo}",
        "commit": commit.oid,
        "visibility": "private" if found.private else "public",
        "digest": shown.prompt.digest,
    }


def pull(
    repo: str,
    to: Path | str,
    *,
    revision: str = "main",
    digest: str | None = None,
    overwrite: bool = False,
    endpoint: str | None = None,
) -> dict[str, Any]:
    """Downloads a pack, checks it, and writes it.

    Args:
        repo: "OWNER/NAME".
        to: Where it goes: a `.json`.
        revision: A branch, tag or commit.
        digest: What the prompt's digest must be, or begin with (12 characters or more).
        overwrite: Whether a file that is there may be replaced.
        endpoint: The Hub's address; HF_ENDPOINT, or huggingface.co, where None.

    Returns:
        JSON values: "repo", "commit", "digest", "file".

    Raises:
        UserError: there is no such pack, it is too large, no pack, changed on its way, or another
            than the digest says; or a file is in its place.
    """
    check_repo(repo)
    place = Path(to)
    if place.suffix != ".json":
        raise UserError(f"a pulled pack is written as .json, not as {place.name!r}")
    if place.exists() and not overwrite:
        raise UserError(f"{place} is there already; choose another place, or overwrite it: --force")
    if digest is not None and not re.fullmatch(r"[0-9a-f]{12,64}", digest):
        raise UserError(f"a digest is 12 to 64 hex digits, got {digest!r}")
    with _told(repo):
        commit, content = _fetched(repo, revision, endpoint)
    pack = _read(content, repo)
    if digest is not None and not pack.prompt.digest.startswith(digest):
        raise UserError(
            f"{repo} holds a pack with the digest {pack.prompt.digest[:12]}, not {digest[:12]}"
        )
    pack.save(place)
    return {"repo": repo, "commit": commit, "digest": pack.prompt.digest, "file": str(place)}


def _as_bytes(pack: Pack) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / FILE
        pack.save(place)
        return place.read_bytes()


def _read(content: bytes, repo: str) -> Pack:
    if _depth(content) > _DEEPEST:
        raise UserError(
            f"{repo}/{FILE} is nested too deeply to be a pack (more than {_DEEPEST} levels)"
        )
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / FILE
        place.write_bytes(content)
        try:
            return Pack.load(place)
        except UserError as error:
            told = printable(str(error).replace(str(place), f"{repo}/{FILE}"))
            raise UserError(told) from error


def _depth(content: bytes) -> int:
    """How deeply JSON is nested, told without reading it, which would nest calls as deeply."""
    depth = deepest = 0
    for mark in re.findall(rb"[\[\]{}]", _STRING.sub(b"", content)):
        depth += 1 if mark in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _fetched(repo: str, revision: str, endpoint: str | None) -> tuple[str, bytes]:
    """The commit that a revision stands for, and the file in it, as its hash says."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        build_hf_headers,
        hf_raise_for_status,
        http_stream_backoff,
    )

    url = hf_hub_url(repo, FILE, revision=revision, endpoint=endpoint)
    about = get_hf_file_metadata(url, endpoint=endpoint, timeout=_TIMEOUT_S)
    if about.size is None or about.size > MOST_BYTES:
        raise UserError(f"{repo}/{FILE} has {about.size} bytes, a pack has up to {MOST_BYTES}")
    commit = about.commit_hash or ""
    if not _COMMIT.fullmatch(commit):
        raise UserError(f"the Hub names no commit for {repo} at {revision!r}; try again later")
    pinned = hf_hub_url(repo, FILE, revision=commit, endpoint=endpoint)
    # Uncompressed, so that what is counted is what arrives.
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    content = bytearray()
    with http_stream_backoff(
        "GET", pinned, headers=headers, max_retries=2, timeout=_TIMEOUT_S, follow_redirects=True
    ) as response:
        hf_raise_for_status(response)
        for chunk in response.iter_raw(2**16):
            content += chunk
            if len(content) > MOST_BYTES:
                raise UserError(f"{repo}/{FILE} has more than the {MOST_BYTES} bytes of a pack")
    _check_hash(bytes(content), about.etag or "", repo)
    return commit, bytes(content)


def _check_hash(content: bytes, named: str, repo: str) -> None:
    """Compares with the Hub's hash: git's of a blob for small files, sha256 for large ones."""
    blob = b"blob %d\0" % len(content) + content
    hashes = {
        40: hashlib.sha1(blob, usedforsecurity=False).hexdigest(),
        64: hashlib.sha256(content).hexdigest(),
    }
    if hashes.get(len(named)) != named:
        raise UserError(
            f"{repo}/{FILE} is not what the Hub's hash says ({named[:12]!r}); it was changed or cut "
            "off on its way, pull again"
        )


@contextmanager
def _told(repo: str) -> Iterator[None]:
    """Turns the Hub's failures into one line; they never hold the token."""
    from httpx import HTTPError, InvalidURL
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

    try:
        yield
    except RepositoryNotFoundError as error:
        raise UserError(
            f"there is no repository {repo} on the Hub, or your token (HF_TOKEN) may not see it"
        ) from error
    except EntryNotFoundError as error:
        raise UserError(f"{repo} holds no {FILE}, so it is no pack of icl-align's") from error
    except (HTTPError, InvalidURL, OSError) as error:
        lines = printable(str(error)).splitlines()
        raise UserError(
            f"the Hub does not do that for {repo}: {type(error).__name__}: {lines[0] if lines else ''}"
        ) from error
