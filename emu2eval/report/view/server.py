"""Serves a view on the loopback: to who knows its address, which holds a secret, and to no other website.

The standard library's server is enough: one person, three kinds of answers, none of them from the disk.
"""

from __future__ import annotations

import hmac
import re
import secrets
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from emu2eval.errors import ConfigError
from emu2eval.report.view.live_page import LivePage

LOOPBACK = "127.0.0.1"
_IMAGE = re.compile(r"image/([0-9a-f]{64})(/whole)?")


class View:
    """A server that is listening. address: with the secret."""

    def __init__(self, shown: LivePage, port: int = 0):
        """port: 0 for any that is free. Raises ConfigError where it is taken."""
        self.shown = shown
        self.token = secrets.token_urlsafe(24)
        try:
            self._server = _Server((LOOPBACK, port), _Handler)
        except (OSError, OverflowError) as error:
            said = getattr(error, "strerror", None) or error
            raise ConfigError(
                f"cannot listen on port {port} ({said})",
                hint="omit --port to use any free port",
            ) from None
        self._server.view = self

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def address(self) -> str:
        return f"http://{LOOPBACK}:{self.port}/{self.token}/"

    def serve(self, ready: Callable[[], object] = lambda: None) -> None:
        """Answers and looks at the runs until `close`, or an interrupt, which it passes on."""
        looking = threading.Thread(target=self.shown.go_on, daemon=True, name="view")
        looking.start()
        try:
            ready()
            self._server.serve_forever(poll_interval=0.2)
        finally:
            self.shown.stop()
            self._server.server_close()

    def close(self) -> None:
        """Ends `serve`, from another thread."""
        self._server.shutdown()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    view: View

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30  # seconds that a connection may be silent
    server: _Server
    server_version = "emu2eval"
    sys_version = ""

    def do_GET(self) -> None:
        view = self.server.view
        # Another name for this machine in the header is how a website reaches servers of its visitors.
        if self.headers.get("Host", "") not in (
            f"{LOOPBACK}:{view.port}",
            f"localhost:{view.port}",
        ):
            self._refuse(HTTPStatus.FORBIDDEN)
            return
        path = urlsplit(self.path).path
        token, _, wanted = path.removeprefix("/").partition("/")
        if not hmac.compare_digest(token.encode(), view.token.encode()):
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        shown = view.shown
        if wanted == "":
            self._give(shown.page, "text/html; charset=utf-8")
        elif wanted == "state":
            self._give(shown.state, "application/json")
        elif found := _IMAGE.fullmatch(wanted):
            image = shown.image(found[1], found[2] is not None)
            if image is None:
                self._refuse(HTTPStatus.NOT_FOUND)
            else:
                # The name is a digest: what it names never changes.
                self._give(*image, "private, max-age=31536000, immutable")
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    do_HEAD = do_GET

    def _refuse(self, status: HTTPStatus) -> None:
        self._give(status.phrase.encode(), "text/plain; charset=utf-8", status=status)

    def _give(
        self,
        body: bytes,
        kind: str,
        cache: str = "no-store",
        status: HTTPStatus = HTTPStatus.OK,
    ) -> None:
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("Cache-Control", cache),
            ("Content-Security-Policy", "frame-ancestors 'none'"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Referrer-Policy", "no-referrer"),
            ("X-Content-Type-Options", "nosniff"),
        ):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is written of every request; its address holds the secret."""
