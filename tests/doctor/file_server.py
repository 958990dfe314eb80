"""A server of files on this machine that does what servers do wrong: cuts, lies, refusals, redirects."""

from __future__ import annotations

import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Served:
    """A file. cuts: after so many bytes of its body the connection ends, one reply each; says: the length
    that is told instead of the true one, 0 = none; statuses: answers before the first good one; to: a
    redirect; then: what is at the same address after the cuts; hold: a cut reply stays open; believes: the
    ETag that If-Range may name."""

    data: bytes = b""
    etag: str | None = '"one"'
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)
    says: int | None = None
    statuses: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    to: str | None = None
    kind: str = "application/octet-stream"
    headers: dict[str, str] = field(default_factory=dict)
    then: Served | None = None
    believes: str | None = None
    hold: bool = False
    chunked: bool = False


@dataclass
class FileServer:
    files: dict[str, Served]
    url: str = ""
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def gets(self, path: str) -> list[dict[str, str]]:
        """The headers of each GET of a path."""
        return [headers for method, at, headers in self.asked if (method, at) == ("GET", path)]


@contextmanager
def serving(files: dict[str, Served], certificate: Path | None = None) -> Iterator[FileServer]:
    """certificate: with its key, for https."""
    known = FileServer(files)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            path = self.path.partition("?")[0]
            headers = {name.lower(): value for name, value in self.headers.items()}
            known.asked.append((self.command, path, headers))
            file = known.files.get(path)
            self.close_connection = True
            if file is None:
                self.plain(404, {})
                return
            if file.statuses and body:
                self.plain(*file.statuses.pop(0))
                return
            if file.to is not None:
                self.plain(302, {"Location": file.to})
                return
            self.give(file, headers, body)

        def plain(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": "0", **headers}.items():
                self.send_header(name, value)
            self.end_headers()

        def give(self, file: Served, headers: dict[str, str], body: bool) -> None:
            data, start = file.data, 0
            wanted = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
            same = headers.get("if-range") in (None, file.believes or file.etag)
            if wanted and file.ranges and same and body:
                start = int(wanted[1])
                if start >= len(data):
                    self.plain(416, {"Content-Range": f"bytes */{len(data)}"})
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            else:
                self.send_response(200)
            told = file.says if file.says is not None else len(data)
            if file.says == 0:
                pass  # the end of the connection is the end of the file
            elif file.chunked:
                self.send_header("Transfer-Encoding", "chunked")
            else:
                self.send_header("Content-Length", str(told - start))
            self.send_header("Content-Type", file.kind)
            if file.etag:
                self.send_header("ETag", file.etag)
            for name, value in file.headers.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                if file.then is not None and not file.cuts[1:]:
                    known.files[self.path] = file.then
                cut = file.cuts.pop(0) if file.cuts else len(data) - start
                rest = data[start:]
                if file.chunked:
                    ends = b"0\r\n\r\n"
                    rest = b"%x\r\n%s\r\n" % (len(rest), rest) + ends if rest else ends
                    cut = cut if cut < len(data) - start else len(rest)
                self.wfile.write(rest[:cut])
                if file.hold:
                    self.wfile.flush()
                    self.rfile.read(1)  # until whoever asked has gone

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Whoever asked has gone, as some tests want it."""

    server = Quiet(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.005}, daemon=True
    )
    thread.start()
    scheme = "http" if certificate is None else "https"
    known.url = f"{scheme}://127.0.0.1:{server.server_address[1]}"
    try:
        yield known
    finally:
        server.shutdown()
        server.server_close()
