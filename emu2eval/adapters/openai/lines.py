"""HTTP/1.1 over connections that stay open: h11 for the protocol, asyncio for the sockets.

Of a request's time in a client, half goes into a general pool of connections, which looks at all of them
for each request. All of ours lead to one server, so a free one is the last that became free.
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus

import h11

from emu2eval.adapters.openai.route import Route

MOST_BYTES = 32 << 20
"""Of a reply's body once it is decompressed. Read as JSON it may take twenty times as much memory."""

MOST_HEAD = 64 << 10
"""Bytes of a reply's status line and headers."""

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Reply:
    """headers: by their names in small letters. body: decompressed."""

    status: int
    reason: str
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")

    @property
    def redirects(self) -> bool:
        return self.status in (301, 302, 303, 307, 308) and "location" in self.headers


class LineError(Exception):
    """A request without a whole reply."""


class Unreachable(LineError):
    """No connection, so that nothing was sent."""


class Untrusted(Unreachable):
    """The server's certificate is not trusted."""


class NoAnswer(LineError):
    """None in time."""


class Broken(LineError):
    """The connection ended, or what came is no HTTP."""


class TooLarge(LineError):
    """More than a reply may hold."""


class Lines:
    """Connections to one server. timeout: seconds without a byte; connect: seconds until one is open."""

    def __init__(
        self, route: Route, trust: ssl.SSLContext | None, *, timeout: float, connect: float
    ):
        self._route = route
        self._trust = trust
        self._timeout = timeout
        self._connect = connect
        self._free: list[_Line] = []

    async def close(self) -> None:
        while self._free:
            self._free.pop().end()

    async def ask(
        self, method: str, path: str, headers: Headers, body: Sequence[bytes] = ()
    ) -> Reply:
        """Sends a request and gives the reply. body: in pieces. Raises LineError."""
        line = self._idle() or await self._opened()
        try:
            reply = await line.ask(method, self._target(path), self._headers(headers, body), body)
        except BaseException:
            line.end()  # whoever comes next must not read the rest of this
            raise
        if line.open:
            self._free.append(line)
        return reply

    def _idle(self) -> _Line | None:
        while self._free:
            line = self._free.pop()
            if line.open:
                return line
        return None

    def _target(self, path: str) -> str:
        route = self._route
        whole = route.path + path
        forwarded = route.proxy is not None and not route.secure
        return f"http://{route.address}{whole}" if forwarded else whole

    def _headers(self, headers: Headers, body: Sequence[bytes]) -> list[tuple[str, str]]:
        route = self._route
        found = [("Host", route.address), ("Accept-Encoding", "gzip"), *headers]
        if route.proxy is not None and route.proxy.login and not route.secure:
            found.append(("Proxy-Authorization", route.proxy.login))
        if body:
            found.append(("Content-Length", str(sum(map(len, body)))))
        return found

    async def _opened(self) -> _Line:
        route, proxy = self._route, self._route.proxy
        host, port = (proxy.host, proxy.port) if proxy else (route.host, route.port)
        loop = asyncio.get_running_loop()
        line = _Line(self._timeout)
        try:
            async with asyncio.timeout(self._connect):
                direct = self._trust if route.secure and proxy is None else None
                await loop.create_connection(lambda: line, host, port, ssl=direct)
                if proxy is not None and route.secure:
                    await self._tunnelled(line, loop)
        except TimeoutError:
            line.end()
            raise Unreachable(self._by("no connection in time")) from None
        except ssl.SSLCertVerificationError as error:
            raise Untrusted(error.verify_message or str(error.reason)) from None
        except (OSError, ValueError) as error:
            line.end()
            raise Unreachable(self._by(_words(error))) from None
        except LineError:
            line.end()
            raise
        return line

    async def _tunnelled(self, line: _Line, loop: asyncio.AbstractEventLoop) -> None:
        """Has the proxy connect us with the server, and speaks TLS with that."""
        route, proxy = self._route, self._route.proxy
        assert proxy is not None
        whole = (
            f"[{route.host}]:{route.port}" if ":" in route.host else f"{route.host}:{route.port}"
        )
        headers = [("Host", whole)]
        if proxy.login:
            headers.append(("Proxy-Authorization", proxy.login))
        try:
            reply = await line.ask("CONNECT", whole, headers, ())
        except LineError as error:
            raise Unreachable(self._by(str(error))) from None
        if reply.status >= 300:
            raise Unreachable(self._by(f"HTTP {reply.status} {reply.reason}".strip()))
        assert line.transport is not None and self._trust is not None
        secure = await loop.start_tls(line.transport, line, self._trust, server_hostname=route.host)
        if secure is None:
            raise Unreachable(self._by("the connection ended"))
        line.connection_made(secure)

    def _by(self, words: str) -> str:
        return words if self._route.proxy is None else f"{self._route.proxy}: {words}"


class _Line(asyncio.Protocol):
    """One connection, on which one request is under way at most."""

    def __init__(self, timeout: float):
        self.transport: asyncio.Transport | None = None
        self._timeout = timeout
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_HEAD)
        self._waiting: asyncio.Future[Reply] | None = None
        self._clock: asyncio.TimerHandle | None = None
        self._moved = 0.0
        self._left_to_send = 0
        self._head: h11.Response | None = None
        self._body = _Body()

    @property
    def open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    async def ask(self, method: str, target: str, headers: Headers, body: Sequence[bytes]) -> Reply:
        if not self.open or self.transport is None:
            raise Broken("the connection ended before the request was sent")
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        self._head, self._body = None, _Body()
        request = h11.Request(method=method, target=target, headers=list(headers))
        head = self._http.send(request) or b""
        for piece in body:
            self._http.send_with_data_passthrough(h11.Data(piece))
        self._http.send(h11.EndOfMessage())
        self._send([head, *body])
        self._moved, self._left_to_send = loop.time(), self.transport.get_write_buffer_size()
        self._clock = loop.call_later(self._timeout, self._late)
        try:
            return await self._waiting
        finally:
            self._clock.cancel()
            self._waiting = None

    def _send(self, pieces: list[bytes]) -> None:
        """Small pieces in one packet, large ones as they are: to join them would copy every image."""
        assert self.transport is not None
        waiting = b""
        for piece in pieces:
            if len(piece) < MOST_HEAD:
                waiting += piece
                continue
            if waiting:
                self.transport.write(waiting)
            self.transport.write(piece)
            waiting = b""
        if waiting:
            self.transport.write(waiting)

    def end(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    # -- called by the event loop -----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_HEAD)

    def data_received(self, data: bytes) -> None:
        if self._waiting is None:
            self.end()  # nobody asked
            return
        self._moved = asyncio.get_running_loop().time()
        self._read(data)

    def eof_received(self) -> None:
        if self._waiting is not None:
            self._read(b"")

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(Broken("the connection ended before the complete reply arrived"))

    def _late(self) -> None:
        assert self.transport is not None
        loop = asyncio.get_running_loop()
        left = self.transport.get_write_buffer_size()
        if left < self._left_to_send:  # slow, but it does go out
            self._moved, self._left_to_send = loop.time(), left
        still = self._moved + self._timeout - loop.time()
        if still > 0:
            self._clock = loop.call_later(still, self._late)
        else:
            self._fail(NoAnswer(f"no answer in time ({self._timeout:g} seconds without a byte)"))

    def _read(self, data: bytes) -> None:
        try:
            self._http.receive_data(data)
            while self._next(self._http.next_event()):
                pass
        except h11.RemoteProtocolError as error:
            self._fail(Broken(f"the reply is not complete HTTP/1.1: {error}"))
        except zlib.error:
            self._fail(Broken("the reply was cut off or is not compressed as declared"))
        except TooLarge as error:
            self._fail(error)

    def _next(self, event: object) -> bool:
        """Takes an event of a reply; whether there may be another."""
        if event is h11.NEED_DATA:
            return False
        if isinstance(event, h11.Response):
            self._head = event
            self._body = _Body(_header(event, b"content-encoding"))
        elif isinstance(event, h11.Data):
            self._body.add(event.data)
        elif isinstance(event, h11.EndOfMessage):
            self._done()
            return False
        elif event is h11.PAUSED and self._http.their_state is h11.SWITCHED_PROTOCOL:
            self._done()  # the answer to a CONNECT
            return False
        elif isinstance(event, h11.ConnectionClosed):
            self._fail(Broken("the connection ended before the complete reply arrived"))
            return False
        return True

    def _done(self) -> None:
        head, http = self._head, self._http
        assert head is not None and self.transport is not None
        body = self._body.whole()
        if http.our_state is h11.DONE and http.their_state is h11.DONE:
            http.start_next_cycle()
            if http.trailing_data[0] or self.transport.get_write_buffer_size():
                self.end()  # more than was asked for, or before all was sent
        elif http.their_state is not h11.SWITCHED_PROTOCOL:
            self.end()
        reply = Reply(
            head.status_code,
            head.reason.decode("latin-1") or _phrase(head.status_code),
            {name.decode(): value.decode("latin-1") for name, value in head.headers},
            body,
        )
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(reply)

    def _fail(self, error: LineError) -> None:
        self.end()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)


class _Body:
    """A reply's body as it comes, decompressed, and never more than MOST_BYTES of it."""

    def __init__(self, encoding: str = ""):
        self._parts: list[bytes] = []
        self._size = 0
        compressed = encoding.strip().lower() in ("gzip", "x-gzip", "deflate")
        # 32: gzip or zlib, whichever it is.
        self._opened = zlib.decompressobj(32 + zlib.MAX_WBITS) if compressed else None

    def add(self, data: bytes | bytearray) -> None:
        if self._opened is not None:
            data = self._opened.decompress(data, MOST_BYTES - self._size + 1)
        self._size += len(data)
        if self._size > MOST_BYTES:
            raise TooLarge(f"the reply is larger than {MOST_BYTES >> 20} MiB")
        self._parts.append(bytes(data))

    def whole(self) -> bytes:
        if self._opened is not None and self._parts and not self._opened.eof:
            raise zlib.error("cut off")
        return b"".join(self._parts)


def _header(event: h11.Response, name: bytes) -> str:
    return next((value.decode("latin-1") for each, value in event.headers if each == name), "")


def _phrase(status: int) -> str:
    with suppress(ValueError):
        return HTTPStatus(status).phrase
    return ""


def _words(error: Exception) -> str:
    """What the system says, without the addresses, of which one is as good as another."""
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or error}"
    said = getattr(error, "strerror", None) or str(error)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
