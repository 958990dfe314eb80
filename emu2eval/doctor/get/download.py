"""One file from its address to the disk: continued where it stopped, and checked.

While it comes it lies in NAME.part beside NAME.json, which says of what it is a part; NAME is whole and
checked.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import msgspec

from emu2eval.doctor.get.digests import Digests
from emu2eval.doctor.get.disk import GOES_ON, disk_error, linked, room, writing
from emu2eval.doctor.get.http import Arriving, Bearer, Misstated, StopSign, Unsteady, opened, shown
from emu2eval.errors import DataError

ATTEMPTS = 6
"""In a row that bring less than PROGRESS bytes; then it is given up."""
PROGRESS = 1 << 20

FIRST_WAIT = 1.0
"""Seconds before the second attempt; doubled each time, up to a minute."""
LONGEST_WAIT = 600.0
"""Seconds of rest that a server may ask for."""

_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})


class Stopped(Exception):
    """Somebody said stop."""


@dataclass(frozen=True)
class Parcel:
    """A file to bring. path: of the whole file; size, digest: where they are known, and known: who says so;
    expected: the size that its server says, to be told before and not to be held against it; beside: where
    the user may have put it.
    """

    url: str
    path: Path
    size: int | None = None
    digest: str | None = None
    known: str | None = None
    bearer: Bearer | None = None
    expected: int | None = None
    beside: tuple[Path, ...] = ()

    @property
    def likely(self) -> int | None:
        """Bytes that are to come in all, as far as anybody says."""
        return self.size if self.size is not None else self.expected

    @property
    def part(self) -> Path:
        return self.path.with_name(f"{self.path.name}.part")

    @property
    def state(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def there(self) -> int:
        """Bytes that are there already."""
        for path in (self.path, self.part):
            with suppress(OSError):
                return path.stat().st_size
        return 0


class PartState(msgspec.Struct, frozen=True):
    """What a part is a part of. etag: a strong one; modified: Last-Modified; total: bytes of the whole."""

    url: str
    etag: str | None = None
    modified: str | None = None
    total: int | None = None


class Delivered(msgspec.Struct, frozen=True):
    """What came, as the record of the data root keeps it."""

    url: str
    size: int
    sha256: str
    etag: str | None
    date: str


def download(parcel: Parcel, told: Callable[[int, int | None], None], stop: StopSign) -> Delivered:
    """Brings a file, asking again where that may help. told: (bytes so far, bytes in all).

    Raises DataError, or Stopped; what has come stays where the next call continues it.
    """
    return _Download(parcel, told, stop).run()


class _Download:
    def __init__(self, parcel: Parcel, told: Callable[[int, int | None], None], stop: StopSign):
        self.parcel = parcel
        self.told = told
        self.stop = stop
        self.state = _read_state(parcel)
        self.digests: Digests | None = None  # of the part as it is on the disk
        self.fresh = False  # all of the part came in one reply

    def run(self) -> Delivered:
        there = self.already()
        if there is not None:
            return there
        failures = 0
        while True:
            before = self.parcel.there
            try:
                self.once()
                found = self.checked()
                if found is not None:
                    return found
                self.forget()
            except Unsteady as error:
                self.stopped()
                if isinstance(error, Misstated):
                    self.forget()
                grown = self.parcel.there - before
                failures = 1 if grown >= PROGRESS else failures + 1
                if failures >= ATTEMPTS:
                    raise DataError(
                        f"download failed: {error} (attempts: {ATTEMPTS})",
                        where=shown(self.parcel.url),
                        hint=f"check the network; {GOES_ON}",
                    ) from None
                self.rest(max(error.wait, _back_off(failures)))

    def already(self) -> Delivered | None:
        """The whole file, of an earlier call, or as the user brought it where a digest vouches for it."""
        if self.parcel.path.is_file() and not self.right(self.parcel.path):
            with writing(self.parcel.path):
                self.parcel.path.unlink()
        if not self.parcel.path.is_file() and self.parcel.digest is not None:
            given = next((path for path in self.parcel.beside if self.right(path)), None)
            if given is not None:
                linked(given, self.parcel.path)
        if not self.parcel.path.is_file() or self.digests is None:
            return None
        self.told(self.digests.size, self.digests.size)
        return self.delivered()

    def right(self, path: Path) -> bool:
        """Whether a file is as it should be, as far as that is known."""
        try:
            if self.parcel.size not in (None, path.stat().st_size):
                return False
            self.digests = Digests(self.parcel.digest, self.parcel.size)
            self.digests.add_file(path, self.stopped)
        except OSError:
            return False
        return self.digests.wrong() is None

    def once(self) -> None:
        """One request: all that is missing, or as much as comes."""
        have = self.begun()
        headers = self.range(have)
        with opened(self.parcel.url, headers, self.parcel.bearer, stop=self.stop) as reply:
            if reply.status == 416 and have:
                if self.complete(reply, have):
                    return
                self.forget()
                raise Unsteady("the file is now shorter than the part already downloaded")
            if reply.status not in (200, 206):
                raise _refusal(reply)
            if reply.status == 206:
                self.continues(reply, have)
            else:
                self.starts(reply)
            self.receive(reply)

    def begun(self) -> int:
        """Bytes of the part, whose digests are known from now on."""
        have = self.parcel.there
        self.fresh = not have
        if not have:
            self.digests = Digests(self.parcel.digest, self.parcel.size)
        elif self.digests is None or self.digests.size != have:
            self.digests = Digests(self.parcel.digest, self.parcel.size)
            self.digests.add_file(self.parcel.part, self.stopped)
        self.told(have, self.total)
        return have

    @property
    def total(self) -> int | None:
        return self.state.total if self.state.total is not None else self.parcel.size

    def range(self, have: int) -> dict[str, str]:
        if not have:
            return {}
        same = self.state.etag or self.state.modified
        if same is not None:
            return {"Range": f"bytes={have}-", "If-Range": same}
        if self.parcel.digest is not None:
            return {"Range": f"bytes={have}-"}  # the digest tells in the end
        return {}

    def complete(self, reply: Arriving, have: int) -> bool:
        """Whether nothing is missing: the server has no more than what is there."""
        found = re.fullmatch(r"bytes \*/(\d+)", reply.headers.get("content-range", "").strip())
        known = self.total in (None, have)
        return found is not None and int(found[1]) == have and known

    def continues(self, reply: Arriving, have: int) -> None:
        text = reply.headers.get("content-range", "").strip()
        found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", text)
        etag = _strong(reply.headers.get("etag"))
        if self.state.etag is not None and etag not in (None, self.state.etag):
            self.forget()
            raise Unsteady("the file has changed at its source since its first part was downloaded")
        if found is None or int(found[1]) != have or not have:
            self.forget()
            raise Unsteady(f"the server sent a different part than requested ({text!r})")
        total = None if found[3] == "*" else int(found[3])
        if total is not None and self.total is not None and total != self.total:
            before = self.total
            self.forget()
            self.check_size(total)
            raise Unsteady(f"the server first reported {before:,} bytes, then {total:,}")
        self.keep(msgspec.structs.replace(self.state, total=total or self.state.total))

    def starts(self, reply: Arriving) -> None:
        """The whole file comes: what was there is of another, or the server cannot continue."""
        _no_page(reply, self.parcel)
        self.check_size(reply.length)
        self.forget()
        self.begun()
        headers = reply.headers
        etag = _strong(headers.get("etag"))
        state = PartState(self.parcel.url, etag, headers.get("last-modified"), reply.length)
        self.keep(state)

    def receive(self, reply: Arriving) -> None:
        assert self.digests is not None
        encoded = reply.headers.get("content-encoding", "identity").strip().lower()
        if encoded not in ("", "identity"):
            raise DataError(
                f"the server sent the file with an encoding ({encoded}) that was not requested",
                where=shown(self.parcel.url),
            )
        if not reply.says_its_end and self.total is None and self.parcel.digest is None:
            raise DataError(
                "the server does not report the file's size, so a complete download cannot be verified",
                where=shown(self.parcel.url),
                hint="download it by hand",
            )
        left = reply.length if reply.length is not None else 0
        room(self.parcel.part.parent, left)
        try:
            with self.parcel.part.open("ab") as file:
                while data := reply.read():
                    self.stopped()
                    if self.total is not None and self.digests.size + len(data) > self.total:
                        self.check_size(self.digests.size + len(data))
                        raise Misstated(f"more than the announced {self.total:,} bytes arrived")
                    file.write(data)
                    file.flush()  # what a kill finds on the disk is continued
                    self.digests.add(data)
                    self.told(self.digests.size, self.total)
                os.fsync(file.fileno())
        except OSError as error:
            self.digests = None  # part of the last bytes may have been written
            raise disk_error(error, self.parcel.part) from None
        if self.total is not None and self.digests.size < self.total:
            raise Unsteady(f"only {self.digests.size:,} of {self.total:,} bytes arrived")

    def checked(self) -> Delivered | None:
        """What came, if it is what it should be; None = not, but it came in parts and is worth another try.

        Raises DataError.
        """
        assert self.digests is not None
        self.check_size(self.digests.size)
        wrong = self.digests.wrong()
        if wrong is not None:
            if not self.fresh:
                return None
            self.forget()
            raise DataError(
                f"the downloaded file is not the expected one: its digest is {wrong}, not "
                f"{self.parcel.digest}{_by(self.parcel)}",
                where=shown(self.parcel.url),
                hint="it has changed at its source or in transit: try another network, or "
                "download it by hand "
                "if you trust it",
            )
        with writing(self.parcel.path):
            self.parcel.part.replace(self.parcel.path)
        return self.delivered()

    def delivered(self) -> Delivered:
        assert self.digests is not None
        return Delivered(
            self.parcel.url,
            self.digests.size,
            self.digests.sha256,
            self.state.etag,
            datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def check_size(self, size: int | None) -> None:
        known = self.parcel.size
        if size is None or known is None or size == known:
            return
        self.forget()
        raise DataError(
            f"the file has {size:,} bytes at its source, but should have {known:,}{_by(self.parcel)}",
            where=shown(self.parcel.url),
            hint="it has changed at its source, or the URL now points elsewhere",
        )

    def keep(self, state: PartState) -> None:
        self.state = state
        with writing(self.parcel.state):
            self.parcel.state.write_bytes(msgspec.json.encode(state))

    def forget(self) -> None:
        with writing(self.parcel.part):
            self.parcel.part.unlink(missing_ok=True)
            self.parcel.state.unlink(missing_ok=True)
        self.digests, self.state = None, PartState(self.parcel.url)

    def stopped(self) -> None:
        if self.stop.is_set():
            raise Stopped

    def rest(self, seconds: float) -> None:
        if seconds > LONGEST_WAIT:
            raise DataError(
                f"the server requests a pause of {seconds:,.0f} seconds",
                where=shown(self.parcel.url),
                hint=f"try again later; {GOES_ON}",
            )
        if self.stop.wait(seconds):
            raise Stopped


def _read_state(parcel: Parcel) -> PartState:
    """Of an earlier call; without one, or with another address, what is there is not continued."""
    try:
        found = msgspec.json.decode(parcel.state.read_bytes(), type=PartState)
        if found.url == parcel.url:
            return found
    except (OSError, msgspec.MsgspecError):
        pass
    with writing(parcel.part):
        parcel.part.unlink(missing_ok=True)
    return PartState(parcel.url)


def _by(parcel: Parcel) -> str:
    return f" ({parcel.known})" if parcel.known else ""


def _strong(etag: str | None) -> str | None:
    """An ETag by which parts fit together; a weak one says less."""
    return etag if etag and etag.startswith('"') else None


def _no_page(reply: Arriving, parcel: Parcel) -> None:
    kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "text/html" and not parcel.path.name.endswith((".html", ".htm")):
        raise DataError(
            "the server sent a web page instead of the file",
            where=shown(parcel.url),
            hint="open the URL in a browser: it may require a form, an account or a password",
        )


def _refusal(reply: Arriving) -> Exception:
    said = f"HTTP {reply.status} {reply.reason}".strip()
    if reply.status in _AGAIN:
        return Unsteady(said, retry_after(reply.headers))
    hints = {
        401: "it requires an account or a token",
        403: "it requires an account or acceptance of terms, or blocks this network",
        404: "the file no longer exists",
        410: "the file no longer exists",
        451: "it is not available in your country",
    }
    return DataError(
        f"the server refused the file: {said}",
        where=shown(reply.url),
        hint=hints.get(reply.status, "open the URL in a browser"),
    )


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that a server wants to be left alone; 0 = it says nothing.

    >>> retry_after({"retry-after": "2"}), retry_after({})
    (2.0, 0.0)
    """
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    try:
        until = parsedate_to_datetime(text)
    except (ValueError, IndexError):
        return 0.0
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())


def _back_off(failures: int) -> float:
    longest = min(FIRST_WAIT * 2.0 ** (failures - 1), 60.0)
    return random.uniform(longest / 2, longest)
