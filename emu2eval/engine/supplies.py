"""What models, scorers and choosers lack: fetched where that can be, told all together where it cannot."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from emu2eval.errors import ConfigError, MissingExtra, UserError, of_part, raise_together
from emu2eval.watch import Watcher


class Supplied(Protocol):
    """An adapter, a scorer, a chooser or an encoder."""

    def lacks(self) -> list[UserError]: ...
    def fetch(self) -> None: ...


@dataclass(frozen=True)
class NamedPart:
    """A part, with its kind and name for messages."""

    kind: str
    name: str
    part: Supplied

    def lacking(self, watcher: Watcher, *, fetch: bool) -> list[UserError]:
        """What the part lacks; fetch: after everything that can be downloaded was."""
        with of_part(self.kind, self.name):
            lacks = self.part.lacks()
            # Neither packages nor what is set wrong, such as a device, is mended by a download.
            stays = (MissingExtra, ConfigError)
            wrong = any(isinstance(e, stays) for lack in lacks for e in lack.parts)
            if lacks and fetch and not wrong:
                watcher.note(f"downloading missing files of the {self.kind} {self.name}")
                try:
                    self.part.fetch()
                except UserError as error:
                    # With the reason; `lacks` names the same things with the same hints, and the rest.
                    failed = list(error.parts)
                    known = {each.hint for each in failed}
                    return failed + [each for each in self.part.lacks() if each.hint not in known]
                lacks = self.part.lacks()
            return lacks


def bring(parts: Iterable[NamedPart], watcher: Watcher, *, fetch: bool = True) -> None:
    """Raises UserError with all that the parts lack; fetch: downloads first what can be."""
    raise_together([lack for part in parts for lack in part.lacking(watcher, fetch=fetch)])
