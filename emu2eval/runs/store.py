"""The run store: one folder a run, append-only, that any kill leaves usable.

run.json         what was asked of whom: identity, extent, versions (`runs.record`)
responses.jsonl  one line an answer, in the order of arrival (`runs.answers`)
damaged.jsonl    lines of it that were not as they had been written, set aside
scores.jsonl     one line an answer, in the order of trials, takes and ids (`runs.scores`)
report.json      the rows of the table (`runs.scores`)
images/          generated images, named by digest
judge/           what judges replied (`engine.judging`)
parts/           answers of several processes, until they are put together (`runs.parts`)
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from emu2eval.errors import ImageError, StoreError
from emu2eval.media import images
from emu2eval.runs.answers import (
    Answer,
    from_line,
    of_response,
    place_of,
    to_line,
    to_response,
)
from emu2eval.runs.files import explained, replaced, sweep
from emu2eval.runs.journal import Journal, sync_folder
from emu2eval.runs.lock import Lock, take
from emu2eval.runs.sealed import Damaged
from emu2eval.types import Image, Response

ANSWERS = "responses.jsonl"
ASIDE = "damaged.jsonl"
IMAGES = "images"


class RunStore:
    """A run's folder, opened for reading, or for writing by one process at a time."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.damaged = 0
        self.without_image = 0
        self.mixed = False
        """Whether `index` found answers to unequal requests in one slot that seem to hold alike."""
        self.heard: Callable[[int, Answer], None] = lambda slot, answer: None
        """Told of every answer once it is stored."""
        self._lock: Lock | None = None
        self._writer: Journal | None = None
        self._reader: BinaryIO | None = None
        self._offsets = array("q")
        self._keys = array("Q")
        self._by_key: dict[int, int] = {}
        self._holding = bytearray()

    # -- opening ----------------------------------------------------------------------------------

    def open_for_writing(self) -> Self:
        """Makes the folder and takes its lock. Raises StoreError where either cannot be done."""
        with explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = take(self.folder)
        if self._lock is None:
            raise StoreError(
                "another process is already working on this run",
                where=self.folder,
                hint="wait for it to finish, or use a different --out folder",
            )
        with explained(self.folder):
            for folder in (self.folder, self.folder / IMAGES):
                sweep(folder)
            self._writer = Journal(self.folder / ANSWERS)
        sync_folder(self.folder)
        sync_folder(self.folder.parent)
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Syncs what was written and gives the lock back."""
        with ExitStack() as closing:
            for part in (self._lock, self._reader, self._writer):
                if part is not None:
                    closing.callback(part.close)
            self._lock = self._reader = self._writer = None

    # -- what is there ----------------------------------------------------------------------------

    def index(
        self,
        slot_of: Callable[[Answer], int | None],
        slots: int,
        *,
        whole: bool = False,
        holds: Callable[[Answer], bool] | None = None,
    ) -> None:
        """Reads where every usable answer stands. slot_of: the slot that an answer fills, or None.

        whole: an answer counts only while each of its images is there as it was made. holds: whether one is
        known to answer what would be asked now, for `holding`. Opened for writing, damaged lines are set
        aside, so that they are told once.
        """
        self._offsets = array("q", [-1]) * slots
        self._keys = array("Q", [0]) * slots
        self._by_key = {}
        self._holding = bytearray(slots)
        self.mixed = False
        held = array("Q", [0]) * (slots if holds is not None else 0)
        without: set[int] = set()
        for offset, answer in self._walk():
            slot = slot_of(answer)
            if slot is None:
                continue
            if whole and not all(self._holds(digest) for digest in answer.images):
                without.add(slot)
                continue
            self._note(slot, answer, offset)
            if holds is None:
                continue
            # An error says nothing of what was shown; one to another request takes the answer's place.
            hold = holds(answer) if answer.error is None else self._offsets[slot] >= 0
            self._holding[slot] = hold
            short = _short(answer.key)
            self.mixed |= held[slot] not in (0, short) and (hold or answer.error is not None)
            if answer.error is None:
                held[slot] = short if hold else 0
        self.without_image = sum(self._offsets[slot] < 0 for slot in without)
        if self.damaged and self._writer is not None:
            damaged = self.damaged
            self._set_aside()
            self.index(slot_of, slots, whole=whole, holds=holds)
            self.damaged = damaged

    @property
    def empty(self) -> bool:
        """`index` found no usable answer."""
        return not self._by_key

    def lost(self) -> Iterator[str]:
        """What `index` found that cannot be used, in words."""
        if self.damaged:
            lines = "line is" if self.damaged == 1 else "lines are"
            yield f"{self.damaged:,} {lines} damaged in {self.folder / ANSWERS}"
        if self.without_image:
            lacking = "answer lacks its image" if self.without_image == 1 else "answers lack images"
            yield f"{self.without_image:,} {lacking} in {self.folder / IMAGES}"

    def has(self, slot: int, key: str) -> bool:
        """An answer without an error to this very request is stored."""
        return self._offsets[slot] >= 0 and self._keys[slot] == _short(key)

    @property
    def holding(self) -> bytearray:
        """A slot each: 1 where `index` found an answer that is known to hold, whatever the request's key."""
        return self._holding

    def owns(self, slot: int) -> bool:
        """The slot's answer was asked for, not copied from an equal request's."""
        return self._by_key.get(self._keys[slot]) == self._offsets[slot]

    def failed(self, slot: int) -> bool:
        """All that is stored for a slot is an error."""
        return self._offsets[slot] < -1

    def known(self, slot: int) -> bool:
        """Something is stored for a slot, be it an error."""
        return self._offsets[slot] != -1

    def twin(self, key: str) -> Answer | None:
        """A stored answer to an equal request of another sample, trial or take."""
        offset = self._by_key.get(_short(key))
        answer = self._read(offset) if offset is not None else None
        return answer if answer is not None and answer.key == key and not answer.error else None

    def stored(self, slot: int) -> Answer | None:
        """The last answer stored for a slot, one with an error included; None = none."""
        offset = self._offsets[slot]
        if offset == -1:
            return None
        return self._read(offset if offset >= 0 else -offset - 2)

    def answers(self) -> Iterator[Answer]:
        """Every undamaged answer in the order of arrival, those with an error included."""
        return (answer for _, answer in self._walk())

    def answers_to(self, wanted: Container[tuple[str, int, int]]) -> Iterator[Answer]:
        """The undamaged answers to these samples, trials and takes; of the others nothing else is read."""
        path = self.folder / ANSWERS
        if not path.exists():
            return
        with path.open("rb") as lines:
            for line in lines:
                with suppress(Damaged):
                    if place_of(line) in wanted:
                        yield from_line(line)

    def ids(self) -> frozenset[str]:
        """Of every sample with an answer, one with an error included."""
        return frozenset(answer.id for answer in self.answers())

    # -- writing ----------------------------------------------------------------------------------

    def append(self, answers: Iterable[tuple[int, Answer]]) -> None:
        """Stores (slot, answer) pairs in one write; on the disk within half a second.

        Raises StoreError where the disk is full, or the folder is gone; what stood there before is intact.
        """
        if self._writer is None:
            raise StoreError("the run is not open for writing", where=self.folder)
        lines = [(slot, answer, to_line(answer)) for slot, answer in answers]
        offset = self._writer.end
        self._writer.append(b"".join(line for _, _, line in lines))
        for slot, answer, line in lines:
            self._note(slot, answer, offset)
            offset += len(line)
        for slot, answer, _ in lines:
            self.heard(slot, answer)

    def save_image(self, image: Image) -> str:
        """Keeps a generated image under its digest, which is returned."""
        digest = images.digest(image)
        path = self.folder / IMAGES / f"{digest}.png"
        if not self._holds(digest):
            with explained(self.folder):
                path.parent.mkdir(exist_ok=True)
            with replaced(path) as file:
                file.write(images.read(image))
        return digest

    def image(self, digest: str) -> Image:
        """A generated image by its digest."""
        return Image.known(str(self.folder / IMAGES / f"{digest}.png"), digest)

    def keep(self, response: Response, **about: Any) -> Answer:
        """The answer that keeps a response, its images saved. about: the fields that are no response's."""
        digests = tuple(self.save_image(image) for image in response.images)
        return of_response(response, digests, **about)

    def response(self, answer: Answer, clean: Callable[[str], str] | None = None) -> Response:
        """The response that an answer keeps. clean: applied to its text."""
        return to_response(answer, tuple(map(self.image, answer.images)), clean)

    # -- inside -----------------------------------------------------------------------------------

    def _walk(self) -> Iterator[tuple[int, Answer]]:
        """(offset, answer) of every undamaged line; counts the damaged ones."""
        path = self.folder / ANSWERS
        if not path.exists():
            return
        offset = 0
        self.damaged = 0
        with path.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break  # torn by a kill, or being written right now
                try:
                    answer = from_line(line)
                except Damaged:
                    # A disk fault or an editor. What the line held is simply asked again.
                    self.damaged += 1
                else:
                    yield offset, answer
                offset += len(line)

    def _holds(self, digest: str) -> bool:
        """The image is there, as it was made."""
        try:
            return bool(images.read(self.image(digest)))
        except ImageError:
            return False

    def _set_aside(self) -> None:
        """Moves damaged lines to a file of their own."""
        assert self._writer is not None
        path = self.folder / ANSWERS
        self._writer.close()
        with (
            explained(path),
            replaced(path) as kept,
            path.open("rb") as lines,
            (self.folder / ASIDE).open("ab") as aside,
        ):
            for line in lines:
                try:
                    from_line(line)
                except Damaged:
                    aside.write(line)
                else:
                    kept.write(line)
            aside.flush()
            os.fsync(aside.fileno())
        with explained(path):
            self._writer = Journal(path)
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _note(self, slot: int, answer: Answer, offset: int) -> None:
        short = _short(answer.key)
        if answer.error is None:
            self._offsets[slot] = offset
            self._keys[slot] = short
            # The first is the one that was asked; what it was copied to follows.
            self._by_key.setdefault(short, offset)
        elif not self.has(slot, answer.key):
            # Errors keep their place as -offset - 2: shown and counted, but asked again.
            self._offsets[slot] = -offset - 2
            self._keys[slot] = 0

    def _read(self, offset: int) -> Answer | None:
        if self._reader is None:
            self._reader = (self.folder / ANSWERS).open("rb")
        self._reader.seek(offset)
        try:
            return from_line(self._reader.readline())
        except Damaged:  # since it was indexed
            return None


def _short(key: str) -> int:
    """64 bits of a key: enough to tell a run's requests apart; `twin` compares the whole key."""
    return int(key[:16], 16)
