"""One file from a real server on this machine: cuts, changes, lies, refusals and a full disk."""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from emu2eval.doctor.get import download as downloading
from emu2eval.doctor.get import http
from emu2eval.doctor.get.download import Delivered, Parcel, Stopped, download
from emu2eval.doctor.get.http import Bearer, StopSign
from emu2eval.errors import DataError

from .file_server import FileServer, Served, serving

DATA = bytes(range(256)) * 400
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setattr(downloading, "FIRST_WAIT", 0.0)
    monkeypatch.setattr(http, "_LATER", 0.05)
    with serving({"/a.bin": Served(DATA)}) as found:
        yield found


@pytest.fixture
def get(server: FileServer, tmp_path: Path) -> Callable[..., Delivered]:
    def run(name: str = "a.bin", stop: StopSign | None = None, **known: Any) -> Delivered:
        parcel = Parcel(f"{server.url}/{name}", tmp_path / "a.bin", **known)
        return download(parcel, lambda have, total: None, stop or StopSign())

    return run


def test_a_file_comes_whole(get: Callable[..., Delivered], tmp_path: Path) -> None:
    came = get(size=len(DATA), digest=f"sha256:{SHA}")
    assert (tmp_path / "a.bin").read_bytes() == DATA
    assert (came.size, came.sha256, came.etag) == (len(DATA), SHA, '"one"')
    assert not (tmp_path / "a.bin.part").exists()


@pytest.mark.parametrize("kind", ["md5", "sha1", "git"])
def test_other_digests_are_checked_too(get: Callable[..., Delivered], kind: str) -> None:
    name, head = ("sha1", b"blob %d\0" % len(DATA)) if kind == "git" else (kind, b"")
    right = hashlib.new(name, head + DATA).hexdigest()
    assert get(size=len(DATA), digest=f"{kind}:{right}").sha256 == SHA


def test_cuts_are_continued_from_where_they_were(
    server: FileServer, get: Callable[..., Delivered], tmp_path: Path
) -> None:
    server.files["/a.bin"].cuts = [1000, 50_000]
    assert get().sha256 == SHA
    ranges = [headers.get("range") for headers in server.gets("/a.bin")]
    assert ranges == [None, "bytes=1000-", "bytes=51000-"]
    assert {headers.get("if-range") for headers in server.gets("/a.bin")} == {None, '"one"'}


def test_a_part_of_an_earlier_process_is_continued(
    server: FileServer, get: Callable[..., Delivered], tmp_path: Path
) -> None:
    stop = StopSign()
    server.files["/a.bin"].cuts = [70_000]
    parcel = Parcel(f"{server.url}/a.bin", tmp_path / "a.bin")
    with pytest.raises(Stopped):
        # As Ctrl-C does it; a kill leaves the same files.
        download(parcel, lambda have, total: stop.set() if have >= 70_000 else None, stop)
    assert (tmp_path / "a.bin.part").stat().st_size == 70_000
    assert get().sha256 == SHA
    assert server.gets("/a.bin")[-1]["range"] == "bytes=70000-"


def test_a_server_without_ranges_begins_anew(
    server: FileServer, get: Callable[..., Delivered]
) -> None:
    server.files["/a.bin"].ranges = False
    server.files["/a.bin"].cuts = [1000]
    assert get().sha256 == SHA


@pytest.mark.parametrize("believes", [None, '"one"'])
def test_parts_of_two_versions_are_never_put_together(
    server: FileServer, get: Callable[..., Delivered], tmp_path: Path, believes: str | None
) -> None:
    """Nor where a server continues with another version than If-Range names: its ETag says so."""
    other = bytes(reversed(DATA))
    server.files["/a.bin"].cuts = [1000]
    server.files["/a.bin"].then = Served(other, etag='"two"', believes=believes)
    assert get().sha256 == hashlib.sha256(other).hexdigest()
    assert (tmp_path / "a.bin").read_bytes() == other


def test_a_length_that_is_too_long_is_told(
    server: FileServer, get: Callable[..., Delivered]
) -> None:
    server.files["/a.bin"].says = len(DATA) + 50
    with pytest.raises(DataError, match=r"download failed: .*attempts: 6") as caught:
        get()
    assert "run the same command again to continue" in str(caught.value)


def test_a_length_that_is_too_short_is_told(
    server: FileServer, get: Callable[..., Delivered], tmp_path: Path
) -> None:
    server.files["/a.bin"].says = 1000
    with pytest.raises(DataError, match="announced 1,000 bytes but sent more"):
        get()
    assert not (tmp_path / "a.bin").exists()


def test_another_size_or_digest_than_the_known_one(
    server: FileServer, get: Callable[..., Delivered], tmp_path: Path
) -> None:
    with pytest.raises(
        DataError, match=r"has 102,400 bytes at its source, but should have 5 \(Ann\)"
    ):
        get(size=5, known="Ann")
    with pytest.raises(DataError, match=rf"its digest is sha256:{SHA}, not sha256:00") as caught:
        get(digest="sha256:" + "00" * 32)
    assert "changed at its source or in transit" in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    assert len(server.gets("/a.bin")) == 2


def test_a_damaged_part_is_tried_once_more(
    server: FileServer, get: Callable[..., Delivered], tmp_path: Path
) -> None:
    server.files["/a.bin"].cuts = [70_000]
    stop = StopSign()
    parcel = Parcel(f"{server.url}/a.bin", tmp_path / "a.bin")
    with pytest.raises(Stopped):
        download(parcel, lambda have, total: stop.set() if have >= 70_000 else None, stop)
    (tmp_path / "a.bin.part").write_bytes(bytes(70_000))
    assert get(digest=f"sha256:{SHA}").sha256 == SHA
    assert [h.get("range") for h in server.gets("/a.bin")] == [None, "bytes=70000-", None]


def test_busy_servers_are_asked_again(
    server: FileServer, get: Callable[..., Delivered], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(StopSign, "wait", lambda self, seconds: waits.append(seconds))
    server.files["/a.bin"].statuses = [(500, {}), (429, {"Retry-After": "7"}), (503, {})]
    assert get().sha256 == SHA
    assert waits == [0, 7, 0]
    server.files["/a.bin"].statuses = [(429, {"Retry-After": "7200"})]
    server.files["/b.bin"] = server.files["/a.bin"]
    with pytest.raises(DataError, match="a pause of 7,200 seconds"):
        download(Parcel(f"{server.url}/b.bin", Path("b.bin")), lambda have, total: None, StopSign())


@pytest.mark.parametrize(
    ("status", "says"), [(404, "no longer exists"), (403, "acceptance of terms")]
)
def test_refusals_end_it(
    server: FileServer, get: Callable[..., Delivered], status: int, says: str
) -> None:
    server.files["/a.bin"].statuses = [(status, {})]
    with pytest.raises(DataError, match=f"HTTP {status}") as caught:
        get()
    assert says in str(caught.value)
    assert len(server.asked) == 1


def test_a_web_page_is_no_data(server: FileServer, get: Callable[..., Delivered]) -> None:
    server.files["/a.bin"].kind = "text/html; charset=utf-8"
    with pytest.raises(DataError, match="a web page instead of the file"):
        get()


def test_a_token_stays_with_its_server(server: FileServer, get: Callable[..., Delivered]) -> None:
    with serving({"/elsewhere.bin": Served(DATA)}) as other:
        server.files["/a.bin"].to = "/b.bin"
        server.files["/b.bin"] = Served(to=f"{other.url}/elsewhere.bin?X-Signature=abc")
        bearer = Bearer(server.url, "hf_secretsecretsecret")
        assert get(bearer=bearer).sha256 == SHA
        for path in ("/a.bin", "/b.bin"):
            assert server.gets(path)[0]["authorization"] == "Bearer hf_secretsecretsecret"
        assert "authorization" not in other.gets("/elsewhere.bin")[0]
        other.files.clear()
        with pytest.raises(DataError) as caught:
            Path("a.bin").unlink()
            get(bearer=bearer)
        assert "secret" not in repr(bearer) + str(caught.value)
        assert "Signature" not in str(caught.value)


@pytest.mark.parametrize(
    ("to", "says"),
    [
        ("http://example.org/a.bin", "contacted by plain http"),
        ("http://[", "it is not a URL"),
        ("ftp://example.org/a.bin", "not the URL of a file"),
        ("https://me:word@example.org/a.bin", "a user name or password"),
        ("/a.bin", "10 redirects"),
    ],
)
def test_redirects_have_rules(
    server: FileServer, get: Callable[..., Delivered], to: str, says: str
) -> None:
    server.files["/a.bin"].to = to
    with pytest.raises(DataError, match=says) as caught:
        get()
    assert "word@" not in str(caught.value)


def test_no_redirect_leads_from_outside_to_this_machine() -> None:
    with pytest.raises(DataError, match="redirects to this machine"):
        http._followed("https://example.org/a", "https://example.org/a", "http://127.0.0.1:1/a")


def test_a_disk_without_room_is_told_before(
    server: FileServer, get: Callable[..., Delivered], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=200 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match=r"only 0\.2 GB are free") as caught:
        get()
    assert "EMU2EVAL_DATA" in str(caught.value)


def test_a_disk_that_fills_up_keeps_the_part(
    server: FileServer,
    get: Callable[..., Delivered],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def no_room(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(downloading.os, "fsync", no_room)
        with pytest.raises(DataError, match="no space left for data") as caught:
            get()
    assert "downloaded parts are saved; run the same command again to continue" in str(caught.value)
    assert (tmp_path / "a.bin.part").stat().st_size == len(DATA)
    assert get().sha256 == SHA


def test_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloading, "FIRST_WAIT", 0.0)
    with serving({}) as gone:
        url = gone.url
    with pytest.raises(DataError, match="connection refused"):
        download(Parcel(f"{url}/a", tmp_path / "a"), lambda have, total: None, StopSign())


SELF_SIGNED = Path(__file__).parents[1] / "adapters/openai/self_signed.pem"
"""For 127.0.0.1; nobody trusts it by itself."""


def test_certificates_are_verified(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    with serving({"/a.bin": Served(DATA)}, SELF_SIGNED) as secure:
        parcel = Parcel(f"{secure.url}/a.bin", tmp_path / "a.bin")
        with pytest.raises(DataError, match=r"not trusted: self.signed") as caught:
            download(parcel, lambda have, total: None, StopSign())
        assert "export SSL_CERT_FILE=" in (caught.value.hint or "")
        assert secure.asked == []
        monkeypatch.setenv("SSL_CERT_FILE", str(SELF_SIGNED))
        assert download(parcel, lambda have, total: None, StopSign()).sha256 == SHA


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What a proxy is told, that connects nobody with anybody; https goes through it."""
    told: list[str] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listening.accept()
                with client:
                    told.append(client.recv(65536).decode())
                    client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")

    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    for name in ("HTTPS_PROXY", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    port = listening.getsockname()[1]
    monkeypatch.setenv("https_proxy", f"http://me:Very5ecret@127.0.0.1:{port}")
    yield told
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join()


def test_through_the_proxy_of_the_environment(proxy: list[str], tmp_path: Path) -> None:
    parcel = Parcel("https://data.example/a.bin", tmp_path / "a.bin")
    with pytest.raises(
        DataError, match=r"the proxy 127\.0\.0\.1:\d+ \(https_proxy\): .* 407"
    ) as caught:
        download(parcel, lambda have, total: None, StopSign())
    assert proxy[0].startswith("CONNECT data.example:443 HTTP/1.")
    assert base64.b64encode(b"me:Very5ecret").decode() in proxy[0]
    assert "Very5ecret" not in str(caught.value)
    assert len(proxy) == 1


def test_a_body_in_chunks(
    server: FileServer, get: Callable[..., Delivered], tmp_path: Path
) -> None:
    """Its length is not told before; that it was cut off is told all the same."""
    server.files["/a.bin"].chunked = True
    server.files["/a.bin"].cuts = [1000]
    assert get().sha256 == SHA
    assert (tmp_path / "a.bin").read_bytes() == DATA
    assert len(server.gets("/a.bin")) == 2


def test_an_encoding_that_nobody_wanted(
    server: FileServer, get: Callable[..., Delivered], tmp_path: Path
) -> None:
    server.files["/a.bin"].headers = {"Content-Encoding": "gzip"}
    with pytest.raises(DataError, match=r"encoding \(gzip\)"):
        get()


def test_a_file_without_an_end(server: FileServer, get: Callable[..., Delivered]) -> None:
    server.files["/a.bin"].says = 0
    with pytest.raises(DataError, match="does not report the file's size"):
        get()
    assert get(size=len(DATA)).sha256 == SHA
