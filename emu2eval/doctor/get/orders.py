"""What is to be brought for a task: from its file and from what is missing on the disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from emu2eval.data.paths import inside
from emu2eval.data.presence import AREA, OFFICIAL, Piece, pieces
from emu2eval.data.sources import choose
from emu2eval.doctor.get.archive import is_archive
from emu2eval.doctor.get.download import Parcel
from emu2eval.doctor.get.http import Unsteady, opened
from emu2eval.doctor.get.hub import Hub
from emu2eval.errors import UnknownName, UserError
from emu2eval.spec.remote import RemoteFile
from emu2eval.spec.task import Task


@dataclass(frozen=True)
class Item:
    """One file of an order. name: as at its source, with the folders below `into` where it has some."""

    name: str
    parcel: Parcel
    remote: RemoteFile

    @property
    def packed(self) -> bool:
        return is_archive(self.name) if self.remote.unpack is None else self.remote.unpack


@dataclass(frozen=True)
class Order:
    """Something that a task needs and that is not there, or not whole.

    gives: what is there afterwards, below `into`. Without items it has to be fetched by hand, from `source`.
    known: gives are those names, and not patterns of the hub's. licence: as the hub states it.
    """

    what: str
    size: str
    source: str
    into: Path
    gives: tuple[PurePosixPath, ...]
    items: tuple[Item, ...]
    note: str | None = None
    known: bool = True
    licence: str = ""

    @property
    def area(self) -> Path:
        """Where things are on their way."""
        return self.into / AREA

    @property
    def key(self) -> str:
        """The same for the same files."""
        whole = "\n".join(sorted(item.parcel.url for item in self.items))
        return hashlib.sha256(whole.encode()).hexdigest()[:16]

    @property
    def bytes(self) -> int:
        """Of the files whose size is known."""
        return sum(item.parcel.likely or 0 for item in self.items)

    @property
    def unknown(self) -> int:
        """Files whose size is not known."""
        return sum(item.parcel.likely is None for item in self.items)

    @property
    def there(self) -> int:
        """Bytes that have come already."""
        return sum(item.parcel.there for item in self.items)

    @property
    def room(self) -> int:
        """Bytes of disk that are needed still: archives and what becomes of them lie there together."""
        unpacked = sum(item.parcel.likely or 0 for item in self.items if item.packed)
        return max(0, self.bytes - self.there) + unpacked


def splits_of(task: Task, named: Sequence[str]) -> list[str]:
    """The splits to bring: those named (`all` = every one), else the queries' and the demonstrations'.

    Raises UnknownName.
    """
    known = task.spec.data.splits
    if "all" in named and "all" not in known:
        return list(known)
    for split in named:
        if split not in known:
            raise UnknownName(f"split of {task.name}", split, known)
    if named:
        return list(dict.fromkeys(named))
    pool = task.spec.demonstrations.split or task.split
    return list(dict.fromkeys([task.split, pool]))


def orders(task: Task, splits: Sequence[str], source: str | None) -> list[Order]:
    """Everything that these splits lack. Asks the hub what it holds, and nobody else. Raises UserError."""
    task, _ = choose(task, splits, source)
    hubs: list[Hub] = []

    def hub() -> Hub:
        if not hubs:
            hubs.append(Hub.of_environment())
        return hubs[0]

    found: dict[tuple[Path, tuple[RemoteFile, ...] | str], Order] = {}
    for split in splits:
        chosen = task.sources.get(split, OFFICIAL)
        for piece in pieces(task, split, chosen):
            if piece.state == "there":
                continue
            into = _below(task.root, piece.into)
            gives = tuple(_relative(task.root, into, path) for path in piece.gives)
            same = found.get((into, piece.get or piece.what))
            if same is not None:
                both = tuple(dict.fromkeys((*same.gives, *gives)))
                found[into, piece.get or piece.what] = replace(same, gives=both)
                continue
            order = Order(
                piece.what,
                piece.size,
                piece.fetch,
                into,
                gives,
                (),
                piece.note,
                known=chosen == OFFICIAL,
            )
            found[into, piece.get or piece.what] = _with_items(order, piece, hub)
    return list(found.values())


def _below(root: Path, path: Path) -> Path:
    """A place of the task's file, below its root. Raises DataError."""
    relative = path.relative_to(root).as_posix()
    return root if relative == "." else inside(root, relative, where="the task's data.downloads")


def _relative(root: Path, into: Path, path: Path) -> PurePosixPath:
    whole = inside(root, path.relative_to(root).as_posix(), where="the task's data.downloads")
    if not whole.is_relative_to(into):
        raise UserError(
            f"{whole} is given by what is put into {into}, and is not below it",
            where="the task's data.downloads",
        )
    return PurePosixPath(whole.relative_to(into).as_posix())


def _with_items(order: Order, piece: Piece, hub: Callable[[], Hub]) -> Order:
    items: list[Item] = []
    licence = ""
    for remote in piece.get:
        if remote.url is not None:
            path = order.area / _kept(remote.url, remote.called)
            parcel = Parcel(remote.url, path, remote.size, remote.digest, remote.known)
            items.append(Item(remote.called, parcel, remote))
            continue
        server = hub()
        listing = server.listing(remote)
        licence = licence or listing.licence
        for file in listing.files:
            target = order.into / file.path
            if not order.known and target.is_file() and target.stat().st_size == file.size:
                continue  # such as a shard that `hf download` brought
            path = order.area / _kept(file.url, file.path.rpartition("/")[2])
            known = f"{remote.hub} at {listing.commit[:7]}"
            parcel = Parcel(file.url, path, file.size, file.digest, known, server.bearer)
            items.append(Item(file.path, parcel, remote))
    return replace(order, items=tuple(items), licence=licence)


def _kept(url: str, name: str) -> str:
    """The name of a file on its way: two of one name do not meet."""
    return f"{short(url)}-{name}"[:200]


def short(text: str) -> str:
    """Few letters that stand for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def with_sizes(wanted: Iterable[Order]) -> list[Order]:
    """The orders with the sizes that the servers say, where the task's file does not."""
    listed = list(wanted)
    unknown = [item.parcel for order in listed for item in order.items if item.parcel.size is None]
    with ThreadPoolExecutor(8) as pool:
        sizes = dict(zip((each.url for each in unknown), pool.map(_size, unknown), strict=True))

    def sized(item: Item) -> Item:
        return replace(item, parcel=replace(item.parcel, expected=sizes.get(item.parcel.url)))

    return [replace(order, items=tuple(map(sized, order.items))) for order in listed]


def _size(parcel: Parcel) -> int | None:
    try:
        with opened(parcel.url, bearer=parcel.bearer, method="HEAD") as reply:
            text = reply.headers.get("content-length", "")
            return int(text) if reply.status == 200 and text.isdecimal() else None
    except (Unsteady, UserError):
        return None
