"""What a model's vision encoder makes of an image, computed once per digest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from emu2eval.adapters.local.bounded import Bounded
from emu2eval.adapters.local.devices import exact_convolutions
from emu2eval.adapters.local.encoded import Encoded, Shown
from emu2eval.adapters.local.kept_features import KeptFeatures, LaidFeatures
from emu2eval.adapters.local.kept_images import KeptImages
from emu2eval.adapters.local.prepared import Arrays, Prepared

CACHE_BYTES = 1 << 30
"""1 GiB holds about 3,000 images of 64 tokens for a model 2,560 wide in bf16."""


class Features(Protocol):
    """What stands for an image. pooled: (tokens, width), what fills the slots."""

    @property
    def pooled(self) -> Tensor: ...

    @property
    def nbytes(self) -> int: ...


F = TypeVar("F", bound=Features)


class ImageEncoder(ABC, Generic[F]):
    """Features by image; the least recently used go first. reuse: False computes each anew and alone.

    disk, store: what is kept beyond this process of images that were decoded, and of their features.
    exact: features of images that wait together are those of each alone, bit by bit.
    """

    exact: ClassVar[bool] = False

    def __init__(self, reuse: bool = True):
        self.reuse = reuse
        self.kept: Bounded[F] = Bounded(CACHE_BYTES if reuse else 0)
        self.ahead = Prepared(self._arrays)
        self.disk: KeptImages | None = None
        self.store: KeptFeatures | None = None
        self._held: dict[str, F] = {}

    @abstractmethod
    def decode(self, shown: Shown) -> Arrays:
        """Opens an image and makes what the encoder takes."""

    @abstractmethod
    def encode(self, arrays: Arrays, shown: Shown) -> F:
        """Features of one image."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where it works."""

    @abstractmethod
    def laid(self, features: F) -> LaidFeatures:
        """Features for the disk."""

    @abstractmethod
    def taken_up(self, laid: LaidFeatures) -> F | None:
        """Features from the disk, as `encode` gave them; None where they cannot be used."""

    def joins(self, waiting: Sequence[tuple[Shown, Arrays]], one: tuple[Shown, Arrays]) -> bool:
        """Whether one more image can be encoded together with those that wait."""
        return False

    def together(self, waiting: Sequence[tuple[Shown, Arrays]]) -> dict[str, F]:
        """Features of images that `joins` let wait together; those of each alone, up to rounding."""
        return {shown.key: self.encode(arrays, shown) for shown, arrays in waiting}

    def _arrays(self, shown: Shown) -> Arrays:
        return self.decode(shown) if self.disk is None else self.disk.get(shown, self.decode)

    def prepare(self, shown: Shown) -> None:
        """Decodes, resizes and normalises an image that is not known yet. Any thread may call it."""
        if shown.key not in self.kept and self._stored(shown) is None:
            self.ahead.begin(shown)

    def hold(self, prompts: Iterable[Encoded]) -> None:
        """Computes the images of a batch, and keeps them until the next one: a small cache loses none."""
        wanted = {shown.key: shown for prompt in prompts for shown in prompt.shown}
        self._held = self.several(wanted.values())

    def held(self, shown: Shown) -> F:
        """Features of an image of the batch."""
        return self._held[shown.key]

    @exact_convolutions()
    def several(self, wanted: Iterable[Shown]) -> dict[str, F]:
        """Features by key; images that are not known yet may go through the encoder together.

        Raises ImageError.
        """
        found: dict[str, F] = {}
        waiting: list[tuple[Shown, Arrays]] = []
        self.ahead.next_batch()
        if self.store is not None:
            self.store.look()
        for shown in wanted:
            kept = self.kept.get(shown.key) or self._stored(shown)
            if kept is not None:
                self.ahead.forget(shown)
                found[shown.key] = kept
                continue
            one = (shown, self.ahead.take(shown))
            may = self.reuse and (self.exact or self.store is None)
            if waiting and not (may and self.joins(waiting, one)):
                found |= self._encoded_now(waiting)
                waiting = []
            waiting.append(one)
        found |= self._encoded_now(waiting)
        for key, features in found.items():
            self.kept.put(key, features)
        return found

    def _encoded_now(self, waiting: Sequence[tuple[Shown, Arrays]]) -> dict[str, F]:
        made = self.together(waiting)
        if self.store is not None:
            for shown, _ in waiting:
                self.store.put(shown, self.laid(made[shown.key]))
        return made

    def _stored(self, shown: Shown) -> F | None:
        """Features that are on the disk, which are then in memory, too."""
        if self.store is None or shown not in self.store:
            return None
        laid = self.store.get(shown)
        found = self.taken_up(laid) if laid is not None else None
        if found is not None:
            self.kept.put(shown.key, found)
        return found
