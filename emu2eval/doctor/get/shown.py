"""What `emu2eval data get` prints: what it would bring, and how it gets on."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from rich.console import Console, Group, RenderableType
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from emu2eval.doctor.get.bring import GetWatcher
from emu2eval.doctor.get.disk import free
from emu2eval.doctor.get.orders import Order
from emu2eval.errors import printable
from emu2eval.spec.task import Task

_DETAIL = 20
"""More files at a time have one bar together."""


def in_bytes(size: int) -> str:
    """
    >>> in_bytes(6_645_013_297), in_bytes(36_745_453), in_bytes(999)
    ('6.6 GB', '36.7 MB', '999 bytes')
    """
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:,.1f} {unit}"
    return f"{size} bytes"


def size_of(order: Order) -> str:
    """As exact as it is known, with what is there already."""
    if not order.items:
        return order.size
    if order.unknown == len(order.items):
        known = order.size or "unknown"
    elif order.unknown:
        known = f"{in_bytes(order.bytes)} and more"
    else:
        known = in_bytes(order.bytes)
    return f"{known}, {in_bytes(order.there)} already downloaded" if order.there else known


def asked(
    task: Task, splits: Sequence[str], listed: Sequence[Order], *, addresses: bool = False
) -> RenderableType:
    """What would be brought, how large it is, from where and under what terms; and what would not.

    addresses: each in full, up to a number.
    """
    able = [order for order in listed if order.items]
    later = [order for order in listed if order.awaits is not None]
    lines: list[Text] = []
    if able or later:
        lines.append(Text(f"{task.name}, {' and '.join(splits)}: to download", style="bold"))
        for order in able:
            lines += [Text(f"  {order.what}: {size_of(order)}"), Text(f"    {_way(order)}", "dim")]
            if addresses:
                lines += [Text(f"    {each.parcel.url}") for each in order.items[:_DETAIL]]
                more = len(order.items) - _DETAIL
                lines += [Text(f"    and {more:,} more", "dim")] if more > 0 else []
        for order in later:
            way = f"from the URLs in {order.awaits}, once that is downloaded, into {order.into}"
            lines += [
                Text(f"  {order.what}: {order.size or 'size unknown'}"),
                Text(f"    {way}", "dim"),
            ]
        lines += [Text(_sum(able), style="bold")] if able else []
    lines += [Text(each) for each in _terms(task, able)]
    lines += [Text(each) for each in by_hand(listed)]
    return Group(*lines)


def _way(order: Order) -> str:
    """From where, how it is checked, and to where."""
    hosts = dict.fromkeys(urlsplit(item.parcel.url).netloc for item in order.items)
    return f"from {', '.join(hosts)}, into {order.into}; {_checked(order)}"


def _checked(order: Order) -> str:
    """By what it will be known that the right thing came."""
    digests = [item.parcel.digest for item in order.items if item.parcel.digest]
    kinds = " and ".join(dict.fromkeys(each.partition(":")[0].upper() for each in digests))
    if len(digests) == len(order.items):
        return f"{kinds} checked"
    if digests:
        return f"{kinds} of {len(digests):,} of {len(order.items):,} files checked"
    size = "size checked, " if all(item.parcel.size for item in order.items) else ""
    return f"{size}no digest is published"


def _sum(able: Sequence[Order]) -> str:
    left = sum(max(0, order.bytes - order.there) for order in able)
    known = sum(len(order.items) - order.unknown for order in able)
    unknown = sum(order.unknown for order in able)
    parts = [f"{in_bytes(left)} in {counted(known)}"] if known else []
    parts += [f"{counted(unknown)} of unknown size"] if unknown else []
    room = sum(order.room for order in able)
    disk = f"needs up to {in_bytes(room)} of disk space, " if room else ""
    return f"{' and '.join(parts)} to download; {disk}{in_bytes(free(able[0].into))} free."


def counted(files: int) -> str:
    return f"{files:,} {'file' if files == 1 else 'files'}"


def _terms(task: Task, able: Sequence[Order]) -> Iterator[str]:
    spec = task.spec
    if spec.licence or spec.source:
        yield f"Licence: {spec.licence or 'not stated'}. Terms: {spec.source or 'see the source'}"
    for licence, what in {(o.licence, o.source) for o in able if o.licence and not o.known}:
        yield (
            f"The dataset card on the hub says {licence!r} "
            f"({what.partition(' --')[0].rpartition('download ')[2]})."
        )


def by_hand(listed: Sequence[Order]) -> list[str]:
    """What has to be fetched by hand: the link, and what to put where."""
    lines = []
    for order in listed:
        if not order.by_hand:
            continue
        gives = " and ".join(str(order.into / path) for path in order.gives)
        size = f", {order.size}" if order.size else ""
        lines.append(
            f"By hand: {order.what}{size}\n  from {order.source}\n  unpack in {order.into}/ to give {gives}"
            + (f"\n  {order.note}" if order.note else "")
        )
    return lines


def remaining(task: Task, root: Path, listed: Sequence[Order]) -> list[str]:
    """What is still missing after all that could be brought was."""
    lost = by_hand(listed)
    lost += [f"Still incomplete: {order.what}" for order in listed if not order.by_hand]
    return [f"{task.name} is not complete yet, in {root}:", *lost] if lost else []


class GetBars(GetWatcher):
    """A bar a file on a terminal; elsewhere one line for each thing that is in its place."""

    def __init__(self, console: Console, orders: Sequence[Order]):
        files = sum(len(order.items) for order in orders)
        total = sum(order.bytes for order in orders)
        self.console = console
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._together: TaskID | None = None
        if files > _DETAIL:
            self._together = self.progress.add_task(f"{files:,} files", total=total or None)
        self._bars: dict[str, TaskID] = {}
        self._have: dict[str, int] = {}
        self._unpacking: TaskID | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> GetBars:
        self.progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.progress.stop()

    def came(self, name: str, have: int, total: int | None) -> None:
        with self._lock:
            if self._together is not None:
                self.progress.advance(self._together, have - self._have.get(name, 0))
                self._have[name] = have
                return
            if name not in self._bars:
                self._bars[name] = self.progress.add_task(printable(name), total=total)
            self.progress.update(self._bars[name], completed=have, total=total)

    def unpacking(self, name: str, size: int | None) -> None:
        with self._lock:
            if name in self._bars:
                self.progress.remove_task(self._bars.pop(name))
            if self._unpacking is not None:
                self.progress.remove_task(self._unpacking)
            self._unpacking = self.progress.add_task(printable(f"unpacking {name}"), total=size)

    def unpacked(self, count: int) -> None:
        if self._unpacking is not None:
            self.progress.advance(self._unpacking, count)

    def placed(self, order: Order) -> None:
        with self._lock:
            if self._unpacking is not None:
                self.progress.remove_task(self._unpacking)
                self._unpacking = None
        self.console.print(
            Text(printable(f"{order.what}: in {order.into}"), style="dim"), soft_wrap=True
        )
