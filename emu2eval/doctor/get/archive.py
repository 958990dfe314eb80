"""Archives of strangers, unpacked into a new folder: plain files below it, of a bounded size."""

from __future__ import annotations

import gzip
import io
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from emu2eval.data.presence import AREA
from emu2eval.doctor.get.disk import room, writing
from emu2eval.errors import DataError
from emu2eval.spec.remote import RemoteFile

MOST_FILES = 5_000_000
MOST_RATIO = 200
"""Bytes that one byte of an archive may become; small archives may hold a GiB all the same."""
_SMALL = 1 << 30
_PIECE = 1 << 20
_LONGEST_HEADER = 16 << 20

_ENDINGS = (".tar.gz", ".tgz", ".tar", ".zip", ".gz")
_CLUTTER = re.compile(r"(?:.*/)?(?:__MACOSX(?:/.*)?|\.DS_Store|\._[^/]*)")


class Unsafe(Exception):
    """Something in an archive that is not unpacked; the text says what."""


def is_archive(name: str) -> bool:
    return name.lower().endswith(_ENDINGS)


def safe(name: str) -> tuple[str, ...]:
    """The folders and the name of a file in an archive or a listing. Raises Unsafe.

    >>> safe("a/./b.jpg")
    ('a', 'b.jpg')
    >>> safe("../b.jpg")
    Traceback (most recent call last):
    emu2eval.doctor.get.archive.Unsafe: the name '../b.jpg' leaves the folder
    """
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    if name[:1] in ("/", "\\") or ".." in parts or (parts and re.match(r"[A-Za-z]:", parts[0])):
        raise Unsafe(f"the name {name!r} is outside the folder")
    if not parts or parts[0] == AREA or any(ord(each) < 32 or ord(each) == 127 for each in name):
        raise Unsafe(f"the name {name!r} cannot be used")
    return tuple(parts)


def fits(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name fits one of the patterns, in which * stops at a folder and ** does not.

    >>> fits("data/val-0.parquet", ["data/val-*"]), fits("a/b/c.jpg", ["a/*"]), fits("a/b/c.jpg", ["a/**"])
    (True, False, True)
    """
    return any(re.fullmatch(_pattern(each), name) for each in patterns)


def _pattern(text: str) -> str:
    whole = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*|\*|\?)", text)
    return "".join(whole.get(part) or re.escape(part) for part in parts)


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    opened: Callable[[], Any]


def unpack(
    archive: Path, name: str, remote: RemoteFile, into: Path, told: Callable[[int], None]
) -> None:
    """Unpacks an archive into a folder. name: as it is called at its source; told: bytes that were written.

    Raises DataError, where something may have been written already.
    """
    members = _zip if name.lower().endswith(".zip") else _tar
    if name.lower().endswith(".gz") and not name.lower().endswith(".tar.gz"):
        members = _gz
    packed = archive.stat().st_size
    if not packed:
        raise _bad(archive, name, "it is empty")
    bound = max(MOST_RATIO * packed, _SMALL)
    try:
        _write(members(archive, name, bound), remote, into, bound, told)
    except Unsafe as error:
        raise _bad(archive, name, str(error)) from None
    except FileExistsError as error:
        raise _bad(archive, name, f"it contains {error.filename} twice") from None
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        OSError,  # of reading; what cannot be written is told before
        EOFError,
        ValueError,
        OverflowError,
        NotImplementedError,
    ) as error:
        raise _bad(archive, name, f"{type(error).__name__}: {error}") from None


def becomes(archive: Path, name: str) -> int | None:
    """Bytes of all that an archive holds, where that can be known without reading all of it."""
    if not name.lower().endswith(".zip"):
        return None
    try:
        with zipfile.ZipFile(archive) as opened:
            return sum(info.file_size for info in opened.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return None


def _bad(archive: Path, name: str, why: str) -> DataError:
    return DataError(
        f"{name} was not unpacked: {' '.join(why.split())[:300]}",
        where=archive,
        hint="it is damaged or unexpected; remove it and try again, or inspect it yourself",
    )


def _write(
    members: Iterator[_Member],
    remote: RemoteFile,
    into: Path,
    bound: int,
    told: Callable[[int], None],
) -> None:
    written = count = 0
    made: set[Path] = set()
    for member in members:
        if _CLUTTER.fullmatch(member.name):
            continue
        parts = safe(member.name)
        if remote.take and not fits("/".join(parts), remote.take):
            continue
        parts = parts[remote.strip :]
        if not parts:
            continue
        safe("/".join(parts))
        count += 1
        if count > MOST_FILES:
            raise Unsafe(f"it contains more than {MOST_FILES:,} files")
        if written + member.size > bound:
            raise Unsafe(f"it would unpack to more than {bound / 1e9:,.1f} GB, which is suspicious")
        path = into.joinpath(*parts)
        with writing(path):
            if path.parent not in made:
                path.parent.mkdir(parents=True, exist_ok=True)
                made.add(path.parent)
        written += _copy(member, path, written, bound, told)


def _copy(member: _Member, path: Path, before: int, bound: int, told: Callable[[int], None]) -> int:
    size = 0
    with member.opened() as source:
        try:
            file = path.open("xb")
        except FileExistsError:
            raise
        except OSError as error:
            with writing(path):
                raise error
        with file:
            while data := source.read(_PIECE):
                size += len(data)
                if before + size > bound:
                    raise Unsafe(f"it unpacks to more than {bound / 1e9:,.1f} GB")
                with writing(path):
                    file.write(data)
                told(len(data))
    if member.size >= 0 and size != member.size:
        raise Unsafe(f"{member.name!r} is cut off")
    return size


def _zip(archive: Path, name: str, bound: int) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as opened:
        infos = opened.infolist()
        room(archive.parent, sum(info.file_size for info in infos))
        for info in infos:
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise Unsafe(f"{info.filename!r} is a link or a special file")
            if info.orig_filename.rstrip("\0") != info.orig_filename.partition("\0")[0]:
                raise Unsafe(f"the name {info.orig_filename!r} cannot be used")
            if info.is_dir():
                continue
            if info.flag_bits & 1:
                raise Unsafe("it is password-protected")
            yield _Member(info.filename, info.file_size, lambda info=info: opened.open(info))  # type: ignore[misc]


def _tar(archive: Path, name: str, bound: int) -> Iterator[_Member]:
    with archive.open("rb") as raw:
        packed = name.lower().endswith(("gz", ".tgz"))
        inner: Any = gzip.GzipFile(fileobj=raw) if packed else raw
        stream = _Bounded(inner, bound)
        with tarfile.open(fileobj=stream, mode="r:") as opened:
            kept: Any = opened
            while info := opened.next():
                kept.members.clear()  # of millions, none is looked at twice
                if info.isdir():
                    continue
                if not info.isreg() or info.issparse():
                    raise Unsafe(f"{info.name!r} is a link or a special file")
                room(archive.parent, info.size)
                yield _Member(info.name, info.size, lambda info=info: _extracted(opened, info))  # type: ignore[misc]
            stream.seek(opened.offset)
            if stream.read(512) != bytes(512):
                raise Unsafe("its end is missing")


def _extracted(opened: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    found = opened.extractfile(info)
    assert found is not None
    return found


def _gz(archive: Path, name: str, bound: int) -> Iterator[_Member]:
    yield _Member(name[: -len(".gz")], -1, lambda: gzip.GzipFile(archive))


class _Bounded(io.RawIOBase):
    """What an archive becomes, up to a bound; no single read of a header takes the memory."""

    def __init__(self, inner: Any, bound: int):
        self._inner = inner
        self._bound = bound

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return int(self._inner.tell())

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 0 and offset > self._bound + _LONGEST_HEADER:
            raise Unsafe(f"it unpacks to more than {self._bound / 1e9:,.1f} GB")
        return int(self._inner.seek(offset, whence))

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0 or size > _LONGEST_HEADER:
            raise Unsafe("one of its headers has a suspicious size")
        if self._inner.tell() > self._bound + _LONGEST_HEADER:
            raise Unsafe(f"it unpacks to more than {self._bound / 1e9:,.1f} GB")
        return bytes(self._inner.read(size))
