"""WebDataset shards: tar archives in which the files of one name are one sample. Nothing is unpacked."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from emu2eval.data.columns import FileOptions
from emu2eval.data.damaged import damaged
from emu2eval.data.own import samples
from emu2eval.data.rows import DataRow
from emu2eval.data.shards import shards
from emu2eval.errors import DataError
from emu2eval.media import tarmember
from emu2eval.media.suffixes import IMAGES
from emu2eval.types import Sample

LARGEST_TEXT = 16 << 20
"""Bytes of a text or JSON member, which are held in memory."""

_TEXTS = ("txt", "text", "cls", "caption", "id", "label")
_END = b"\0" * 512
_decode = msgspec.json.Decoder().decode


class WebDatasetOptions(FileOptions):
    """Of `read`."""


def read(root: Path, options: WebDatasetOptions) -> Iterator[Sample]:
    """Samples of uncompressed tar shards; the files of one name, next to each other, are one.

    The columns are `id` (the name without its ending) and `shard`, `image` (the images, in their order), each
    file by its ending, such as `txt`, `cls` or `left.jpg`, and what is in a `.json` file, by its own keys.
    Pickles and arrays are passed over.
    """
    return samples(_Shards(root, options), options, root)


@dataclass(frozen=True)
class _Shards:
    root: Path
    options: WebDatasetOptions

    def rows(self) -> Iterator[DataRow]:
        seen: dict[str, str] = {}
        whole = self.options.id is None
        for path in shards(self.root, self.options.files):
            for row in shard_rows(path):
                name = str(row.cells["id"])
                if whole and seen.setdefault(name, row.where) != row.where:
                    raise DataError(
                        f"the name {name!r} appears twice; the first is at {seen[name]}",
                        where=row.where,
                        hint='if each shard restarts its numbering, use `id: "{shard}/{id}"`; the files '
                        "of one sample must be adjacent",
                    )
                yield row

    def classes(self, column: str) -> Sequence[str]:
        return ()


def shard_rows(path: Path) -> Iterator[DataRow]:
    """A row for the members that follow each other under one name."""
    key: str | None = None
    cells: dict[str, Any] = {}
    for name, ending, read in _members(path):
        if name != key and key is not None:
            yield _row(path, key, cells)
            cells = {}
        key = name
        if ending in cells:
            raise DataError(f"the file .{ending} appears twice", where=f"{path}#{name}")
        if read is not None:
            cells[ending] = read
    if key is not None:
        yield _row(path, key, cells)


def _row(path: Path, key: str, members: dict[str, Any]) -> DataRow:
    pictures = [cell for ending, cell in members.items() if _last(ending) in IMAGES]
    json = [cell for ending, cell in members.items() if _last(ending) == "json"]
    cells: dict[str, Any] = {"id": key, "shard": path.name.removesuffix(".tar")}
    if pictures:
        cells["image"] = pictures[0] if len(pictures) == 1 else pictures
    # The archive's own names win: an `id` or `image` inside the JSON is there as json.id.
    for inner in json:
        if isinstance(inner, dict):
            cells = {**inner, **cells}
    return DataRow(f"{path}#{key}", {**cells, **members})


def _last(ending: str) -> str:
    return ending.rpartition(".")[2]


def _members(path: Path) -> Iterator[tuple[str, str, Any]]:
    """(name without ending, ending, content) of each file: an Image, a text or a decoded JSON."""
    size = path.stat().st_size
    with _opened(path) as archive, path.open("rb") as file:
        kept: Any = archive
        while (each := archive.next()) is not None:
            kept.members.clear()  # they would grow with the archive
            where = f"{path}#{each.name[:200]}"
            if each.isdir():
                continue
            if not each.isreg() or each.issparse():
                raise DataError(
                    "the archive contains a link, a device or a sparse file, but samples must be plain files",
                    where=where,
                )
            parts = each.name.split("/")
            if each.name.startswith("/") or ".." in parts or "\\" in each.name:
                raise DataError("the archive contains a path outside its folder", where=where)
            if each.offset_data + each.size > size:
                raise _cut(path)
            folder = [part for part in parts[:-1] if part != "."]
            stem, dot, ending = parts[-1].partition(".")
            if not stem or not dot:
                continue  # hidden, such as ._x of a Mac, or no sample's
            ending = ending.lower()
            kind = _last(ending)
            content: Any = None
            if kind in IMAGES:
                content = tarmember.image(path, each.offset_data, each.size)
            elif kind == "json" or kind in _TEXTS:
                if each.size > LARGEST_TEXT:
                    raise DataError(
                        f"a text of {each.size >> 20:,} MiB; at most {LARGEST_TEXT >> 20} MiB can be read",
                        where=where,
                    )
                file.seek(each.offset_data)
                content = _content(file.read(each.size), kind, where)
            yield "/".join([*folder, stem]), ending, content
        # A header that cannot be read ends the archive for tarfile, too, and what is behind it is lost.
        file.seek(archive.offset)
        while rest := file.read(1 << 20):
            if rest.strip(b"\0"):
                raise DataError(
                    "the archive is damaged, or followed by another one",
                    where=f"{path}, byte {archive.offset:,}",
                    hint="download it again",
                )


def _content(data: bytes, kind: str, where: str) -> Any:
    try:
        return _decode(data) if kind == "json" else data.decode().strip()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        what = "JSON" if kind == "json" else "UTF-8 text"
        raise DataError(f"this is not {what}: {error}", where=where) from None


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    """The archive; raises DataError for a compressed, damaged or cut one, also while it is read inside."""
    with path.open("rb") as file:
        start = file.read(512)
        if start[:2] == b"\x1f\x8b" or start[:3] == b"BZh" or start[:6] == b"\xfd7zXZ\0":
            raise DataError(
                "the archive is compressed, so images cannot be read directly from it",
                where=path,
                hint="remove only the compression: gunzip, bunzip2 or unxz",
            )
        file.seek(0, 2)
        if file.tell() < 1024:
            raise damaged(path, start, "not a tar archive")
        file.seek(-512, 2)
        if file.read(512) != _END:
            raise (
                _cut(path)
                if start[257:262] == b"ustar"
                else damaged(path, start, "not a tar archive")
            )
    try:
        with tarfile.open(path, "r:") as archive:
            yield archive
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise DataError(
            f"the archive is damaged: {error}", where=path, hint="download it again"
        ) from None


def _cut(path: Path) -> DataError:
    return DataError("the archive is cut off", where=path, hint="download it again")
