"""Prepared images on the disk, for another run: by the image's digest, under what prepared it.

CACHE/prepared/KEY/ab/abcd….safetensors: the arrays of one image with their CRC-32; KEY is the digest of the
processor's identity. A file is written whole or not at all; one that is damaged is made anew. Once all files
take more than they may, the oldest go.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from threading import Lock, get_ident

import torch
from torch import Tensor

from emu2eval.adapters.local.encoded import Shown
from emu2eval.adapters.local.prepared import Arrays

ENDING = ".safetensors"
LEFT = 0.9
"""Of the room, what is taken once old files have gone."""
ABANDONED = 3600.0
"""Seconds after which a file that was never finished is removed."""


class KeptImages:
    """root: of all processors; key: of this one; most: bytes of all files together.

    No failure of the disk is the user's concern: what cannot be read or written is prepared as ever.
    """

    def __init__(self, root: Path, key: str, most: int):
        self.root, self.folder, self.most = root, root / key, most
        self._lock = Lock()
        self._size: int | None = None

    def get(self, shown: Shown, make: Callable[[Shown], Arrays]) -> Arrays:
        """The image's arrays, made and kept where they are not there. Raises what `make` does."""
        path = self._path(shown)
        found = _read(path)
        if found is None:
            found = make(shown)
            self._write(path, found)
        return found

    def _path(self, shown: Shown) -> Path:
        name = sha256(shown.key.encode()).hexdigest()
        return self.folder / name[:2] / (name + ENDING)

    def _write(self, path: Path, arrays: Arrays) -> None:
        from safetensors.torch import save

        tensors = {n: v.contiguous() for n, v in arrays.values.items() if isinstance(v, Tensor)}
        if not tensors or len(tensors) < len(arrays.values):
            return  # lists, which some families make, are not worth a format
        data = save(tensors, {"crc32": _check(tensors)})
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{get_ident()}")
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_bytes(data)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
            self._make_room(len(data))

    def _make_room(self, added: int) -> None:
        with self._lock:
            known = self._size
            self._size = None if known is None else known + added
            if self._size is not None and self._size <= self.most:
                return
            # Another process may have written or removed some, so that it is looked up each time.
            files = sorted(_files(self.root))
            total = sum(size for _, size, _ in files)
            if total > self.most:
                for _, size, path in files:
                    if total <= self.most * LEFT:
                        break
                    with suppress(OSError):
                        path.unlink()
                        total -= size
            self._size = total


def _files(root: Path) -> Iterator[tuple[float, int, Path]]:
    """When each was written, its bytes and where it is; removes what was left unfinished."""
    for path in root.glob("*/*/*"):
        with suppress(OSError):
            stat = path.stat()
            if path.name.startswith(".") and time.time() - stat.st_mtime > ABANDONED:
                path.unlink()
            elif path.suffix == ENDING:
                yield stat.st_mtime, stat.st_size, path


def _read(path: Path) -> Arrays | None:
    """None where it is not there, or not as it was written: it is then removed."""
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            stated = (file.metadata() or {}).get("crc32")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        if tensors and _check(tensors) == stated:
            return Arrays(tensors)
    except (SafetensorError, OSError, ValueError, RuntimeError):
        pass
    with suppress(OSError):
        path.unlink()
    return None


def _check(tensors: Mapping[str, Tensor]) -> str:
    total = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        total = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), total)
        total = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, total)
    return f"{total:08x}"
