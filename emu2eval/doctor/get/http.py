"""One GET: over verified TLS, through the user's proxy, along redirects that the rules allow.

The standard library's client, one connection a request: what is brought is large, and a connection that is
read to its end shows whether the server sent what it said.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from socket import SHUT_RDWR, gaierror, socket
from threading import Event
from urllib.parse import urljoin, urlsplit

from emu2eval.adapters.openai.route import PROXY_HINT, Route, route_to, trusted
from emu2eval.errors import ConfigError, DataError
from emu2eval.spec.remote import check_address, is_here

CONNECT = 20.0
"""Seconds to wait for a connection."""
TIMEOUT = 60.0
"""Seconds to wait for the next bytes."""

MOST_REDIRECTS = 10
PIECE = 1 << 20
"""Bytes that are read at a time."""

_LATER = 0.2
"""Seconds to wait for bytes that should not come any more."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Unsteady(Exception):
    """The request failed, and may succeed when it is made again. wait: seconds that the server asks for."""

    def __init__(self, why: str, wait: float = 0.0):
        super().__init__(why)
        self.wait = wait


class Misstated(Unsteady):
    """The server sent another length than it said, so that what came is not to be continued."""


class StopSign:
    """Says to several threads that they should stop, and ends what they are reading."""

    def __init__(self) -> None:
        self._said = Event()
        self._reading: set[socket] = set()

    def set(self) -> None:
        self._said.set()
        for each in tuple(self._reading):
            with contextlib.suppress(OSError):
                each.shutdown(SHUT_RDWR)

    def is_set(self) -> bool:
        return self._said.is_set()

    def wait(self, seconds: float) -> bool:
        """Whether it was said in so many seconds."""
        return self._said.wait(seconds)

    @contextmanager
    def over(self, each: socket) -> Iterator[None]:
        """Within, the socket is read."""
        self._reading.add(each)
        try:
            yield
        finally:
            self._reading.discard(each)


@dataclass(frozen=True)
class Bearer:
    """A token, for one server alone. origin: as `https://huggingface.co`."""

    origin: str
    token: str = field(repr=False)

    def headers(self, url: str) -> dict[str, str]:
        """Of a request to an address: nothing for any other server."""
        if _origin(url) != _origin(self.origin):
            return {}
        return {"Authorization": f"Bearer {self.token}"}


class Arriving:
    """A reply whose body is read piece by piece.

    headers: by their names in small letters; url: after redirects; length: of the body, as the server says,
    None = it does not; says_its_end: it can be told whether all of it came.
    """

    def __init__(self, reply: HTTPResponse, line: socket, url: str):
        self.status = reply.status
        self.reason = reply.reason
        self.headers = {name.lower(): value for name, value in reply.getheaders()}
        self.url = url
        self.length = None if reply.chunked else reply.length
        self.says_its_end = reply.chunked or self.length is not None
        self._left = self.length
        self._reply = reply
        self._line = line

    def read(self) -> bytes:
        """The next bytes; empty at the end. Raises Unsteady, also where it ends too early or too late."""
        try:
            if self._left is None:
                return self._reply.read1(PIECE)
            if self._left == 0:
                self._ended()
                return b""
            found = self._reply.fp.read1(min(PIECE, self._left))
        except (OSError, HTTPException) as error:
            raise Unsteady(_words(error)) from None
        if not found:
            raise Unsteady(f"the connection ended {self._left:,} bytes before the end of the file")
        self._left -= len(found)
        return found

    def _ended(self) -> None:
        more = b""
        if self._reply.fp is not None:
            with contextlib.suppress(OSError, ValueError):
                self._line.settimeout(_LATER)
                more = self._reply.fp.read1(1)
        if more:
            raise Misstated(f"the server announced {self.length:,} bytes but sent more")

    def whole(self, most: int) -> bytes:
        """The whole body, of so many bytes at most."""
        parts, size = [], 0
        while part := self.read():
            size += len(part)
            if size > most:
                raise DataError(f"the reply is larger than {most:,} bytes", where=shown(self.url))
            parts.append(part)
        return b"".join(parts)


@contextmanager
def opened(
    url: str,
    headers: Mapping[str, str] | None = None,
    bearer: Bearer | None = None,
    method: str = "GET",
    stop: StopSign | None = None,
) -> Iterator[Arriving]:
    """The reply to a GET or a HEAD, whatever its status.

    Raises Unsteady, or DataError where asking again is no use.
    """
    start = url
    for _ in range(MOST_REDIRECTS + 1):
        with _asked(method, url, headers or {}, bearer, stop or StopSign()) as reply:
            location = reply.headers.get("location") if reply.status in _REDIRECTS else None
            if location is None:
                yield reply
                return
        url = _followed(start, url, location)
    raise DataError(f"more than {MOST_REDIRECTS} redirects", where=shown(start))


def _followed(start: str, url: str, target: str) -> str:
    """Where a redirect leads. Raises DataError where it must not."""
    try:
        found = urljoin(url, target)
        check_address(found)
    except (ConfigError, ValueError) as error:
        why = error.what if isinstance(error, ConfigError) else "it is not a URL"
        raise DataError(
            f"a redirect was not followed: {why}",
            where=shown(start),
            hint="download the file with a browser, if you trust the target",
        ) from None
    if is_here(urlsplit(found).hostname or "") and not is_here(urlsplit(start).hostname or ""):
        raise DataError("the URL redirects to this machine", where=shown(start))
    return found


@contextmanager
def _asked(
    method: str, url: str, headers: Mapping[str, str], bearer: Bearer | None, stop: StopSign
) -> Iterator[Arriving]:
    parts = urlsplit(url)
    route = route_to(url)
    sent = {
        "User-Agent": "emu2eval",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "Connection": "close",
        **headers,
        **(bearer.headers(url) if bearer else {}),
    }
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection = _connection(route)
    with contextlib.closing(connection):
        with _explained(url, route):
            connection.connect()
        line = connection.sock
        line.settimeout(TIMEOUT)
        with stop.over(line):
            with _explained(url, route):
                connection.request(method, path, headers=sent)
                reply = connection.getresponse()
            with contextlib.closing(reply):
                yield Arriving(reply, line, url)


@contextmanager
def _explained(url: str, route: Route) -> Iterator[None]:
    """Tells what can be tried again from what cannot."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise DataError(
            f"the server's certificate is not trusted: {error.verify_message or error.reason}",
            where=shown(url),
            hint="if your proxy re-signs connections, trust its certificate: "
            "export SSL_CERT_FILE=/path/to/certificates.pem",
        ) from None
    except (OSError, HTTPException) as error:
        why = f"{route.proxy or route.host}: {_words(error)}"
        if route.proxy is not None and "Tunnel connection failed: 40" in str(error):
            raise DataError(why, where=shown(url), hint=PROXY_HINT) from None
        raise Unsteady(why) from None


def _connection(route: Route) -> HTTPConnection:
    if not route.secure:
        return HTTPConnection(route.host, route.port, timeout=CONNECT)
    place = route.proxy or route
    connection = HTTPSConnection(place.host, place.port, timeout=CONNECT, context=_trusted())
    if route.proxy is not None:
        login = {"Proxy-Authorization": route.proxy.login} if route.proxy.login else {}
        connection.set_tunnel(route.host, route.port, headers=login)
    return connection


def _trusted() -> ssl.SSLContext:
    return _read_once(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@cache
def _read_once(file: str | None, folder: str | None) -> ssl.SSLContext:
    """The certificates, as the variables name them now: reading them takes longer than a small file."""
    return trusted()


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def shown(url: str) -> str:
    """An address as messages name it: what stands behind `?` may be a signature that opens the file.

    >>> shown("https://example.org/a.zip?X-Signature=secret")
    'https://example.org/a.zip'
    """
    return urlsplit(url)._replace(query="", fragment="").geturl()


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no data for {TIMEOUT:g} seconds"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, gaierror):
        return "host name not found; is there a network?"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or error}"
    said = getattr(error, "strerror", None) or str(error)
    return " ".join(f"{type(error).__name__}: {said}".split())[:300].removesuffix(": ")
