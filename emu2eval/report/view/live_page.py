"""What a view shows: the page of the finished runs, made anew when they change, and the others as they go."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from emu2eval.errors import StoreError, UserError
from emu2eval.report.page import html
from emu2eval.report.page.build import Told, build
from emu2eval.report.page.html import Content
from emu2eval.report.page.tables import SIDE, Thumbnails, encoded, kind
from emu2eval.report.view.under_way import UnderWay, served, splits, unfinished
from emu2eval.runs.record import versions
from emu2eval.runs.scores import REPORT, SCORES
from emu2eval.types import Image

EVERY = 1.5
"""Seconds between two looks at the folder."""
WHOLE = 2048
"""Pixels of the longer side of an image that is looked at alone."""


@dataclass
class LivePage:
    """Looks at runs, and keeps what the server gives out. find: the folders there are now.

    page, state: bytes, ready to be sent. version: of the page; state tells it, so that a browser asks for a
    newer one.
    """

    find: Callable[[], Sequence[Path]]
    samples: int | None = None
    baseline: str | None = None
    version: int = 0
    page: bytes = b""
    state: bytes = b""
    _images: dict[str, Image] = field(default_factory=dict)
    _seen: dict[Path, tuple[int, ...]] | None = None
    _under_way: dict[Path, UnderWay] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._splits = splits()
        self._stopping = threading.Event()
        self._rest = 0.0

    def look(self, told: Told = lambda what, done, total: None) -> None:
        """Once: makes the page anew where finished runs changed, and reads what is new of the others."""
        if (done := self._changed()) is not None:
            self._make(done, told)
        self._follow()

    def go_on(self) -> None:
        """Looks again and again until `stop`; what goes wrong once is tried again. Runs are followed while a
        page is made."""
        making: threading.Thread | None = None
        while not self._stopping.wait(EVERY):
            with suppress(UserError, OSError):
                self._follow()
                if making is not None and making.is_alive():
                    continue
                if time.monotonic() >= self._rest and (done := self._changed()) is not None:
                    making = threading.Thread(target=self._make_quietly, args=(done,), daemon=True)
                    making.start()

    def stop(self) -> None:
        self._stopping.set()

    def _changed(self) -> list[Path] | None:
        """The finished runs, where they are not those of the page, or not as they were then."""
        done = [folder for folder in self.find() if (folder / REPORT).is_file()]
        seen = {folder: _signature(folder) for folder in done}
        if seen == self._seen:
            return None
        self._seen = seen
        return done

    def _make_quietly(self, folders: Sequence[Path]) -> None:
        with suppress(UserError, OSError):
            self._make(folders)

    def _make(self, folders: Sequence[Path], told: Told = lambda what, done, total: None) -> None:
        began = time.monotonic()
        content = Content(
            {"version": versions().get("emu2eval"), **_EMPTY}, dict(_NOTHING), [], True
        )
        if folders:
            with suppress(StoreError):  # none can be read, such as one that is being scored
                content = build(
                    folders,
                    Thumbnails(self._keep),
                    samples=self.samples,
                    baseline=self.baseline,
                    told=told,
                    live=True,
                    splits=self._splits,
                ).content
        self.page = "".join(html.render(content)).encode()
        self.version += 1
        # A page that takes long is made less often than a short one.
        self._rest = 2 * time.monotonic() - began

    def _follow(self) -> None:
        found: dict[Path, UnderWay] = {}
        for folder in self.find():
            if not unfinished(folder):
                continue
            with suppress(UserError):  # it begins just now, or its record is damaged
                found[folder] = self._under_way.get(folder) or UnderWay(
                    folder, self._splits, self._serve
                )
                found[folder].look()
        self._under_way = found
        running = [each.state() for each in found.values()]
        self.state = msgspec.json.encode({"version": self.version, "running": running})

    def _keep(self, image: Image, digest: str) -> str:
        self._images[digest] = image
        return f"image/{digest}"

    def _serve(self, image: Image) -> str | None:
        digest = served(image)
        return None if digest is None else self._keep(image, digest)

    def image(self, digest: str, whole: bool) -> tuple[bytes, str] | None:
        """An image of these runs and its media type, by its digest; None for any other."""
        image = self._images.get(digest)
        if image is None:
            return None
        try:
            return encoded(image, WHOLE if whole else SIDE), f"image/{kind(image)}"
        except UserError:
            return None


_EMPTY: dict[str, Any] = {"runs": [], "conclusions": [], "differences": []}
_NOTHING: dict[str, Any] = {"about": [], "groups": [], "confusions": []}


def _signature(folder: Path) -> tuple[int, ...]:
    """Changes when a run is scored."""
    found: list[int] = []
    for name in (REPORT, SCORES):
        try:
            stat = (folder / name).stat()
        except OSError:
            found.append(0)
        else:
            found += [stat.st_mtime_ns, stat.st_size]
    return tuple(found)
