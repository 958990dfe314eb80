"""What is to be brought for a task: from its file and from what is missing on the disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from emu2eval.data.paths import inside
from emu2eval.data.presence import AREA, OFFICIAL, Piece, pieces
from emu2eval.data.sources import choose
from emu2eval.doctor.get.archive import is_archive
from emu2eval.doctor.get.download import Parcel
from emu2eval.doctor.get.http import Bearer, Unsteady, opened
from emu2eval.doctor.get.hub import Hub
from emu2eval.doctor.get.lists import read_list
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
    known: gives are those names, and not patterns of the hub's. licence: as the hub states it. awaits: the
    list of its files, which has to come first. key: of all its files, those that are there included.
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
    awaits: Path | None = None
    key: str = ""

    @property
    def by_hand(self) -> bool:
        return not self.items and self.awaits is None

    @property
    def area(self) -> Path:
        """Where things are on their way."""
        return self.into / AREA

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
            raise UnknownName("split", split, known, of=task.name)
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
            found[into, piece.get or piece.what] = _with_items(task.root, order, piece, hub)
    return list(found.values())


def _below(root: Path, path: Path) -> Path:
    """A place of the task's file, below its root. Raises DataError."""
    relative = path.relative_to(root).as_posix()
    return root if relative == "." else inside(root, relative, where=_WHERE)


def _relative(root: Path, into: Path, path: Path) -> PurePosixPath:
    whole = inside(root, path.relative_to(root).as_posix(), where=_WHERE)
    if not whole.is_relative_to(into):
        raise UserError(
            f"{whole} comes from files unpacked in {into}, but is not inside it",
            where=_WHERE,
        )
    return PurePosixPath(whole.relative_to(into).as_posix())


def _with_items(root: Path, order: Order, piece: Piece, hub: Callable[[], Hub]) -> Order:
    items: list[Item] = []
    licence = ""
    for remote in piece.get:
        if remote.url is not None:
            items.append(_item(order, remote.called, remote.url, remote))
        elif remote.listed is not None:
            path = inside(root, remote.listed.file, where=_WHERE)
            if not path.is_file():
                return replace(order, awaits=path)
            items += [_item(order, *each, remote) for each in read_list(path, remote.listed)]
        else:
            server = hub()
            listing = server.listing(remote)
            licence = licence or listing.licence
            known = f"{remote.hub} at {listing.commit[:7]}"
            for file in listing.files:
                held = RemoteFile(url=file.url, size=file.size or None, known=known)
                item = _item(order, file.path, file.url, held, file.digest, server.bearer)
                items.append(replace(item, remote=remote))
    key = hashlib.sha256("\n".join(sorted(i.parcel.url for i in items)).encode()).hexdigest()[:16]
    begun = (order.area / f"{key}.unpacked").is_dir()
    left = [item for item in items if begun or not _in_place(order, item)]
    return replace(order, items=tuple(left), licence=licence, key=key)


_WHERE = "the task's data.downloads"


def _item(
    order: Order,
    name: str,
    url: str,
    remote: RemoteFile,
    digest: str | None = None,
    bearer: Bearer | None = None,
) -> Item:
    own = name.rpartition("/")[2]
    path = order.area / _kept(url, own)
    known = digest or remote.digest
    beside = tuple(folder / own for folder in (order.into, order.into.parent))
    parcel = Parcel(url, path, remote.size, known, remote.known, bearer, beside=beside)
    return Item(name, parcel, remote)


def _in_place(order: Order, item: Item) -> bool:
    """Whether one of many files is there, as `hf download` or an earlier list may have left it."""
    if order.known and item.remote.listed is None:
        return False
    with suppress(OSError):
        held = (order.into / item.name).stat().st_size
        return held == item.parcel.size if item.parcel.size is not None else held > 0
    return False


def _kept(url: str, name: str) -> str:
    """The name of a file on its way: two of one name do not meet."""
    return f"{short(url)}-{name}"[:200]


def short(text: str) -> str:
    """Few letters that stand for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def came(piece: Piece) -> int:
    """Bytes of its files that are on their way already; of those of the hub nothing is known here."""
    addresses = [remote for remote in piece.get if remote.url is not None]
    paths = (piece.into / AREA / _kept(each.url or "", each.called) for each in addresses)
    return sum(Parcel("", path).there for path in paths)


def with_sizes(wanted: Iterable[Order]) -> list[Order]:
    """The orders with the sizes that the servers say, where the task's file does not."""
    listed = list(wanted)
    unknown = [
        item.parcel
        for order in listed
        for item in order.items
        if item.parcel.size is None and item.remote.listed is None
    ]
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
