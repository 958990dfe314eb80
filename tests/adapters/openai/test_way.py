"""The way to a server: proxies, certificates, compressed replies, and errors that name what is wrong."""

from __future__ import annotations

import base64
import gzip
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from emu2eval import evaluate
from emu2eval.adapters.openai import lines
from emu2eval.adapters.openai.route import route_to, way
from emu2eval.errors import ModelError, UserError, raise_together

from ...chat_server import ChatServer, reply
from .building import openai

SELF_SIGNED = Path(__file__).with_name("self_signed.pem")
"""For models.example and 127.0.0.1, until 2126, with its key: nobody but these tests trusts it."""


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def proxy(url: str, **environment: str) -> str | None:
    found = route_to(url, environment).proxy
    return None if found is None else str(found)


def test_which_proxy_leads_to_a_server() -> None:
    given = {"http_proxy": "http://one:3128", "ALL_PROXY": "two"}
    assert proxy("http://host/v1", **given) == "the proxy one:3128 (http_proxy)"
    assert proxy("https://host/v1", **given) == "the proxy two:80 (ALL_PROXY)"
    for here in ("localhost:1", "127.0.0.7", "[::1]:8000", "a.localhost"):
        assert proxy(f"http://{here}/v1", **given) is None
    for name in ("host", ".host", "*", "a,HOST:80", "http://host", "x host"):
        assert proxy("http://host/v1", **given, NO_PROXY=name) is None, name
    assert proxy("http://a.host/v1", **given, no_proxy="host") is None
    for name in ("[2001:db8::1]", "2001:db8::1", "2001:db8::/32", "[2001:db8::1]:80"):
        assert proxy("http://[2001:db8::1]/v1", **given, NO_PROXY=name) is None, name
    for name in ("[::1]", "host:81", "ost", "10.0.0.0/8", "]", "a:b:c"):
        assert proxy("http://host/v1", **given, NO_PROXY=name) is not None, name


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("ALL_PROXY", "socks5://user:Very5ecret@one:1080", "ALL_PROXY names a socks5:// proxy"),
        ("all_proxy", "socks://one:1080", "all_proxy .* SOCKS proxies are not supported"),
        ("HTTPS_PROXY", "https://one", "HTTPS_PROXY .* only http:// ones"),
        ("HTTPS_PROXY", "http://user:Very5ecret@one:port", "HTTPS_PROXY is not a proxy URL"),
        ("HTTPS_PROXY", "http://", "HTTPS_PROXY is not a proxy URL"),
        ("SSL_CERT_FILE", "nowhere.pem", "SSL_CERT_FILE .* there is no file nowhere.pem"),
        ("SSL_CERT_FILE", __file__, "SSL_CERT_FILE .* contains no certificates"),
        ("SSL_CERT_DIR", "nowhere", "SSL_CERT_DIR .* there is no folder nowhere"),
    ],
)
def test_a_variable_of_no_use_is_named_before_anything_is_asked(
    variable: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ModelError, match=says) as caught:
        raise_together(openai(base_url="https://models.example/v1").lacks())
    error: UserError = caught.value
    assert error.hint and "Very5ecret" not in str(error)
    if "PROXY" in variable.upper():
        assert way("https://127.0.0.1/v1")[0].proxy is None  # needs none


def asked(make_task: Any, make_model: Any, url: str, **settings: Any) -> Any:
    model = make_model("served", "openai", model="m", base_url=url, timeout=5, **settings)
    (result,) = evaluate(str(make_task()), str(model), limit=2, out=Path("runs"))
    return result


def test_a_dead_proxy_is_named(
    make_task: Any, make_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://user:Very5ecret@127.0.0.1:9")
    says = r"the proxy 127\.0\.0\.1:9 \(HTTP_PROXY\): connection refused"
    with pytest.raises(ModelError, match=says) as caught:
        asked(make_task, make_model, "http://models.example/v1", retries=0)
    assert "NO_PROXY" in str(caught.value) and "Very5ecret" not in str(caught.value)


def test_through_a_proxy(
    make_task: Any, make_model: Any, chat_server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://me:p%40ss@127.0.0.1:{chat_server.port}")
    assert asked(make_task, make_model, "http://models.example/v1").rows[0].n == 2
    assert set(chat_server.paths) == {"http://models.example/v1/chat/completions"}
    sent = chat_server.headers[0]
    assert sent["Host"] == "models.example"
    assert base64.b64decode(sent["Proxy-Authorization"].removeprefix("Basic ")) == b"me:p@ss"


@pytest.fixture
def tunnel(chat_server: ChatServer) -> Iterator[tuple[int, list[bytes]]]:
    """A proxy that connects anybody with the server, whatever they want: its port, what it was told."""
    heads: list[bytes] = []

    def carry(source: socket.socket, target: socket.socket) -> None:
        while data := source.recv(65536):
            target.sendall(data)

    def serve() -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += client.recv(1)
            heads.append(head)
            server = socket.create_connection(("127.0.0.1", chat_server.port))
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            for pair in ((client, server), (server, client)):
                threading.Thread(target=_quiet, args=(carry, *pair), daemon=True).start()

    listening = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, daemon=True).start()
    yield listening.getsockname()[1], heads
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()


def _quiet(carry: Any, source: socket.socket, target: socket.socket) -> None:
    with target:  # or the collector finds it open, in a test that has nothing to do with it
        with suppress(OSError):  # the other side is gone
            carry(source, target)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)


def test_through_a_proxy_and_tls(
    make_task: Any,
    make_model: Any,
    chat_server: ChatServer,
    tunnel: tuple[int, list[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port, heads = tunnel
    chat_server.speak_tls(SELF_SIGNED)
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("SSL_CERT_FILE", str(SELF_SIGNED))
    assert asked(make_task, make_model, "https://models.example/v1").rows[0].n == 2
    assert heads[0].startswith(b"CONNECT models.example:443 HTTP/1.1\r\n")
    assert set(chat_server.paths) == {"/v1/chat/completions"}


def test_a_self_signed_certificate_is_told_at_once(
    make_task: Any, make_model: Any, chat_server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emu2eval.adapters.openai import client

    monkeypatch.setattr(client, "FIRST_WAIT", 60.0)  # nobody waits for it to become better
    url = chat_server.speak_tls(SELF_SIGNED)
    with pytest.raises(ModelError, match=r"not trusted: self.signed certificate") as caught:
        asked(make_task, make_model, url)
    assert "export SSL_CERT_FILE=" in (caught.value.hint or "")
    monkeypatch.setenv("SSL_CERT_FILE", str(SELF_SIGNED))
    assert asked(make_task, make_model, url).rows[0].n == 2


def test_a_reply_is_bounded_after_it_is_decompressed(
    make_task: Any, make_model: Any, chat_server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MOST_BYTES", 1 << 20)
    good = gzip.compress(json.dumps(reply("red")).encode())
    bodies = [gzip.compress(b" " * (2 << 20)), b" " * (2 << 20), good, good[:20]]
    packed = [True, False, True, True]

    def fault(number: int, body: Any) -> Any:
        headers = {"Content-Encoding": "gzip"} if packed[number] else {}
        return 200, headers, bodies[number]

    chat_server.fault = fault
    model = make_model(
        "served", "openai", model="m", base_url=chat_server.url, concurrency=1, retries=0
    )
    (result,) = evaluate(str(make_task()), str(model), limit=4, out=Path("runs"))
    stored = (result.folder / "responses.jsonl").read_text().splitlines()
    first, second, third, fourth = map(json.loads, stored)
    assert first["error"] == second["error"] == "the reply is larger than 1 MiB"
    assert third["text"] == "red"
    assert "cut off" in fourth["error"]
