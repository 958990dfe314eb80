"""What `emu2eval data get` brings: files at an address, or files of a data set on the hub."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_address
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta

from emu2eval.errors import ConfigError, UnknownName
from emu2eval.spec import catalog
from emu2eval.spec.settings import Count
from emu2eval.spec.yamlfile import Spec, read_yaml, validate

Repo = Annotated[str, Meta(pattern=r"^\w[\w.-]*/\w[\w.-]*$")]

DIGESTS = {"sha256": 64, "sha1": 40, "md5": 32}
"""Kinds of digests, and how many hexadecimal digits one has."""


class FileList(Spec):
    """Files whose addresses are in a JSON file of the data, which is downloaded first.

    file: below the data root; each: the key of a list in it; url, name: keys of its entries; below: the
    beginning of every address.
    """

    file: str
    each: str
    url: str
    name: str
    below: str

    def __post_init__(self) -> None:
        check_address(self.below)


class RemoteFile(Spec):
    """One file by its address, several of a data set on the hub, or those of a list.

    url: https only. name: the file's name, if it is not the end of the address. hub: `org/name` of a
    data set;
    revision: a branch, tag or commit; files: patterns of its files, which keep their names and folders.
    listed: files whose addresses are in a file of the data.
    size: bytes; digest: `sha256:…`, `sha1:…` or `md5:…`; known: the source of size and digest, which are
    checked.
    unpack: absent = according to the extension (.zip, .tar, .tar.gz, .tgz, .gz). take: patterns of the
    members to unpack from an archive (absent = all); strip: how many leading folders to remove from
    their names.
    """

    url: str | None = None
    name: str | None = None
    hub: Repo | None = None
    revision: str = "main"
    files: tuple[str, ...] = ()
    listed: FileList | None = None
    size: Count | None = None
    digest: str | None = None
    known: str | None = None
    unpack: bool | None = None
    take: tuple[str, ...] = ()
    strip: int = 0

    def __post_init__(self) -> None:
        if [self.url, self.hub, self.listed].count(None) != 2:
            raise ConfigError("a download needs exactly one of the keys 'url', 'hub' and 'listed'")
        if self.url is not None:
            check_address(self.url)
        elif self.hub is not None and not self.files:
            raise ConfigError(f"the key 'files' must name the files of {self.hub} on the hub")
        if self.digest is not None:
            kind, _, digits = self.digest.partition(":")
            if not re.fullmatch(rf"[0-9a-f]{{{DIGESTS.get(kind, 0)}}}", digits) or not digits:
                raise ConfigError(
                    f"a digest must be {' or '.join(f'{name}:…' for name in DIGESTS)}, in "
                    "lower-case hexadecimal"
                )
        if self.name is not None and (
            "/" in self.name or "\\" in self.name or self.name[:1] == "."
        ):
            raise ConfigError("the key 'name' must be a file name without folders")

    @property
    def called(self) -> str:
        """The name of the file by its address."""
        return self.name or urlsplit(self.url or "").path.rpartition("/")[2] or "file"


def check_address(url: str) -> None:
    """Raises ConfigError for an address that is not https; http may lead to this machine itself."""
    try:
        parts = urlsplit(url)
        host, login = parts.hostname, parts.username or parts.password
        _ = parts.port
    except ValueError:
        host = login = None
        parts = urlsplit("")
    if not host or parts.scheme not in ("http", "https") or not url.isascii() or min(url) <= " ":
        raise ConfigError("not the URL of a file, such as https://example.org/file.zip")
    if login:
        raise ConfigError(
            "the URL contains a user name or password, which would be stored and shown"
        )
    if parts.scheme == "http" and not is_here(host):
        raise ConfigError(
            f"{host} would be contacted by plain http, which can be tampered with in transit; use https"
        )


def is_here(host: str) -> bool:
    """Whether the host is this machine itself.

    >>> is_here("localhost"), is_here("127.0.0.1"), is_here("::1"), is_here("localhost.example.org")
    (True, True, True, False)
    """
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class _Shared(Spec):
    """The file of what several tasks share."""

    files: dict[str, RemoteFile]


def remote_files(named: Iterable[str | RemoteFile]) -> tuple[RemoteFile, ...]:
    """Each as it is, or by its name in the file that the tasks share. Raises UnknownName."""
    return tuple(_shared(each) if isinstance(each, str) else each for each in named)


def _shared(name: str) -> RemoteFile:
    known = shared_files()
    if name not in known:
        raise UnknownName("download", name, known, where=catalog.shipped("task") / _PLACE)
    return known[name]


@lru_cache(maxsize=1)
def shared_files() -> dict[str, RemoteFile]:
    """The files that several tasks share, by name."""
    document = read_yaml(catalog.shipped("task") / _PLACE)
    return validate(_Shared, document.data, document).files


_PLACE = "remote/files.yaml"
