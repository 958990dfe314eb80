"""Data sets on the hub: which files they hold, how large, with which digests, at which commit."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, urljoin

import msgspec

from emu2eval.doctor.get import archive
from emu2eval.doctor.get.download import FIRST_WAIT, retry_after
from emu2eval.doctor.get.http import Bearer, Unsteady, opened
from emu2eval.errors import ConfigError, DataError
from emu2eval.spec.remote import RemoteFile, check_address

_MOST = 64 << 20
"""Bytes of a page of a listing."""
_MOST_PAGES = 1000
_ATTEMPTS = 3
LONGEST_LISTING = 60.0
"""Seconds of rest that the hub may ask for before it lists something."""

Found = TypeVar("Found")


class _Card(msgspec.Struct):
    license: str | list[str] | None = None
    license_name: str | None = None


class _Info(msgspec.Struct):
    sha: str
    cardData: _Card | None = None


class _Lfs(msgspec.Struct):
    oid: str
    size: int


class _Entry(msgspec.Struct):
    type: str
    path: str
    size: int = 0
    oid: str = ""
    lfs: _Lfs | None = None


@dataclass(frozen=True)
class HubFile:
    """A file of a data set. path: in the data set; digest: see `Digests`."""

    path: str
    url: str
    size: int
    digest: str | None


@dataclass(frozen=True)
class Listing:
    """The files that fit the patterns, at one commit. licence: as the data set's card says."""

    commit: str
    licence: str
    files: tuple[HubFile, ...]


@dataclass(frozen=True)
class Hub:
    """A hub. endpoint: $HF_ENDPOINT, else https://huggingface.co; bearer: $HF_TOKEN, or what `hf auth login`
    kept.
    """

    endpoint: str
    bearer: Bearer | None

    @classmethod
    def of_environment(cls) -> Hub:
        if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
            raise DataError(
                "HF_HUB_OFFLINE is set, so the hub is not contacted",
                where="HF_HUB_OFFLINE",
                hint="unset HF_HUB_OFFLINE, or download the data by hand",
            )
        endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
        try:
            check_address(endpoint)
        except ConfigError as error:
            raise ConfigError(
                f"HF_ENDPOINT is not usable: {error.what}",
                where="HF_ENDPOINT",
                hint="export HF_ENDPOINT=https://huggingface.co, or unset it",
            ) from None
        token = _token()
        return cls(endpoint, Bearer(endpoint, token) if token else None)

    def listing(self, remote: RemoteFile) -> Listing:
        """What the data set holds of the wanted files. Raises DataError."""
        repo, revision = remote.hub or "", quote(remote.revision, safe="")
        info = self._read(f"{self.endpoint}/api/datasets/{repo}/revision/{revision}", repo, _Info)
        if not re.fullmatch(r"[0-9a-f]{40}", info.sha):
            raise DataError(
                "the hub did not return a commit", where=f"{self.endpoint}/datasets/{repo}"
            )
        files = tuple(
            HubFile(
                entry.path,
                f"{self.endpoint}/datasets/{repo}/resolve/{info.sha}/{quote(entry.path)}",
                entry.lfs.size if entry.lfs else entry.size,
                f"sha256:{entry.lfs.oid}"
                if entry.lfs
                else f"git:{entry.oid}"
                if entry.oid
                else None,
            )
            for entry in self._entries(repo, info.sha)
            if entry.type == "file" and archive.fits(entry.path, remote.files)
        )
        for file in files:
            try:
                archive.safe(file.path)
            except archive.Unsafe as error:
                raise DataError(str(error), where=f"{self.endpoint}/datasets/{repo}") from None
        if not files:
            raise DataError(
                f"{repo} on the hub has no file that matches {' or '.join(remote.files)}",
                where=f"{self.endpoint}/datasets/{repo}/tree/{remote.revision}",
                hint="it has been reorganized: look at its files, or use the other source",
            )
        return Listing(info.sha, _licence(info.cardData), files)

    def _entries(self, repo: str, commit: str) -> Iterator[_Entry]:
        url = f"{self.endpoint}/api/datasets/{repo}/tree/{commit}?recursive=true"
        for _ in range(_MOST_PAGES):
            found, after = self._page(url, repo, list[_Entry])
            yield from found
            if after is None:
                return
            url = urljoin(url, after)

    def _read(self, url: str, repo: str, kind: type[_Info]) -> _Info:
        return self._page(url, repo, kind)[0]

    def _page(self, url: str, repo: str, kind: type[Found]) -> tuple[Found, str | None]:
        """A reply, and the address of the next page."""
        place = f"{self.endpoint}/datasets/{repo}"
        for attempt in range(_ATTEMPTS):
            try:
                with opened(url, bearer=self.bearer) as reply:
                    if reply.status == 200:
                        body = reply.whole(_MOST)
                        return msgspec.json.decode(body, type=kind), _next(reply.headers)
                    if reply.status < 500 and reply.status != 429:
                        raise self._refusal(reply.status, repo, place)
                    raise Unsteady(f"HTTP {reply.status}", retry_after(reply.headers))
            except msgspec.MsgspecError:
                raise DataError("unexpected reply from the hub", where=place) from None
            except Unsteady as error:
                if attempt + 1 == _ATTEMPTS or error.wait > LONGEST_LISTING:
                    raise DataError(
                        f"the hub cannot be reached: {error}",
                        where=self.endpoint,
                        hint="check the network; a mirror of the hub: export HF_ENDPOINT=https://…",
                    ) from None
                time.sleep(max(error.wait, FIRST_WAIT * 2.0**attempt))
        raise AssertionError

    def _refusal(self, status: int, repo: str, place: str) -> DataError:
        if status in (401, 403):
            token = "the token gives no access" if self.bearer else "it requires a token"
            return DataError(
                f"no access to {repo} on the hub (HTTP {status}): {token}, or the dataset does not exist",
                where=place,
                hint=f"open {place} in a browser, accept its terms if it has any, then: "
                "export HF_TOKEN=… (from https://huggingface.co/settings/tokens)",
            )
        return DataError(f"the hub does not have {repo} (HTTP {status})", where=place)


def _next(headers: Mapping[str, str]) -> str | None:
    found = re.search(r'<([^>]+)>;\s*rel="next"', headers.get("link", ""))
    return found[1] if found else None


def _token() -> str | None:
    """As huggingface_hub finds it."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if found := os.environ.get(name, "").strip():
            return _usable(found, name)
    home = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    path = Path(os.environ.get("HF_TOKEN_PATH") or f"{home}/token").expanduser()
    try:
        return _usable(path.read_text(encoding="utf-8").strip(), str(path)) or None
    except (OSError, UnicodeDecodeError):
        return None


def _usable(token: str, where: str) -> str:
    if not all("!" <= character <= "~" for character in token):
        raise ConfigError("the hub token contains spaces or special characters", where=where)
    return token


def _licence(card: _Card | None) -> str:
    if card is None or card.license is None:
        return ""
    named = card.license if isinstance(card.license, str) else ", ".join(card.license)
    return card.license_name or named if named == "other" else named
