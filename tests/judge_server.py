"""A real HTTP server with `/v1/chat/completions`, whose replies follow a rule and fail as told."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = ("429", "500", "503", "garbage", "half", "nothing", "unreadable")


class ChatServer:
    """Replies to chats by a rule.

    Attributes:
        reply: Gives the text for a request's messages, joined.
        share: Share of the requests that fail, each in one of the ways of `FAULTS`.
        status: Where above 0, every request is refused with it.
        refuses: Requests that hold this text, where it is not empty, are refused as invalid.
        requests: Bodies of all requests.
    """

    def __init__(self, reply: Callable[[str], str], share: float, seed: int) -> None:
        self.reply, self.share, self.status = reply, share, 0
        self.requests: list[dict[str, Any]] = []
        self.random = random.Random(seed)
        self.lock = threading.Lock()
        self.url = self.refuses = ""

    def fault(self, body: dict[str, Any]) -> str:
        """Notes a request, and says what goes wrong with it."""
        with self.lock:
            self.requests.append(body)
            return self.random.choice(FAULTS) if self.random.random() < self.share else ""


def _handler(server: ChatServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Says nothing."""

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            fault = server.fault(body)
            if server.status:
                self._send(server.status, b'{"error": {"message": "refused"}}')
            elif server.refuses and server.refuses in json.dumps(body["messages"]):
                self._send(400, b'{"error": {"message": "refused"}}')
            elif fault.isdigit():
                self._send(int(fault), b'{"error": {"message": "busy"}}')
            elif fault == "nothing":
                self.close_connection = True
            elif fault == "garbage":
                self._send(200, b"<html>")
            else:
                asked = "\n\n".join(message["content"] for message in body["messages"])
                text = "I would rather not say." if fault == "unreadable" else server.reply(asked)
                sent = json.dumps(
                    {
                        "id": "x",
                        "object": "chat.completion",
                        "model": body["model"],
                        "choices": [
                            {
                                "index": 0,
                                "finish_reason": "stop",
                                "message": {"role": "assistant", "content": text},
                            }
                        ],
                        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
                    }
                ).encode()
                self._send(200, sent[: len(sent) // 2] if fault == "half" else sent)

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler


@contextmanager
def chat_server(
    reply: Callable[[str], str], *, share: float = 0.0, seed: int = 0
) -> Iterator[ChatServer]:
    """Runs a server on a free port."""
    server = ChatServer(reply, share, seed)
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
    http.daemon_threads = True
    server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
