"""An encoder whose work is done elsewhere: by replicas, on other machines, by whatever a callable reaches.

What travels are images by path and digest, and vectors; whoever reads an image there compares its bytes with
the digest. What decides a vector stays with the encoder, so that features made elsewhere are the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from emu2eval.encoders.base import Encoder, Vectors
from emu2eval.errors import UserError
from emu2eval.media.cores import cores
from emu2eval.types import Image

Run = Callable[[Encoder, Sequence[Image] | Sequence[str]], Vectors]
"""Gives (n, width), in the order of the images or texts: `encoded`, called where there is room for it."""

Route = Callable[[Encoder], Encoder]
"""What an encoder becomes before it is put to work; its identity stays."""


class Elsewhere(Encoder):
    """encoder: is asked only what it is, and loads nothing here. batch: images that `run` is given at a time;
    several times as many as one place takes keep all places busy.
    """

    def __init__(self, encoder: Encoder, run: Run, batch: int):
        self.name = encoder.name
        self.batch = batch
        self._encoder = encoder
        self._run = run

    def lacks(self) -> list[UserError]:
        return self._encoder.lacks()

    def fetch(self) -> None:
        self._encoder.fetch()

    def identity(self) -> Mapping[str, Any]:
        return self._encoder.identity()

    def encode(self, prepared: Sequence[Image]) -> Vectors:
        return np.asarray(self._run(self._encoder, prepared), dtype=np.float32)

    def texts(self, given: Sequence[str]) -> Vectors:
        return np.asarray(self._run(self._encoder, given), dtype=np.float32)


def encoded(encoder: Encoder, given: Sequence[Image] | Sequence[str]) -> Vectors:
    """(n, width): what a place does with what it was given: as many at a time as its encoder takes, images
    decoded one batch ahead on other threads. Raises ImageError."""
    batches = [given[at : at + encoder.batch] for at in range(0, len(given), encoder.batch)]
    if isinstance(given[0], str):
        return np.concatenate([encoder.texts(batch) for batch in batches])  # type: ignore[arg-type]
    with ThreadPoolExecutor(cores()) as threads:
        try:
            return np.concatenate([*map(encoder.encode, _prepared(encoder, batches, threads))])
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


def _prepared(
    encoder: Encoder, batches: Sequence[Sequence[Any]], threads: ThreadPoolExecutor
) -> Iterator[list[Any]]:
    ahead = [threads.submit(encoder.prepare, image) for image in batches[0]]
    for batch in [*batches[1:], []]:
        ready, ahead = ahead, [threads.submit(encoder.prepare, image) for image in batch]
        yield [future.result() for future in ready]
