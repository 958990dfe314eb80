"""What the engine asks of whoever runs a model: to take batches, and to tell what came of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from emu2eval.engine.asked import Answered, Asked
from emu2eval.runs.record import RanOn
from emu2eval.types import Image
from emu2eval.watch import AskedAgain

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

GRACE = 10.0
"""Seconds for which what is under way is waited for when a run is stopped."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests that are asked together. number: unique within a run, in the order of the plan."""

    number: int
    asked: tuple[Asked, ...]


@dataclass(frozen=True, slots=True)
class Answers:
    """Some of what a batch was asked for; the engine stores it at once."""

    batch: int
    answered: Sequence[Answered]


@dataclass(frozen=True, slots=True)
class Ended:
    """All of a batch has come. largest: requests that were answered together at most; fits: as many as fit
    into memory, None = that was never too many. again: batches that were asked again."""

    batch: int
    largest: int
    fits: int | None = None
    again: tuple[AskedAgain, ...] = ()


@dataclass(frozen=True, slots=True)
class HasRoom:
    """More can be submitted than a moment ago."""


Event = Answers | Ended | HasRoom


class Backend(Protocol):
    """Runs one model. All is called on one thread, that of the run."""

    def settle(self) -> None:
        """Decides on what the model will run, as its adapter's workload needs it, and tells the adapter,
        which plans its batches for that. Raises UserError."""

    def load(self) -> None:
        """Reads the weights; called before the first `submit`, and does nothing where that is done. Raises
        UserError."""

    @property
    def loaded(self) -> bool: ...

    def begin(self) -> None:
        """Batches of another run come next; none is under way."""

    def room(self, size: int) -> bool:
        """Whether another batch of so many requests would keep a device from waiting."""

    def submit(self, batch: Batch) -> None:
        """Takes a batch; never waits."""

    def end(self) -> None:
        """No batch follows of this run."""

    def wait(self) -> Event:
        """The next that happens to what is under way. Raises UserError where the model cannot go on."""

    def stop(self, within: float) -> Iterator[Answers]:
        """Begins nothing more; what is under way is waited for, for so many seconds, and given."""

    @property
    def at_once(self) -> int:
        """Images that `encode` should be given in a call, so that no device waits."""

    def encode(self, images: Sequence[Image] | Sequence[str]) -> npt.NDArray[np.float32]:
        """(n, width): the model's own features of images, and an encoder's of texts; loads, and is called
        with nothing under way."""

    def ran_on(self, now: RanOn) -> RanOn:
        """The setting, with the hosts and devices that are at work; called after `load`."""

    def close(self) -> None:
        """Frees what `load` took."""
