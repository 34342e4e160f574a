"""Real HTTP servers for the tests: one that fails at random, one that is `transformers serve`."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

FAULTS = ("429", "500", "garbage", "wrong shape", "no text", "half", "nothing", "reset")


def _choice(finish: str, index: int = 0) -> bytes:
    choice = {"index": index, "text": "never said", "finish_reason": finish}
    usage = {"prompt_tokens": 1, "completion_tokens": 2}
    return json.dumps({"choices": [choice], "usage": usage}).encode()


ODD: dict[str, tuple[int, dict[str, str], bytes]] = {
    "broken gzip": (200, {"content-encoding": "gzip"}, b"no gzip"),
    "nested without end": (200, {}, b"[" * 100_000),
    "no number to wait": (429, {"retry-after": "\u00b2"}, b"{}"),
    "a date that is none": (503, {"retry-after": "Wed, 99 Foo 2026"}, b"{}"),
    "a gateway's own status": (522, {}, b"timed out"),
    "a conflict": (409, {}, b"{}"),
    "another index": (200, {}, _choice("stop", 3)),
    "given up in the middle": (200, {}, _choice("abort")),
    "an error called good": (200, {}, b'{"error": {"message": "the engine died"}}'),
}
"""Rarer faults: status, headers and body."""


class _Listener(ThreadingHTTPServer):
    """Lets as many connect at once as an engine may; the usual five would drop some for a second."""

    request_queue_size = 128


class CompletionServer:
    """Continues prompts by a rule, keeps every request, and fails as it is told.

    Attributes:
        faults: What may go wrong, drawn at random with probability `share`.
        answered: How often each prompt got a good reply.
        requests: Bodies of all requests, in order.
        most: Most requests that were under way at once.
        refusal: Status and message with which every request is refused; None for not.
        reply: Gives the body of a good reply to a request's body; to be replaced.
    """

    def __init__(
        self, *, share: float = 0.0, faults: tuple[str, ...] = FAULTS, seed: int = 0
    ) -> None:
        self.share, self.faults, self.chance = share, faults, random.Random(seed)
        self.answered: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.most = self.now = 0
        self.slow_s = 0.0
        self.refusal: tuple[int, str] | None = None
        self.reply: Callable[[dict[str, Any]], Any] = completion
        self.lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                server.handle(self)

            def log_message(self, *_args: Any) -> None:
                pass

        self.http = _Listener(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.http.server_port}/v1"

    def stop(self) -> None:
        """Ends it; its port then refuses connections."""
        self.http.shutdown()
        self.http.server_close()

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        """Answers one request, or fails."""
        body = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
        with self.lock:
            self.requests.append(body)
            self.headers.append({k.lower(): v for k, v in handler.headers.items()})
            fault = self.chance.choice(self.faults) if self.chance.random() < self.share else ""
            self.failed[fault] += 1
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            time.sleep(self.slow_s)
            self.send(handler, body, fault)
        finally:
            with self.lock:
                self.now -= 1

    def send(self, handler: BaseHTTPRequestHandler, body: dict[str, Any], fault: str) -> None:
        """Sends a good reply or a bad one."""
        good = json.dumps(self.reply(body)).encode()
        status, content, length = 200, good, None
        headers: dict[str, str] = {}
        if self.refusal:
            status, content = self.refusal[0], json.dumps({"detail": self.refusal[1]}).encode()
        elif fault in ("429", "500"):
            status, content = int(fault), b'{"error": {"message": "busy"}}'
        elif fault == "garbage":
            content = b"<html>it works</html>"
        elif fault == "wrong shape":
            content = b'{"choices": []}'
        elif fault == "no text":
            content = b'{"choices": [{"index": 0, "text": null, "finish_reason": "stop"}]}'
        elif fault == "half":
            content, length = good[: len(good) // 2], len(good)
        elif fault in ODD:
            status, headers, content = ODD[fault]
        if fault == "nothing":
            time.sleep(3)
            return
        if fault == "reset":
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        if not fault and not self.refusal:
            with self.lock:
                self.answered[body["prompt"]] += 1
        handler.send_response(status)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(length or len(content)))
        for name, value in ({"retry-after": "0"} if fault == "429" else headers).items():
            handler.send_header(name, value)
        if fault == "half":
            handler.close_connection = True
        handler.end_headers()
        handler.wfile.write(content)


def completion(body: dict[str, Any], text: str | None = None, **more: Any) -> dict[str, Any]:
    """A good reply: the prompt's words backwards, as many as are wanted."""
    words = [f" {word[::-1]}" for word in body["prompt"].split()]
    kept = words[: body["max_tokens"]]
    said = "".join(kept) if text is None else text
    tokens = len(kept) if text is None else len(said.split())
    for mark in body.get("stop", ()):
        said = said.split(mark)[0]
    finish = "length" if text is None and len(words) >= body["max_tokens"] else "stop"
    usage = {"prompt_tokens": len(words), "completion_tokens": tokens}
    choice = {"index": 0, "text": said, "finish_reason": finish}
    return {"object": "text_completion", "choices": [choice], "usage": usage, **more}


@contextmanager
def transformers_serve(model: Path, log: Path) -> Iterator[str]:
    """Runs `transformers serve` on a free port; gives its base URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    hub = log.parent / "hub"  # without this folder /v1/models is an error
    hub.mkdir(exist_ok=True)
    env = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_CACHE": str(hub),
        "OMP_NUM_THREADS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
    }
    program = Path(sys.executable).parent / "transformers"
    command = [str(program), "serve", str(model), "--device", "cpu"]
    place = ["--host", "127.0.0.1", "--port", str(port)]
    with log.open("w") as out:
        process = subprocess.Popen([*command, *place], env=env, stdout=out, stderr=out)
    try:
        root = f"http://127.0.0.1:{port}"
        for _ in range(240):
            if process.poll() is not None:
                break
            try:
                if httpx.get(f"{root}/health").status_code == 200:
                    yield f"{root}/v1"
                    return
            except httpx.TransportError:
                time.sleep(0.5)
        raise RuntimeError(f"transformers serve did not come up:\n{log.read_text()[-2000:]}")
    finally:
        process.terminate()
        process.wait(30)
