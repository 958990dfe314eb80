"""The feature cache: every vector that an encoder has computed, by digest, in safetensors files.

CACHE/features/NAME-KEY/encoder.json            the encoder; KEY is the digest of its identity
CACHE/features/NAME-KEY/images-*.safetensors  digests (n, 32) uint8 beside features (n, width) float16
CACHE/features/NAME-KEY/texts-*.safetensors     the same of texts
CACHE/features/NAME-KEY/exact-*.safetensors     float32 of any length, just as the encoder gave them

A file is written whole or not at all, about once a second while an encoder works, so that a kill costs a
second or a batch; small files become one when the work is done. For a search, vectors have unit length:
float16 moves a cosine by some 0.00001 and halves what is read; sums of its products are exact, see
`fewshot.search`. A score needs the exact ones.
"""

from __future__ import annotations

import hashlib
import operator
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from emu2eval.encoders.base import Encoder, Vectors
from emu2eval.errors import DataError, ImageError, ModelError, of_part, raise_together
from emu2eval.identity import value_key
from emu2eval.media import images
from emu2eval.media.cores import cores
from emu2eval.runs.files import sweep
from emu2eval.runs.lock import alone
from emu2eval.runs.names import path_part
from emu2eval.spec import catalog
from emu2eval.types import Image, Progress

Half = npt.NDArray[np.float16]
Stored = npt.NDArray[np.float16 | np.float32]
Kind = Literal["images", "texts"]
WRITE_EVERY = 1.0
"""Seconds of work that a kill may cost."""
SMALL = 1 << 16
"""Files with fewer vectors are made one when the work is done."""
_LONGEST_HEAD = 1 << 16
_WORDS = "an image"


def by_digest(shown: Iterable[Image]) -> dict[str, Image]:
    """What `fill` wants. An image that cannot even be read is left out: its digest tells why."""
    found: dict[str, Image] = {}
    for image in shown:
        with suppress(ImageError):
            found[images.digest(image)] = image
    return found


class FeatureCache:
    """The vectors of one encoder and kind.

    Raises what the encoder lacks. A file that is not as it was written counts for nothing: what it held
    is computed again by whoever needs it, and the file then removed.
    exact: float32 as the encoder gave them, in place of float16 of unit length.
    """

    def __init__(self, encoder: Encoder, kind: Kind = "images", *, exact: bool = False):
        with of_part("encoder", getattr(encoder, "name", type(encoder).__name__)):
            raise_together(encoder.lacks())
            self.identity = dict(encoder.identity())
        self.encoder = encoder
        self.kind = kind
        self.exact = exact
        self._files_start = f"exact-{kind}" if exact else kind
        root, key = catalog.cache_root() / "features", value_key(self.identity)[:16]
        name = path_part(Path(encoder.name).name)
        # An encoder that goes by another name now, such as another path, is still the same.
        self.folder = next(root.glob(f"*-{key}"), root / f"{name}-{key}")
        self._scan()

    def __len__(self) -> int:
        return len(self._place)

    def __contains__(self, digest: str) -> bool:
        return bytes.fromhex(digest) in self._place

    @property
    def width(self) -> int:
        """How long a vector is; only known once there is one."""
        return int(next(iter(self._files.values())).features.shape[1])

    def vectors(self, digests: Sequence[str]) -> Any:
        """(n, width), in the order of the digests, each of which must be there: float16, exact float32."""
        places = np.array([self._place[bytes.fromhex(d)] for d in digests], dtype=np.int64)
        dtype = np.float32 if self.exact else np.float16
        out = np.empty((len(places), self.width), dtype=dtype)
        start = 0
        for file in self._files.values():
            mine = np.flatnonzero((places >= start) & (places < start + len(file.features)))
            out[mine] = file.features[places[mine] - start]
            start += len(file.features)
        return out

    def fill(
        self,
        wanted: Mapping[str, Any],
        progress: Progress | None = None,
        refused: dict[str, ImageError] | None = None,
    ) -> int:
        """Makes what is missing of the wanted images or texts, by digest; returns how many it made.

        refused: is given the images that cannot be used, by digest, which are then passed over.
        Waits while another process fills the same folder. Stored as it goes: raises UserError where an
        image or the encoder cannot be used, and keeps what was made before.
        """
        if all(digest in self for digest in wanted):
            return 0
        with self._alone():
            self._scan()  # another process may have made some of it meanwhile
            missing = {d: given for d, given in wanted.items() if d not in self}
            if not missing:
                return 0
            tell = progress or (lambda what, done, total: None)
            what = f"{self.kind} through {self.encoder.name}"
            if self._damaged:
                what += ", for a damaged file of features"
                for path in self._damaged:
                    path.unlink(missing_ok=True)
            pending: list[tuple[list[str], Vectors]] = []
            written = time.monotonic()
            done = 0
            try:
                for digests, vectors in self._made(missing, refused):
                    pending.append((digests, vectors))
                    done += len(digests)
                    if time.monotonic() - written >= WRITE_EVERY:
                        self._write_pending(pending)
                        written = time.monotonic()
                    tell(what, done, len(missing))
            finally:
                self._write_pending(pending)
            self._join()
            self._scan()
            return done

    def try_out(self) -> None:
        """Encodes a small example, unless that was done before, and frees the weights again.

        Raises UserError where the encoder cannot do it, before anything depends on it.
        """
        try:
            if self.kind == "texts":
                self.fill({hashlib.sha256(_WORDS.encode()).hexdigest(): _WORDS})
            else:
                shown = _small_image()
                self.fill({images.digest(shown): shown})
        finally:
            self.encoder.close()

    def digest(self, digests: Iterable[str]) -> str:
        """Hex sha256 over these vectors in the order of their digests: their identity in a run."""
        total = hashlib.sha256()
        ordered = sorted(set(digests))
        for start in range(0, len(ordered), 4096):
            part = ordered[start : start + 4096]
            total.update("".join(part).encode())
            total.update(self.vectors(part).tobytes())
        return total.hexdigest()

    # -- inside -----------------------------------------------------------------------------------

    def _made(
        self, missing: Mapping[str, Any], refused: dict[str, ImageError] | None
    ) -> Iterator[tuple[list[str], Vectors]]:
        """Batches in the order given; images are decoded one batch ahead on other threads."""
        items = list(missing.items())
        size = self.encoder.batch
        batches = [items[start : start + size] for start in range(0, len(items), size)]
        if self.kind == "texts":
            for batch in batches:
                with self._explained():
                    vectors = self.encoder.texts([text for _, text in batch])
                yield [d for d, _ in batch], vectors
            return
        with ThreadPoolExecutor(cores()) as threads:

            def start(batch: list[tuple[str, Any]]) -> list[Any]:
                return [threads.submit(self.encoder.prepare, image) for _, image in batch]

            try:
                ahead = start(batches[0])
                for number, batch in enumerate(batches):
                    ready, ahead = ahead, []
                    if number + 1 < len(batches):
                        ahead = start(batches[number + 1])
                    taken: list[tuple[str, Any]] = []
                    for (digest, _), future in zip(batch, ready, strict=True):
                        try:
                            with self._explained():
                                taken.append((digest, future.result()))
                        except ImageError as error:
                            if refused is None:
                                raise
                            refused[digest] = error
                    yield from self._encoded(taken, refused)
            finally:
                threads.shutdown(wait=False, cancel_futures=True)

    def _encoded(
        self, taken: list[tuple[str, Any]], refused: dict[str, ImageError] | None
    ) -> Iterator[tuple[list[str], Vectors]]:
        """All at once; each alone where an image shows only now that it cannot be used."""
        if not taken:
            return
        try:
            with self._explained():
                vectors = self.encoder.encode([prepared for _, prepared in taken])
        except ImageError as error:
            if refused is None:
                raise
            if len(taken) == 1:
                refused[taken[0][0]] = error
                return
            for one in taken:
                yield from self._encoded([one], refused)
            return
        yield [digest for digest, _ in taken], vectors

    def _write_pending(self, pending: list[tuple[list[str], Vectors]]) -> None:
        if not pending:
            return
        digests = np.frombuffer(
            b"".join(bytes.fromhex(d) for some, _ in pending for d in some), dtype=np.uint8
        ).reshape(-1, 32)
        given = np.concatenate([vectors for _, vectors in pending])
        if not np.isfinite(given).all():
            raise ModelError(
                f"the encoder {self.encoder.name!r} returned NaN or infinity",
                hint="check its weights",
            )
        features = given.astype(np.float32) if self.exact else _unit(given)
        if len(features) != len(digests):
            raise ModelError(
                f"the encoder {self.encoder.name!r} returned {len(features)} vectors for {len(digests)} "
                f"{self.kind}"
            )
        self._write(digests, features)
        pending.clear()

    def _write(self, digests: npt.NDArray[np.uint8], features: Stored) -> None:
        from safetensors.numpy import save

        record = self.folder / "encoder.json"
        if not record.exists():
            made_by = {"name": self.encoder.name, **self.identity}
            _replace(record, msgspec.json.format(msgspec.json.encode(made_by)) + b"\n")
        tensors: dict[str, npt.NDArray[Any]] = {
            "digests": digests,
            "features": np.ascontiguousarray(features),
        }
        check = _checksum(digests, features)
        # Numbered, so that vectors stay in the order in which they were made.
        number = 1 + max((int(p.stem.split("-")[-2]) for p in self._paths()), default=-1)
        path = self.folder / f"{self._files_start}-{number:06d}-{check[:8]}.safetensors"
        _replace(path, save(tensors, {"sha256": check}))

    def _join(self) -> None:
        """Makes one file of all small ones. A kill on the way leaves some vectors twice: no harm."""
        files = list(self._whole()[0].items())
        small = [(path, file) for path, file in files if len(file.features) < SMALL]
        if len(small) < 2:
            return
        self._write(
            np.concatenate([np.asarray(file.digests) for _, file in small]),
            np.concatenate([np.asarray(file.features) for _, file in small]),
        )
        for path, _ in small:
            path.unlink()

    def _scan(self) -> None:
        self._files, self._damaged = self._whole()
        self._place: dict[bytes, int] = {}
        start = 0
        for file in self._files.values():
            flat = file.digests.tobytes()
            for row in range(len(file.digests)):
                self._place.setdefault(flat[32 * row : 32 * row + 32], start + row)
            start += len(file.digests)

    def _whole(self) -> tuple[dict[Path, _File], list[Path]]:
        """The files as they were written, and the paths of those that are damaged."""
        whole: dict[Path, _File] = {}
        damaged = []
        for path in self._paths():
            try:
                whole[path] = _File(path)
            except _Damaged:
                damaged.append(path)
        return whole, damaged

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob(f"{self._files_start}-*.safetensors"))

    def _explained(self) -> AbstractContextManager[None]:
        return of_part(
            "encoder",
            self.encoder.name,
            "check its preprocessing and its weights, or choose another",
        )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with ExitStack() as held:
            with _written(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                held.enter_context(alone(self.folder))
                sweep(self.folder)
            yield


class _Damaged(Exception):
    """A file is not as it was written."""


class _File:
    """One safetensors file, memory-mapped, after its checksum was compared. Raises _Damaged, or DataError
    where it cannot be read at all."""

    def __init__(self, path: Path):
        try:
            with path.open("rb") as content:
                length = int.from_bytes(content.read(8), "little")
                if length > _LONGEST_HEAD:
                    raise _Damaged
                head = msgspec.json.decode(content.read(length), type=dict[str, Any])
            self.digests = _mapped(path, head["digests"], 8 + length, np.uint8)
            dtype = np.float32 if path.name.startswith("exact-") else np.float16
            self.features = _mapped(path, head["features"], 8 + length, dtype)
            stated = head["__metadata__"]["sha256"]
        except OSError as error:
            raise DataError(
                f"cannot read this feature file ({error.strerror})", where=path
            ) from None
        except (ValueError, KeyError, IndexError, TypeError, OverflowError, RecursionError):
            raise _Damaged from None
        if (
            self.digests.shape[1] != 32
            or len(self.digests) != len(self.features)
            or _checksum(self.digests, self.features) != stated
        ):
            raise _Damaged


def _small_image() -> Image:
    from PIL import Image as PILImage

    return images.from_pil(PILImage.linear_gradient("L").resize((64, 48)).convert("RGB"))


def _mapped(path: Path, tensor: Mapping[str, Any], base: int, dtype: Any) -> npt.NDArray[Any]:
    kind = {"U8": np.uint8, "F16": np.float16, "F32": np.float32}[tensor["dtype"]]
    if kind is not dtype or len(tensor["shape"]) != 2:
        raise ValueError("not a feature file")
    rows, width = (operator.index(size) for size in tensor["shape"])
    start = base + operator.index(tensor["data_offsets"][0])
    # Before anything is mapped: a shape is a stranger's number.
    if min(rows, width) < 1 or start < base:
        raise ValueError("an empty shape")
    if start + rows * width * np.dtype(dtype).itemsize > path.stat().st_size:
        raise ValueError("larger than the file")
    return np.memmap(path, dtype, "r", start, (rows, width))


def _checksum(digests: npt.NDArray[Any], features: npt.NDArray[Any]) -> str:
    total = hashlib.sha256(np.ascontiguousarray(digests).data)
    total.update(np.ascontiguousarray(features).data)
    return total.hexdigest()


def _unit(vectors: Vectors) -> Half:
    """Unit length, rounded to float16; a zero vector stays zero."""
    wide = vectors.astype(np.float64)
    length = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    unit: Half = (wide / np.where(length == 0, 1, length)).astype(np.float16)
    return unit


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with _written(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def _written(where: Path) -> Iterator[None]:
    """Turns an OSError about the cache into a DataError that says what to try."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cannot write the features ({error.strerror})",
            where=where,
            hint="free some space, or choose another folder: export EMU2EVAL_CACHE=/path/to/cache",
        ) from None
