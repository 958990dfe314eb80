"""What was brought, by address, with its digest: where nobody publishes one, the first to come is kept to."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from threading import Lock

import msgspec

from emu2eval.data.presence import AREA
from emu2eval.doctor.get.disk import writing
from emu2eval.doctor.get.download import Delivered
from emu2eval.doctor.get.http import shown
from emu2eval.errors import DataError


class BroughtRecord:
    """The file `.emu2eval/brought.jsonl` of a data root: a line for each file that came."""

    def __init__(self, root: Path):
        self.path = root / AREA / "brought.jsonl"
        self._lock = Lock()
        self._last = {each.url: each for each in self.read()}

    def read(self) -> list[Delivered]:
        """Everything in it; a damaged line, as a kill leaves it, is passed over."""
        try:
            lines = self.path.read_bytes().splitlines()
        except OSError:
            return []
        found = []
        for line in lines:
            with suppress(msgspec.MsgspecError):
                found.append(msgspec.json.decode(line, type=Delivered))
        return found

    def add(self, came: Delivered, *, known: bool) -> None:
        """Adds what came. known: its digest was checked against a published one.

        Raises DataError where another file came from the same address before.
        """
        with self._lock:
            before = self._last.get(came.url)
            if before is not None and before.sha256 == came.sha256:
                return
            if before is not None and not known:
                raise DataError(
                    f"the file has changed at its source: on {before.date[:10]} it had the SHA-256 "
                    f"{before.sha256}, now {came.sha256}",
                    where=shown(came.url),
                    hint=f"to accept the new one, remove the line with this URL from {self.path}, and run "
                    "the same command again",
                )
            with writing(self.path):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("ab") as file:
                    file.write(b"\n" * self._torn() + msgspec.json.encode(came) + b"\n")
            self._last[came.url] = came

    def _torn(self) -> bool:
        """Whether the last line is not ended."""
        try:
            with self.path.open("rb") as file:
                file.seek(-1, 2)
                return file.read(1) != b"\n"
        except OSError:
            return False
