"""What files of weights hold, by their headers alone: no tensor is read."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from emu2eval.adapters.local.shards import weight_files
from emu2eval.adapters.local.tensorfile import is_safetensors, read_header, read_tensor_list

_BLOCK = re.compile(r"(.+?)\.(\d+)\.")
"""A numbered module: what stays whole on a device."""
_FLOATING = ("F", "BF")
_QUANTIZED = ("F8", "F6", "F4")
"""A quantization of the checkpoint's own, which stays as it is."""


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor of a checkpoint. nbytes: as it is stored; floating: it is read in another precision."""

    name: str
    shape: tuple[int, ...]
    nbytes: int
    floating: bool

    @property
    def block(self) -> tuple[str, int] | None:
        """The numbered module that it is in: what is numbered, and its number."""
        match = _BLOCK.match(self.name)
        return None if match is None else (match[1], int(match[2]))

    def bytes_in(self, dtype: torch.dtype) -> int:
        return math.prod(self.shape) * dtype.itemsize if self.floating else self.nbytes


def weights_in(folder: Path) -> list[Weight]:
    """All of a folder; none where it has no files of weights. Raises ModelError for damaged ones."""
    return [weight for file in weight_files(folder) for weight in _of_file(file)]


def _of_file(path: Path) -> Iterator[Weight]:
    if not is_safetensors(path):
        for stored in read_tensor_list(path):
            yield Weight(stored.key, stored.shape, stored.nbytes, stored.dtype.is_floating_point)
        return
    for name, entry in read_header(path)[0].items():
        start, end = entry["data_offsets"]
        kind = str(entry.get("dtype"))
        floating = kind.startswith(_FLOATING) and not kind.startswith(_QUANTIZED)
        yield Weight(name, tuple(entry["shape"]), end - start, floating)
