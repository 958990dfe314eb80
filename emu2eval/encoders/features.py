"""The feature cache: every vector that an encoder has computed, by digest, in safetensors files.

CACHE/features/NAME-KEY/encoder.json            the encoder; KEY is the digest of its identity
CACHE/features/NAME-KEY/images-*.safetensors  digests (n, 32) uint8 beside features (n, width) float16
CACHE/features/NAME-KEY/texts-*.safetensors     the same of texts
CACHE/features/NAME-KEY/exact-*.safetensors     float32 of any length, just as the encoder gave them

A file is written whole or not at all, about once a second while an encoder works, so that a kill costs a
second or a batch; small files become one when the work is done. Processes that need the same features share
the work, see `claims`. For a search, vectors have unit length:
float16 moves a cosine by some 0.00001 and halves what is read; sums of its products are exact, see
`fewshot.search`. A score needs the exact ones.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from emu2eval.encoders.base import Encoder, Vectors
from emu2eval.encoders.claims import Claim, claim, claimed
from emu2eval.encoders.feature_files import (
    FeatureFile,
    Gone,
    Half,
    NotAsWritten,
    Stored,
    replace,
    sweep,
    write,
    written,
)
from emu2eval.errors import DataError, ImageError, ModelError, of_part, raise_together
from emu2eval.identity import value_key
from emu2eval.media import images
from emu2eval.media.cores import cores
from emu2eval.runs.lock import alone
from emu2eval.runs.names import path_part
from emu2eval.spec import catalog
from emu2eval.types import Image, Progress

Kind = Literal["images", "texts"]
WRITE_EVERY = 1.0
"""Seconds of work that a kill may cost."""
SMALL = 1 << 16
"""Files with fewer vectors are made one when the work is done."""
CLAIM_SECONDS, FIRST_BATCHES, MOST_CLAIMED = 10.0, 8, 1 << 14
"""What a process claims at a time: so many seconds of work, as far as it knows how much that is."""
LOOK_AGAIN = 0.5
"""Seconds between two looks at what another process is at."""
_ATTEMPTS = 5
"""To read files of which others make one."""
_PART, _READ = 4096, 16
"""Vectors that are hashed together, and how often as many are read at once."""
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
        self._files: dict[Path, FeatureFile] = {}
        self._place: dict[bytes, int] = {}
        self._scan()

    def __len__(self) -> int:
        return len(self._place)

    def __contains__(self, digest: str) -> bool:
        return bytes.fromhex(digest) in self._place

    @property
    def width(self) -> int:
        """How long a vector is; only known once there is one."""
        return int(next(iter(self._files.values())).width)

    def vectors(self, digests: Sequence[str]) -> Any:
        """(n, width), in the order of the digests, each of which must be there: float16, exact float32."""
        for _ in range(_ATTEMPTS):
            try:
                return self._vectors(digests)
            except (Gone, KeyError):
                self._scan()  # others made one file of several
            except NotAsWritten:
                self._files = {}  # each is looked at again
                self._scan()
        raise DataError(
            "features were removed while they were used",
            where=self.folder,
            hint="run the same command again",
        )

    def _vectors(self, digests: Sequence[str]) -> Any:
        places = np.array([self._place[bytes.fromhex(d)] for d in digests], dtype=np.int64)
        dtype = np.float32 if self.exact else np.float16
        out = np.empty((len(places), self.width), dtype=dtype)
        start = 0
        for file in self._files.values():
            mine = np.flatnonzero((places >= start) & (places < start + len(file)))
            if len(mine):
                out[mine] = file.read(places[mine] - start)
            start += len(file)
        return out

    def fill(
        self,
        wanted: Mapping[str, Any],
        progress: Progress | None = None,
        refused: dict[str, ImageError] | None = None,
    ) -> int:
        """Makes what is missing of the wanted images or texts, by digest; returns how many it made.

        refused: is given the images that cannot be used, by digest, which are then passed over.
        What another process is at is not made, but waited for. Stored as it goes: raises UserError where an
        image or the encoder cannot be used, and keeps what was made before.
        """
        missing = {d: given for d, given in wanted.items() if d not in self}
        if not missing:
            return 0
        filling = _Filling(self, missing, progress, refused)
        with written(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            sweep(self.folder)
        self._scan()  # another process may have made some of it meanwhile
        filling.look()
        if not filling.missing:
            return 0
        filling.drop(self._damaged)
        try:
            while filling.missing:
                filling.step()
        finally:
            if filling.made:
                self._join()
                self._scan()
        return filling.made

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
        for start in range(0, len(ordered), _PART * _READ):
            some = ordered[start : start + _PART * _READ]
            vectors = self.vectors(some)
            for at in range(0, len(some), _PART):
                total.update("".join(some[at : at + _PART]).encode())
                total.update(vectors[at : at + _PART].tobytes())
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
        record = self.folder / "encoder.json"
        if not record.exists():
            made_by = {"name": self.encoder.name, **self.identity}
            replace(record, msgspec.json.format(msgspec.json.encode(made_by)) + b"\n")
        # Numbered, so that vectors stay in the order in which they were made.
        number = 1 + max((int(p.stem.split("-")[-2]) for p in self._paths()), default=-1)
        write(self.folder / f"{self._files_start}-{number:06d}", digests, features)

    def _join(self) -> None:
        """Makes one file of all small ones once nobody is at work. A kill on the way leaves some vectors
        twice: no harm."""
        with written(self.folder), alone(self.folder):
            if claimed(self.folder):
                return  # whoever is ready last does it
            self._scan()
            small = [file for file in self._files.values() if len(file) < SMALL]
            if len(small) < 2:
                return
            digests = np.frombuffer(b"".join(file.digests for file in small), dtype=np.uint8)
            try:
                found = np.concatenate([file.read(np.arange(len(file))) for file in small])
            except (Gone, NotAsWritten):
                return  # the next one does it
            self._write(digests.reshape(-1, 32), found)
            for file in small:
                with suppress(OSError):  # somebody reads it, where that keeps it
                    file.path.unlink(missing_ok=True)

    def _scan(self) -> None:
        before = dict(self._files)
        self._files, self._damaged = self._whole()
        if self._files.keys() == before.keys() and self._place:
            return
        self._place = {}
        start = 0
        for file in self._files.values():
            for row in range(len(file)):
                self._place.setdefault(file.digests[32 * row : 32 * row + 32], start + row)
            start += len(file)

    def _whole(self) -> tuple[dict[Path, FeatureFile], list[Path]]:
        """The files as they were written, and the paths of those that are damaged."""
        for _ in range(_ATTEMPTS):
            whole: dict[Path, FeatureFile] = {}
            damaged: list[Path] = []
            with suppress(Gone):  # listed anew
                for path in self._paths():
                    try:
                        # Named by what it holds, and never changed.
                        whole[path] = self._files.get(path) or FeatureFile(path)
                    except NotAsWritten:
                        damaged.append(path)
                return whole, damaged
        return whole, damaged

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob(f"{self._files_start}-*.safetensors"))

    def _explained(self) -> AbstractContextManager[None]:
        return of_part(
            "encoder",
            self.encoder.name,
            "check its preprocessing and its weights, or choose another",
        )


class _Filling:
    """What is under way within one `fill`. missing: given by digest, but for what this process is at."""

    def __init__(
        self,
        cache: FeatureCache,
        missing: dict[str, Any],
        progress: Progress | None,
        refused: dict[str, ImageError] | None,
    ):
        self.cache = cache
        self.missing = missing
        self.made = 0
        self._tell = progress or (lambda what, done, total: None)
        self._refused = refused
        self._total = len(missing)
        self._what = f"{cache.kind} through {cache.encoder.name}"
        self._seconds = 0.0

    def look(self) -> None:
        """Leaves out what is there now."""
        self.missing = {d: given for d, given in self.missing.items() if d not in self.cache}
        self._total = self._total if self.made else len(self.missing)

    def drop(self, damaged: Sequence[Path]) -> None:
        if damaged:
            self._what += ", for a damaged file of features"
            for path in damaged:
                path.unlink(missing_ok=True)

    def step(self) -> None:
        """Makes some, or waits until others have."""
        own = self._claim()
        if own is None:
            self._tell(f"waiting for {self._what}", self._total - len(self.missing), self._total)
            time.sleep(LOOK_AGAIN)
            self.cache._scan()
            self.look()
            return
        try:
            self.cache._scan()  # what others made until it was claimed
            self.look()
            todo = {d: given for d, given in self.missing.items() if d in own.digests}
            if todo:
                self._make(todo)
        finally:
            own.close()
        self.cache._scan()
        self.missing = {d: given for d, given in self.missing.items() if d not in own.digests}
        self.look()

    def _claim(self) -> Claim | None:
        batch = self.cache.encoder.batch
        count = FIRST_BATCHES * batch
        if self.made:
            pace = self.made / max(self._seconds, 1e-3)
            count = min(MOST_CLAIMED, max(1, int(pace * CLAIM_SECONDS) // batch) * batch)
        with written(self.cache.folder):
            return claim(self.cache.folder, list(self.missing), count)

    def _make(self, todo: Mapping[str, Any]) -> None:
        pending: list[tuple[list[str], Vectors]] = []
        before = self._total - len(self.missing)
        began = wrote = time.monotonic()
        done = 0
        try:
            for digests, vectors in self.cache._made(todo, self._refused):
                pending.append((digests, vectors))
                done += len(digests)
                if time.monotonic() - wrote >= WRITE_EVERY:
                    self.cache._write_pending(pending)
                    wrote = time.monotonic()
                self._tell(self._what, before + done, self._total)
        finally:
            self.cache._write_pending(pending)
            self.made += done
            self._seconds += time.monotonic() - began


def _small_image() -> Image:
    from PIL import Image as PILImage

    return images.from_pil(PILImage.linear_gradient("L").resize((64, 48)).convert("RGB"))


def _unit(vectors: Vectors) -> Half:
    """Unit length, rounded to float16; a zero vector stays zero."""
    wide = vectors.astype(np.float64)
    length = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    unit: Half = (wide / np.where(length == 0, 1, length)).astype(np.float16)
    return unit
