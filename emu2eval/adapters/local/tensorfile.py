"""Weight files, one tensor at a time: safetensors and torch's zip pickles. Headers are read without data."""

from __future__ import annotations

import json
import math
import pickle
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from emu2eval.errors import ModelError, shown

# https://github.com/huggingface/safetensors: 8 bytes length, a JSON header, then the data.
_LENGTH = struct.Struct("<Q")
_LONGEST_HEADER = 100_000_000
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_MAPPED = 256 << 20
READERS = 4
"""Threads that read a tensor; one alone copies half as fast from the system's cache."""
PART = 4 << 20
"""Bytes below which a tensor is read by one of them."""
_AGAIN = "download the file again; it is incomplete or damaged"


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies. key: its name in the file; start: its first byte (-1 in a pickle)."""

    file: Path
    key: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    start: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def is_safetensors(path: Path) -> bool:
    return path.name.endswith(".safetensors")


def read_tensor_list(path: Path) -> list[StoredTensor]:
    """What a weight file holds, without reading its data.

    Raises ModelError where it is missing, truncated, no weight file, or a pickle with code in it.
    """
    if not path.is_file():
        raise ModelError("this weight file does not exist", where=path, hint=_AGAIN)
    if is_safetensors(path):
        header, data_start = read_header(path)
        return [_described(path, key, entry, data_start) for key, entry in header.items()]
    return [
        StoredTensor(path, key, tuple(tensor.shape), tensor.dtype, -1)
        for key, tensor in _open_pickle(path).items()
    ]


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The entries of a safetensors header by name, and the byte where the data begins."""
    size = path.stat().st_size
    with path.open("rb") as file:
        lead = file.read(_LENGTH.size)
        length = _LENGTH.unpack(lead)[0] if len(lead) == _LENGTH.size else 0
        if not 2 <= length <= _LONGEST_HEADER:
            raise ModelError("not a safetensors file", where=path, hint=_AGAIN)
        text = file.read(length)
    data_start = _LENGTH.size + length
    try:
        header = json.loads(text)
        entries = {key: entry for key, entry in header.items() if key != "__metadata__"}
        wanted = data_start + max((e["data_offsets"][1] for e in entries.values()), default=0)
    except (ValueError, AttributeError, KeyError, TypeError, IndexError, RecursionError):
        what = "its header cannot be read" if len(text) == length else "it ends in its header"
        raise ModelError(
            f"this safetensors file is damaged: {what}", where=path, hint=_AGAIN
        ) from None
    if size < wanted:
        raise ModelError(
            f"this weight file is truncated: it has {size:,} of {wanted:,} bytes",
            where=path,
            hint=_AGAIN,
        )
    return entries, data_start


def _described(path: Path, key: str, entry: Any, data_start: int) -> StoredTensor:
    shape, span = entry.get("shape"), entry["data_offsets"]
    if not (_counts(shape) and _counts(span) and len(span) == 2):
        raise ModelError(
            f"this safetensors file is damaged: the entry of {key} cannot be read",
            where=path,
            hint=_AGAIN,
        )
    start, end = span
    dtype = _DTYPES.get(str(entry.get("dtype")))
    if dtype is None:
        raise ModelError(
            f"{key} is stored as {shown(entry.get('dtype'))}; supported are {', '.join(_DTYPES)}",
            where=path,
        )
    stored = StoredTensor(path, key, tuple(shape), dtype, data_start + start)
    if end - start != stored.nbytes:
        raise ModelError(
            f"this safetensors file is damaged: {key} of shape {stored.shape} has "
            f"{end - start:,} bytes, not {stored.nbytes:,}",
            where=path,
            hint=_AGAIN,
        )
    return stored


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)


def stream(
    tensors: Iterable[tuple[str, StoredTensor]], pinned: bool = False
) -> Iterator[tuple[str, torch.Tensor]]:
    """Reads (name, stored) pairs file by file in the order of the bytes; gives (name, CPU tensor).

    A tensor is good until the next one is asked for: copy what is to stay. Of safetensors the current
    tensor and the one that is read meanwhile are in memory; of pickles also up to 256 MiB of mapped pages.
    pinned: into memory that a GPU copies from by itself.
    """
    by_file: defaultdict[Path, list[tuple[str, StoredTensor]]] = defaultdict(list)
    for name, stored in tensors:
        by_file[stored.file].append((name, stored))
    pickles = {path for path in by_file if not is_safetensors(path)}
    rest = [
        pair
        for path, pairs in by_file.items()
        if path not in pickles
        for pair in sorted(pairs, key=lambda pair: pair[1].start)
    ]
    yield from _stream_safetensors(rest, pinned)
    for path in pickles:
        yield from _stream_pickle(path, by_file[path])


def _stream_safetensors(
    wanted: list[tuple[str, StoredTensor]], pinned: bool
) -> Iterator[tuple[str, torch.Tensor]]:
    if not wanted:
        return
    # Read, not mapped: touched pages of a map count as this process's memory. And always into the same
    # memory, since the heap does not give back what many tensors of many sizes have used.
    size = max(stored.nbytes for _, stored in wanted)
    if size < PART:
        # Handing it to a thread would take longer.
        whole = torch.empty(size, dtype=torch.uint8, pin_memory=pinned)
        for name, stored in wanted:
            data = whole[: stored.nbytes]
            yield name, _shaped(stored, data, _read(stored, data, 0))
        return
    memory = [torch.empty(size, dtype=torch.uint8, pin_memory=pinned) for _ in range(2)]
    with ThreadPoolExecutor(READERS) as readers:

        def begin(number: int) -> list[Future[int]]:
            stored, data = wanted[number][1], memory[number % 2]
            step = max(PART, -(-stored.nbytes // READERS))
            return [
                readers.submit(_read, stored, data[at : min(at + step, stored.nbytes)], at)
                for at in range(0, stored.nbytes, step)
            ]

        following = begin(0)
        for number, (name, stored) in enumerate(wanted):
            data = memory[number % 2][: stored.nbytes]
            tensor = _shaped(stored, data, sum(part.result() for part in following))
            if number + 1 < len(wanted):
                following = begin(number + 1)
            yield name, tensor


def _shaped(stored: StoredTensor, data: torch.Tensor, count: int) -> torch.Tensor:
    """The tensor in its bytes, of which so many were there. Raises ModelError where some were not."""
    if count != stored.nbytes:
        raise ModelError(f"this weight file ends within {stored.key}", where=stored.file)
    return data.view(stored.dtype).view(stored.shape)


def _stream_pickle(
    path: Path, wanted: list[tuple[str, StoredTensor]]
) -> Iterator[tuple[str, torch.Tensor]]:
    state: dict[str, torch.Tensor] = {}
    mapped = _MAPPED
    for name, stored in wanted:
        if mapped >= _MAPPED:
            # Mapping anew lets go of the pages that were touched so far.
            state, mapped = _open_pickle(path), 0
        yield name, state[stored.key]
        mapped += stored.nbytes


def _read(stored: StoredTensor, data: torch.Tensor, at: int) -> int:
    """Some of a tensor's bytes, from `at` on; how many there were."""
    array: Any = data.numpy()
    view, count = memoryview(array), 0
    with stored.file.open("rb", buffering=0) as file:
        file.seek(stored.start + at)
        while count < len(view) and (more := file.readinto(view[count:])):
            count += more
    return count


def _open_pickle(path: Path) -> dict[str, torch.Tensor]:
    try:
        state = _torch_load(path)
    except pickle.UnpicklingError as error:
        if "weights_only" not in str(error) and "Unsupported" not in str(error):
            raise ModelError("not a weight file", where=path, hint=_AGAIN) from None
        raise ModelError(
            "this pickle contains code or objects besides tensors, so it is not opened",
            where=path,
            hint="use the safetensors files of the same checkpoint, or convert it if you trust its "
            "origin",
        ) from None
    except Exception as error:
        # Bytes that are no pickle at all make the unpickler raise nearly anything.
        reason = str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__
        raise ModelError(
            f"this weight file cannot be read ({reason})", where=path, hint=_AGAIN
        ) from None
    if not isinstance(state, dict) or not all(torch.is_tensor(t) for t in state.values()):
        raise ModelError("this pickle is not a state dict (a dict of tensors by name)", where=path)
    return dict(state)


def _torch_load(path: Path) -> Any:
    # Only zip files can be mapped; torch before 1.6 wrote plain pickles.
    with path.open("rb") as file:
        zipped = file.read(2) == b"PK"
    return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
