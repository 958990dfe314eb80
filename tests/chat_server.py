"""A chat-completions server on the loopback: real HTTP, scripted answers, faults to order."""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Body = dict[str, Any]
FAULTS = ("429", "500", "slow", "truncated", "cut", "no json")


def texts(body: Body) -> list[str]:
    """Every text of a request in reading order."""
    return [text for _, text in parts(body) if text is not None]


def digests(body: Body) -> list[str]:
    """The sha256 of every image of a request, in reading order."""
    return [digest for digest, _ in parts(body) if digest is not None]


def parts(body: Body) -> list[tuple[str | None, str | None]]:
    """(digest of an image, None) or (None, text), in reading order."""
    found: list[tuple[str | None, str | None]] = []
    for message in body["messages"]:
        content = message["content"]
        for part in [{"text": content}] if isinstance(content, str) else content:
            if "text" in part:
                found.append((None, part["text"]))
                continue
            head, _, data = part["image_url"]["url"].partition(";base64,")
            assert head.startswith("data:image/"), head
            found.append((hashlib.sha256(base64.b64decode(data)).hexdigest(), None))
    return found


def reply(text: str, **more: Any) -> Body:
    """What a server sends for a text."""
    message = {"role": "assistant", "content": text}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "served-model",
        "system_fingerprint": "fp_7",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14},
        **more,
    }


class ChatServer:
    """answer: what it replies, a text or a whole body. fault: (number of the request, its body) -> one of
    FAULTS, a (status, headers, body), or None for an answer. slowness: seconds of a "slow" one.
    """

    def __init__(self) -> None:
        self.answer: Callable[[Body], str | Body] = lambda body: "yes"
        self.fault: Callable[[int, Body], Any] = lambda number, body: None
        self.slowness = 0.4
        self.asked: list[Body] = []
        self.answered: list[Body] = []
        self.times: list[float] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self._lock = threading.Lock()
        self._http = _Server(("127.0.0.1", 0), _Handler)
        self._http.chat = self
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def speak_tls(self, certificate: Path) -> str:
        """From now on only over TLS, with the certificate and key of a PEM file; gives the URL."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        return self.url.replace("http:", "https:")

    @property
    def port(self) -> int:
        return int(self._http.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def note(self, path: str, headers: dict[str, str], body: Body) -> int:
        with self._lock:
            self.paths.append(path)
            self.headers.append(headers)
            self.asked.append(body)
            self.times.append(time.monotonic())
            return len(self.asked) - 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    chat: ChatServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up waiting is no error here."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer would wait for an acknowledgement

    def log_message(self, format: str, *args: Any) -> None: ...

    def do_GET(self) -> None:
        self._send(200, {"object": "list", "data": [{"id": "served-model"}]})

    def do_POST(self) -> None:
        chat = self.server.chat
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        number = chat.note(self.path, dict(self.headers), body)
        fault = chat.fault(number, body)
        if isinstance(fault, tuple):
            self._send(fault[0], fault[2], fault[1])
        elif fault == "429":
            self._send(429, {"error": {"message": "too many"}}, {"Retry-After": "0.05"})
        elif fault == "500":
            self._send(500, {"error": {"message": "out of luck"}})
        elif fault == "cut":
            self.close_connection = True
            self.connection.close()
        elif fault == "no json":
            self._send(200, "<html>welcome</html>")
        else:
            if fault == "slow":
                time.sleep(chat.slowness)
            found = chat.answer(body)
            chat.answered.append(body)
            self._send(
                200, reply(found) if isinstance(found, str) else found, cut=fault is not None
            )

    def _send(
        self, status: int, body: Any, headers: dict[str, str] | None = None, cut: bool = False
    ) -> None:
        if isinstance(body, bytes):
            data = body
        else:
            data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self.wfile.flush()
            self.close_connection = True
