"""Brings what was ordered: several files at a time, each order into place once all of it is there."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from emu2eval.data.presence import AREA
from emu2eval.doctor.get import archive
from emu2eval.doctor.get.disk import SPARE, free, linked, writing
from emu2eval.doctor.get.download import Delivered, download
from emu2eval.doctor.get.http import StopSign
from emu2eval.doctor.get.orders import Item, Order, short
from emu2eval.doctor.get.place import adopt, arrange, place
from emu2eval.doctor.get.record import BroughtRecord
from emu2eval.errors import DataError, UserError, raise_together
from emu2eval.runs.lock import take

AT_ONCE = 4
"""Files that come at a time."""


class GetWatcher:
    """Told how things get on; does nothing by itself. Called on several threads."""

    def came(self, name: str, have: int, total: int | None) -> None:
        """So many bytes of a file are there."""

    def unpacking(self, name: str, size: int | None) -> None:
        """An archive is about to be unpacked to so many bytes, as far as it says."""

    def unpacked(self, count: int) -> None:
        """So many bytes more have come out of it."""

    def placed(self, order: Order) -> None:
        """Something that was ordered is where it should be."""


def bring(root: Path, orders: Sequence[Order], watcher: GetWatcher) -> list[Delivered]:
    """Brings everything that has items. root: of the data, which keeps the record of what came.

    Raises UserError with all that could not be brought, after the rest was; KeyboardInterrupt leaves parts
    that the next call continues.
    """
    orders = [order for order in orders if order.items]
    check_room(orders)
    record = BroughtRecord(root)
    with _areas(root, orders):
        return _bring(orders, record, watcher)


def check_room(orders: Sequence[Order]) -> None:
    """Raises DataError where a disk has no room for what is ordered."""
    needed: defaultdict[int, list[Order]] = defaultdict(list)
    for order in orders:
        needed[_disk(order.into)].append(order)
    for those in needed.values():
        room = sum(order.room for order in those) + SPARE
        there = free(those[0].into)
        if there < room:
            raise DataError(
                f"downloading and unpacking needs {room / 1e9:,.1f} GB, but only {there / 1e9:,.1f} GB are "
                "free",
                where=those[0].into,
                hint="free some space, store the data elsewhere (export EMU2EVAL_DATA=/path/to/data), or "
                "download one split at a time: --split NAME",
            )


def _disk(folder: Path) -> int:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.stat().st_dev


@contextmanager
def _areas(root: Path, orders: Sequence[Order]) -> Iterator[None]:
    """The folders of what is on its way, each for this process alone, and none left behind empty."""
    areas = sorted({order.area for order in orders})
    with ExitStack() as locks:
        for area in areas:
            own = root / AREA / f"lock-{short(str(area.relative_to(root)))}"
            with writing(area):
                area.mkdir(parents=True, exist_ok=True)
                own.mkdir(parents=True, exist_ok=True)
                lock = take(own)
            if lock is None:
                raise DataError(
                    "another `emu2eval data get` is downloading to this folder",
                    where=area,
                    hint="wait for it or stop it, then run the same command again",
                )
            locks.enter_context(lock)
        try:
            yield
        finally:
            for area in areas:
                with suppress(OSError):  # something is still on its way
                    area.rmdir()


def _bring(orders: Sequence[Order], record: BroughtRecord, watcher: GetWatcher) -> list[Delivered]:
    stop = StopSign()
    items = {item.parcel.path: item for order in orders for item in order.items}
    waiting = {id(order): {item.parcel.path for item in order.items} for order in orders}
    came: list[Delivered] = []
    errors: list[UserError] = []

    def fetch(item: Item) -> Delivered:
        name = item.name
        found = download(item.parcel, lambda have, total: watcher.came(name, have, total), stop)
        record.add(found, known=item.parcel.digest is not None)
        return found

    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = {pool.submit(fetch, item): path for path, item in items.items()}
        try:
            for future in as_completed(futures):
                path = futures[future]
                try:
                    came.append(future.result())
                except UserError as error:
                    errors.append(error)
                    continue
                for order in orders:
                    missing = waiting[id(order)]
                    if path not in missing:
                        continue
                    try:
                        _arrived(order, path, missing, watcher)
                    except UserError as error:
                        errors.append(error)
                    if not missing:
                        _clear(order, [each for each in orders if waiting[id(each)]])
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    raise_together(errors)
    return came


def _arrived(order: Order, path: Path, missing: set[Path], watcher: GetWatcher) -> None:
    """A file of an order is there, and with the last one the order is."""
    if missing == {path}:
        _finish(order, watcher)
        watcher.placed(order)
    missing.discard(path)


def _finish(order: Order, watcher: GetWatcher) -> None:
    """Unpacks everything beside its place, then moves it there. After a kill the next call goes on."""
    done, doing = order.area / f"{order.key}.unpacked", order.area / f"{order.key}.unpacking"
    if not done.is_dir():
        with writing(doing):
            shutil.rmtree(doing, ignore_errors=True)
            doing.mkdir()
        for item in order.items:
            folder = doing.joinpath(*item.name.split("/")[:-1])
            with writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
            name = item.name.rpartition("/")[2]
            if item.packed:
                watcher.unpacking(name, archive.becomes(item.parcel.path, name))
                one = order.area / f"{order.key}.one"
                with writing(one):
                    shutil.rmtree(one, ignore_errors=True)
                    one.mkdir()
                archive.unpack(item.parcel.path, name, item.remote, one, watcher.unpacked)
                adopt(one, folder, name, [doing / given for given in order.gives])
            else:
                linked(item.parcel.path, folder / name)
        if order.known:
            arrange(doing, order.gives)
        with writing(done):
            doing.rename(done)
    place(done, order.into)
    with writing(done):
        shutil.rmtree(done)


def _clear(order: Order, unfinished: Sequence[Order]) -> None:
    """Removes what came for an order that is in its place, but for what others still need."""
    needed = {item.parcel.path for each in unfinished for item in each.items}
    for parcel in (item.parcel for item in order.items if item.parcel.path not in needed):
        with writing(parcel.path):
            for path in (parcel.path, parcel.part, parcel.state):
                path.unlink(missing_ok=True)
