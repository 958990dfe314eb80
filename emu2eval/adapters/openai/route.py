"""The way to a server: straight or through a proxy, and the certificates that are trusted on it."""

from __future__ import annotations

import base64
import ipaddress
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from emu2eval.errors import ModelError
from emu2eval.spec.remote import is_here

_PORTS = {"http": 80, "https": 443}

PROXY_HINT = "correct or unset it; hosts in NO_PROXY are reached without a proxy"


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that speaks HTTP. variable: of the environment, which names it; login: never shown."""

    host: str
    port: int
    variable: str
    login: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"the proxy {self.host}:{self.port} ({self.variable})"


@dataclass(frozen=True, slots=True)
class Route:
    """Where a server is. address: as a Host header names it; path: what every request's begins with."""

    secure: bool
    host: str
    port: int
    address: str
    path: str
    proxy: Proxy | None = None


def way(url: str) -> tuple[Route, ssl.SSLContext | None]:
    """The route to a server, and the certificates that are trusted where it has one."""
    route = route_to(url)
    # Plain HTTP has no certificates, and reading them takes longer than a small run.
    return route, trusted() if route.secure else None


def route_to(url: str, environment: Mapping[str, str] | None = None) -> Route:
    """The way to a server by its base URL. Raises ModelError, naming the variable, for a proxy of no use.

    As everywhere: HTTP_PROXY or HTTPS_PROXY by the URL's scheme, else ALL_PROXY, in small letters or in
    capitals, unless NO_PROXY names the host. This machine itself is never asked through a proxy.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or _PORTS[parts.scheme]
    known = os.environ if environment is None else environment
    direct = is_here(host) or _excepted(host, port, _value(known, "NO_PROXY")[1])
    return Route(
        parts.scheme == "https",
        host,
        port,
        parts.netloc,
        parts.path.rstrip("/"),
        None if direct else _proxy(parts.scheme, known),
    )


def trusted() -> ssl.SSLContext:
    """The certificates that are trusted: those of SSL_CERT_FILE or SSL_CERT_DIR, else certifi's, else the
    system's.

    Raises ModelError where the variable names no file of certificates.
    """
    for variable, kind in (("SSL_CERT_FILE", "file"), ("SSL_CERT_DIR", "folder")):
        path = os.environ.get(variable)
        if not path:
            continue
        if not (Path(path).is_dir() if kind == "folder" else Path(path).is_file()):
            problem = f"there is no {kind} {path}"
        else:
            try:
                if kind == "folder":
                    return ssl.create_default_context(capath=path)
                return ssl.create_default_context(cafile=path)
            except (ssl.SSLError, OSError):
                problem = f"{path} contains no certificates in PEM format, or cannot be read"
        raise ModelError(
            f"{variable} should name a {kind} of trusted certificates; {problem}",
            where=variable,
            hint=f"correct it, or `unset {variable}` to trust the usual ones",
        )
    try:
        import certifi
    except ImportError:  # it comes with the extra `api`
        return ssl.create_default_context()
    return ssl.create_default_context(cafile=certifi.where())


def _value(known: Mapping[str, str], name: str) -> tuple[str, str]:
    """(the variable that is set, its value); in small letters first, as curl and Python have it."""
    for each in (name.lower(), name):
        if known.get(each, "").strip():
            return each, known[each].strip()
    return name, ""


def _proxy(scheme: str, known: Mapping[str, str]) -> Proxy | None:
    variable, value = _value(known, f"{scheme.upper()}_PROXY")
    if not value:
        variable, value = _value(known, "ALL_PROXY")
    if not value:
        return None
    parts = urlsplit(value if "://" in value else f"http://{value}")
    if parts.scheme != "http":
        kind = "SOCKS proxies" if parts.scheme.startswith("socks") else "such proxies"
        raise ModelError(
            f"{variable} names a {_shown(parts.scheme)}:// proxy; {kind} are not supported, "
            "only http:// ones",
            where=variable,
            hint=PROXY_HINT,
        )
    host, port = _host_and_port(parts, variable)
    login = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        login = "Basic " + base64.b64encode(pair.encode()).decode()
    return Proxy(host, port, variable, login)


def _host_and_port(parts: SplitResult, variable: str) -> tuple[str, int]:
    try:
        host, port = parts.hostname, parts.port or _PORTS["http"]
    except ValueError:
        host = port = None
    if not host or port is None:
        # Its value may hold a password.
        raise ModelError(
            f"{variable} is not a proxy URL such as http://proxy.example:3128",
            where=variable,
            hint=PROXY_HINT,
        )
    return host, port


def _shown(scheme: str) -> str:
    return scheme if scheme.isalnum() and len(scheme) < 12 else "…"


def _excepted(host: str, port: int, listed: str) -> bool:
    """Whether NO_PROXY names the host: itself, a domain above it, an address, a network, or `*`.

    >>> _excepted("::1", 80, "[::1]"), _excepted("a.example.org", 80, ".example.org")
    (True, True)
    >>> _excepted("10.1.2.3", 80, "10.0.0.0/8"), _excepted("a.org", 80, "b.org, a.org:81")
    (True, False)
    """
    address = _address(host)
    for entry in listed.replace(",", " ").split():
        name, only = _entry(entry.lower())
        if only is not None and only != port:
            continue
        if name == "*":
            return True
        if address is not None:
            network = _network(name)
            if network is not None and address in network:
                return True
        domain = name.removeprefix("*").lstrip(".")
        if domain and (host == domain or host.endswith(f".{domain}")):
            return True
    return False


def _entry(entry: str) -> tuple[str, int | None]:
    """(host, port) of one of NO_PROXY's: `host`, `host:port`, `[::1]`, `[::1]:port`, `http://host`."""
    entry = entry.partition("://")[2] or entry
    if entry.startswith("["):
        name, _, port = entry[1:].partition("]")
        port = port.removeprefix(":")
    elif entry.count(":") == 1:
        name, _, port = entry.partition(":")
    else:
        name, port = entry, ""
    return name, int(port) if port.isdecimal() else None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _network(name: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(name, strict=False)
    except ValueError:
        return None
