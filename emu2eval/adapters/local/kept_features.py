"""What a vision encoder made of images, on the disk: for later runs and for all replicas of a machine.

CACHE/encoded/KEY: one safetensors blob an image, see `appended`. KEY is the digest of all that decides the
bits: weights, dtype, preprocessing, the device and the releases of packages; images whose features are kept
are encoded one at a time, so that their company decides none. Tensors keep their dtype, so that what is read
is what was made.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor

from emu2eval.adapters.local.appended import AppendedRecords
from emu2eval.adapters.local.encoded import Shown

ABOUT = "about"


@dataclass(frozen=True)
class LaidFeatures:
    """Features as the disk has them. about: small JSON values."""

    tensors: Mapping[str, Tensor]
    about: Mapping[str, Any]


class KeptFeatures:
    """Features by image. Any thread may call it."""

    def __init__(self, records: AppendedRecords):
        self.records = records

    def __contains__(self, shown: Shown) -> bool:
        return _key(shown) in self.records

    def get(self, shown: Shown) -> LaidFeatures | None:
        """Tensors on the CPU; None where they were not kept, or not whole."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        found = self.records.get(_key(shown))
        if found is None:
            return None
        try:
            length = int.from_bytes(found[:8], "little")
            about = json.loads(found[8 : 8 + length])["__metadata__"][ABOUT]
            return LaidFeatures(load(found), json.loads(about))
        except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError):
            return None  # of another release

    def put(self, shown: Shown, laid: LaidFeatures) -> None:
        """Appends them, unless they are there, are no numbers, or there is no room."""
        from safetensors.torch import save

        if self.records.full or shown in self:
            return
        tensors = {name: value.detach().cpu().contiguous() for name, value in laid.tensors.items()}
        floats = (value for value in tensors.values() if value.is_floating_point())
        # A sum is as good as a look at each number, and takes a fortieth of the time.
        if all(math.isfinite(value.sum(dtype=torch.float32)) for value in floats):
            self.records.put(_key(shown), save(tensors, {ABOUT: json.dumps(dict(laid.about))}))

    def look(self) -> None:
        """Learns what other processes made."""
        self.records.look()


def _key(shown: Shown) -> bytes:
    return sha256(shown.key.encode()).digest()
