"""How many bytes of tensors are alive at once, counted while a model runs on fake tensors."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Peak(TorchDispatchMode):
    """Bytes alive at once, by device, in storage that is made while it is on."""

    def __init__(self, known: Iterable[torch.Tensor]):
        super().__init__()
        self.peak: Counter[str] = Counter()
        self._now: Counter[str] = Counter()
        self._seen = {tensor.untyped_storage()._cdata for tensor in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._add(str(tensor.device), tensor.untyped_storage())
        return out

    def _add(self, device: str, storage: Any) -> None:
        place = storage._cdata
        if place in self._seen:
            return
        self._seen.add(place)
        self._now[device] += storage.nbytes()
        self.peak[device] = max(self.peak[device], self._now[device])
        weakref.finalize(storage, self._drop, device, storage.nbytes(), place)

    def _drop(self, device: str, size: int, place: int) -> None:
        self._now[device] -= size
        self._seen.discard(place)
