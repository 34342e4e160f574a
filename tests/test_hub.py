"""Packs on the Hub, against a real HTTP server that stands in for it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from icl_align.errors import UserError
from icl_align.hub import MOST_BYTES, card, publishable, pull, push
from icl_align.library import find_pack
from icl_align.pack import Pack
from icl_align.prompt import FORMATS, Prompt
from icl_align.types import Example

TOKEN = "hf_secret_of_the_tests"
NASTY = 'Fence ```` and {{ x }} {% y %} \\ \r\n --- \x1b[2J\u202e"quotes" `tick` # Query: \u2713'
PACK = Pack(
    Prompt(NASTY, (Example("Hi?", f"Yes.\n```python\n1\n```\n{NASTY}"),), FORMATS["block"]),
    {"id": "some/model"},
    {
        "confirmed": True,
        "tuned": {"mean": 0.81234, "low": 0.7, "high": 0.9, "n": 240},
        "difference": {"mean": 0.1, "low": 0.05, "high": None, "n": 240},
        "dev": {"mean": "| x |"},
    },
)


def _git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


class Hub:
    """The few endpoints that pushing and pulling need; what it is sent must be whole.

    Attributes:
        repos: Whether a repository is private, by name.
        commits: Files by repository and commit.
        wrong: Things that tests make it do.
    """

    def __init__(self) -> None:
        self.repos: dict[str, bool] = {}
        self.commits: dict[str, dict[str, dict[str, bytes]]] = {}
        self.samples: dict[str, tuple[int, bytes]] = {}
        self.wrong: dict[str, Any] = {}
        self.asked: list[tuple[str, str, str | None]] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                hub.post(self)

            def do_GET(self) -> None:
                hub.get(self)

            do_HEAD = do_GET  # noqa: N815 (http.server's name)

            def log_message(self, *args: Any) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def post(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["content-length"]))
        self.asked.append(("POST", handler.path, handler.headers["authorization"]))
        if handler.headers["authorization"] != f"Bearer {TOKEN}":
            return self.send(handler, 401, {"error": "Invalid user token."})
        found = re.fullmatch(r"/api/models/(.+?)/(preupload|commit)/main", handler.path)
        if handler.path == "/api/repos/create":
            wanted = json.loads(body)
            repo = f"{wanted['organization']}/{wanted['name']}"
            if repo in self.repos:
                return self.send(handler, 409, {"url": f"{self.url}/{repo}"})
            self.repos[repo] = wanted.get("visibility", "public") == "private"
            self.commits[repo] = {}
            return self.send(handler, 200, {"url": f"{self.url}/{repo}"})
        if handler.path == "/api/validate-yaml":
            return self.send(handler, 200, {"errors": [], "warnings": []})
        if found is None:
            return self.send(handler, 404, {"error": "no such endpoint"})
        if found[2] == "preupload":
            files = json.loads(body)["files"]
            self.samples = {
                one["path"]: (one["size"], base64.b64decode(one["sample"])) for one in files
            }
            kept = [
                {"path": path, "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                for path in self.samples
            ]
            return self.send(handler, 200, {"files": kept})
        return self.send(handler, 200, self.commit(found[1], body))

    def commit(self, repo: str, body: bytes) -> dict[str, Any]:
        files = {}
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                value = entry["value"]
                content = base64.b64decode(value["content"], validate=True)
                size, sample = self.samples[value["path"]]
                assert len(content) == size and content.startswith(sample)
                files[value["path"]] = content
        name = hashlib.sha1(body, usedforsecurity=False).hexdigest()
        self.commits[repo][name] = files
        return {"commitUrl": f"{self.url}/{repo}/commit/{name}", "commitOid": name}

    def get(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append((handler.command, handler.path, handler.headers["authorization"]))
        info = re.fullmatch(r"/api/models/([^/]+/[^/]+)", handler.path)
        if info and info[1] in self.repos:
            told: dict[str, Any] = {
                "id": info[1],
                "private": self.repos[info[1]],
                "sha": "0" * 40,
                "siblings": [],
            }
            return self.send(handler, 200, told)
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", handler.path)
        history = self.commits.get(found[1], {}) if found else {}
        if found is None or not history:
            return self.send(handler, 404, {}, {"X-Error-Code": "RepoNotFound"})
        commit = next(reversed(history)) if found[2] == "main" else found[2]
        content = history.get(commit, {}).get(found[3])
        if content is None:
            return self.send(handler, 404, {}, {"X-Error-Code": "EntryNotFound"})
        headers = {
            "ETag": f'"{_git_hash(content)}"',
            "X-Repo-Commit": commit,
            "Accept-Ranges": "bytes",
        }
        return self.send_file(handler, content, headers | self.wrong.get("headers", {}))

    def send_file(
        self, handler: BaseHTTPRequestHandler, content: bytes, headers: dict[str, str]
    ) -> None:
        handler.send_response(200)
        for name, value in headers.items():
            handler.send_header(name, value)
        reading = handler.command == "GET"
        body = self.wrong.get("content", content) if reading else content
        if reading and "endless" in self.wrong:
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            sent, block = 0, b" " * 2**20
            try:
                while sent < 64 * 2**20:
                    handler.wfile.write(b"%x\r\n" % len(block) + block + b"\r\n")
                    sent += len(block)
            except OSError:
                pass
            self.wrong["endless"] = sent
            handler.close_connection = True
            return
        handler.send_header("Content-Length", str(self.wrong.get("length", len(body))))
        handler.end_headers()
        if reading:
            handler.wfile.write(body)

    def send(
        self,
        handler: BaseHTTPRequestHandler,
        status: int,
        content: dict[str, Any],
        headers: dict[str, str] | None = None,
    ) -> None:
        body = json.dumps(content).encode()
        handler.send_response(status)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)

    def hold(self, content: bytes, repo: str = "them/theirs") -> None:
        """Keeps a file as if somebody had pushed it by other means."""
        self.repos[repo] = False
        self.commits[repo] = {"a" * 40: {"pack.json": content}}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    one = Hub()
    yield one
    from huggingface_hub import close_session

    close_session()
    one.http.shutdown()
    one.http.server_close()


def icl_align(hub: Hub, *arguments: str | Path, code: int = 0, **more: str) -> Any:
    left = {k: v for k, v in os.environ.items() if k not in ("HF_HUB_OFFLINE", "HF_TOKEN")}
    done = subprocess.run(
        [sys.executable, "-c", "from icl_align.cli import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**left, "HF_ENDPOINT": hub.url, "COLUMNS": "200", **more},
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done


def test_pushed_and_pulled(hub: Hub, tmp_path: Path) -> None:
    """What comes back is the same pack, byte for byte; the repository is private; one commit."""
    sent = push(PACK, "me/mine", endpoint=hub.url)
    assert hub.repos == {"me/mine": True}
    assert sent["visibility"] == "private"
    (files,) = hub.commits["me/mine"].values()
    assert sorted(files) == ["README.md", "pack.json"]
    got = pull("me/mine", tmp_path / "mine.json", digest=sent["digest"], endpoint=hub.url)
    assert got == {
        "repo": "me/mine",
        "commit": sent["commit"],
        "digest": PACK.prompt.digest,
        "file": str(tmp_path / "mine.json"),
    }
    assert Pack.load(tmp_path / "mine.json") == PACK
    assert (tmp_path / "mine.json").read_bytes() == files["pack.json"]


def test_an_older_commit_can_be_pulled(hub: Hub, tmp_path: Path) -> None:
    """By its hash; the branch has moved on."""
    first = push(PACK, "me/mine", endpoint=hub.url)
    newer = replace(PACK, prompt=replace(PACK.prompt, system="New."))
    push(newer, "me/mine", endpoint=hub.url)
    pull("me/mine", tmp_path / "new.json", endpoint=hub.url)
    pull("me/mine", tmp_path / "old.json", revision=first["commit"], endpoint=hub.url)
    assert Pack.load(tmp_path / "new.json") == newer
    assert Pack.load(tmp_path / "old.json") == PACK
    with pytest.raises(UserError, match="holds a pack with the digest .*, not"):
        pull("me/mine", tmp_path / "x.json", digest=first["digest"], endpoint=hub.url)
    assert not (tmp_path / "x.json").exists()


def test_private_means_private(hub: Hub) -> None:
    """A pack does not go to a public repository unless that is said."""
    hub.repos["me/open"], hub.commits["me/open"] = False, {}
    with pytest.raises(UserError, match="me/open is there already and public; push --public"):
        push(PACK, "me/open", endpoint=hub.url)
    assert hub.commits["me/open"] == {}
    assert push(PACK, "me/open", private=False, endpoint=hub.url)["visibility"] == "public"


def test_failures_of_the_hub_are_one_line(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No repository, no pack in it, no right, no server: told without the token."""
    with pytest.raises(UserError, match="there is no repository me/none on the Hub"):
        pull("me/none", tmp_path / "x.json", endpoint=hub.url)
    hub.hold(b"")
    hub.commits["them/theirs"]["a" * 40] = {"other": b""}
    with pytest.raises(UserError, match="them/theirs holds no pack.json"):
        pull("them/theirs", tmp_path / "x.json", endpoint=hub.url)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(UserError, match="me/mine") as caught:
        push(PACK, "me/mine", endpoint=hub.url)
    assert "hf_wrong" not in str(caught.value)
    with pytest.raises(UserError, match="the Hub does not do that for me/mine: ConnectError"):
        push(PACK, "me/mine", endpoint="http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"headers": {"ETag": f'"{"0" * 40}"'}}, "is not what the Hub's hash says"),
        ({"headers": {"ETag": '"W/none"'}}, "is not what the Hub's hash says"),
        ({"content": b'{"version": 1}'}, "is not what the Hub's hash says"),
        ({"length": MOST_BYTES + 1}, f"has {MOST_BYTES + 1} bytes, a pack has up to {MOST_BYTES}"),
        ({"headers": {"X-Repo-Commit": "../../etc"}}, "the Hub names no commit"),
        ({"endless": 0}, f"has more than the {MOST_BYTES} bytes of a pack"),
    ],
)
def test_a_server_that_lies(hub: Hub, tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    """Other content, another hash, too much of it: refused, and nothing is written."""
    push(PACK, "me/mine", endpoint=hub.url)
    hub.wrong = wrong
    with pytest.raises(UserError, match=re.escape(message)):
        pull("me/mine", tmp_path / "x.json", endpoint=hub.url)
    assert list(tmp_path.iterdir()) == []


def _changed(**changes: Any) -> bytes:
    return json.dumps(PACK.to_json() | changes).encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "them/theirs/pack.json:1:1: broken JSON"),
        (b"\xff", "byte 0 is not UTF-8"),
        (b"[" * 100_000, "them/theirs/pack.json is nested too deeply"),
        (b'"' + b"\\" * 1_000_001, "them/theirs/pack.json:1:"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "no 'version', so this is no pack"),
        (_changed(digest="0" * 64), "the prompt was changed after the pack was written"),
        (_changed(run="rm -rf"), "unknown key 'run'"),
        (_changed(**{"x\x1b[2J": 1}), r"unknown key 'x\\x1b"),
        (_changed(model={"id": "a", "path": "../../x"}), "unknown key 'path'"),
    ],
)
def test_a_strangers_file(hub: Hub, tmp_path: Path, content: bytes, message: str) -> None:
    """Refused in one line that cannot steer a terminal and names no temporary file, or harmless."""
    hub.hold(content)
    with pytest.raises(UserError, match=message) as caught:
        pull("them/theirs", tmp_path / "x.json", endpoint=hub.url)
    told = str(caught.value)
    assert "\x1b" not in told and "/tmp/tmp" not in told and "\n" not in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("depth", [10, 48, 49, 1000, 100_000])
def test_nesting_is_bounded(hub: Hub, tmp_path: Path, depth: int) -> None:
    """A pack that can be read again, or one line; brackets in texts do not count."""
    inner = b'"' + b'[{\\"' * 1000 + b'"'
    content = _changed(evidence={"dev": 0}).replace(
        b'"dev": 0', b'"dev": ' + b"[" * depth + inner + b"]" * depth
    )
    hub.hold(content)
    if depth > 48:  # two levels stand around it
        with pytest.raises(UserError, match="them/theirs/pack.json is nested too deeply"):
            pull("them/theirs", tmp_path / "x.json", endpoint=hub.url)
    else:
        pull("them/theirs", tmp_path / "x.json", endpoint=hub.url)
        assert Pack.load(tmp_path / "x.json").prompt == PACK.prompt


@pytest.mark.parametrize(
    "repo", ["../x", "a/../b", "a/b/c", "mine", "a b/c", "a/.hidden", "a/b\n", "", "/etc/passwd"]
)
def test_names_that_are_none(hub: Hub, tmp_path: Path, repo: str) -> None:
    """No request is made for them, so none can lead elsewhere."""
    with pytest.raises(UserError, match="repository"):
        pull(repo, tmp_path / "x.json", endpoint=hub.url)
    with pytest.raises(UserError, match="repository"):
        push(PACK, repo, endpoint=hub.url)
    with pytest.raises(UserError, match="repository"):
        card(PACK, repo)
    assert hub.asked == []


def test_places_to_write_to(hub: Hub, tmp_path: Path) -> None:
    """Nothing is overwritten unless that is said; a revision is no path."""
    push(PACK, "me/mine", endpoint=hub.url)
    place = tmp_path / "x.json"
    place.write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="is there already"):
        pull("me/mine", place, endpoint=hub.url)
    pull("me/mine", place, overwrite=True, endpoint=hub.url)
    assert Pack.load(place) == PACK
    with pytest.raises(UserError, match=r"written as \.json, not as 'x\.py'"):
        pull("me/mine", tmp_path / "x.py", endpoint=hub.url)
    with pytest.raises(UserError, match="a digest is 12 to 64 hex digits, got 'abc'"):
        pull("me/mine", tmp_path / "y.json", digest="abc", endpoint=hub.url)
    with pytest.raises(UserError, match="holds no pack.json"):
        pull("me/mine", tmp_path / "y.json", revision="../../main", endpoint=hub.url)
    assert all("/../" not in path for _, path, _ in hub.asked)


def test_the_card_tells_and_holds_nothing_back() -> None:
    """Evidence as numbers, digest, use; the texts cannot end their block or hide."""
    text = card(PACK, "me/mine")
    assert "base_model: some/model" in text.split("---")[1]
    assert PACK.prompt.digest in text
    assert "| this prompt, on untouched examples | 0.8123 | 0.7 | 0.9 | 240 |" in text
    assert "| difference (paired) | 0.1 | 0.05 |  | 240 |" in text
    assert "| x |" not in text
    assert "Proved on examples" in text
    assert f"icl-align pull me/mine --to mine.json --digest {PACK.prompt.digest}" in text
    assert "\n`````text\n" in text and text.endswith("\n`````\n")
    assert "\x1b" not in text and "\u202e" not in text and "\\x1b[2J" in text
    empty = card(Pack(Prompt("", (), FORMATS["colon"])), "me/mine")
    assert "Nothing was measured." in empty and "base_model" not in empty
    long = card(Pack(Prompt("x" * 30_000, (), FORMATS["colon"])), "me/mine")
    assert "more characters]" in long and len(long) < 25_000


@pytest.mark.parametrize("path", ["/home/alice/models/llama", "./models/llama", "C:\\m\\llama"])
def test_paths_stay_at_home(path: str) -> None:
    """A folder's name is pushed, not where it lies; Hub ids stay."""
    pack = replace(PACK, model={"id": path, "dtype": "float32"})
    assert publishable(pack).model == {"id": "llama", "dtype": "float32"}
    assert "alice" not in card(publishable(pack), "me/mine")
    assert publishable(PACK) is PACK
    assert publishable(Pack(PACK.prompt, {"id": "bundled"})).model == {"id": "bundled"}


def test_the_verbs(hub: Hub, tmp_path: Path) -> None:
    """Dry run, push and pull as a user types them; no token, no push."""
    dry = icl_align(hub, "push", "k1", "me/k1", "--dry-run")
    one = Pack.load(find_pack("k1"))
    assert dry.stdout == card(one, "me/k1")
    assert hub.asked == []
    none = icl_align(hub, "push", "k1", "me/k1", code=2, HF_HOME=str(tmp_path))
    assert "needs a token" in none.stderr and none.stderr.count("\n") == 1
    icl_align(hub, "push", "k1", "me/k1", HF_TOKEN=TOKEN)
    assert hub.repos == {"me/k1": True}
    place = tmp_path / "k1.json"
    done = icl_align(hub, "pull", "me/k1", "--to", place, "--json", HF_TOKEN=TOKEN)
    assert json.loads(done.stdout)["digest"] == one.prompt.digest
    assert Pack.load(place) == one
    again = icl_align(hub, "pull", "me/k1", "--to", place, code=2, HF_TOKEN=TOKEN)
    assert "is there already" in again.stderr
