"""The chooser `rices`: the training samples most like the query (Flamingo, arXiv 2204.14198, 4.2).

RICES, retrieval-based in-context example selection, is what the Emu2 paper names for its few-shot
numbers; it states neither encoder nor pool nor order. The defaults here are OpenFlamingo's: cosine of
CLIP ViT-L/14's image features over the whole training split, the most similar demonstration last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from emu2eval.data.samples import Samples
from emu2eval.encoders.base import OWN, Encoder, build_encoder
from emu2eval.encoders.features import FeatureCache, Kind
from emu2eval.errors import ConfigError, ImageError, UnknownName, UserError
from emu2eval.fewshot.choosers import Chooser, Demonstration, PoolFeatures
from emu2eval.fewshot.pool_index import Digests, KeyedRows, Neighbours, PoolIndex, Stored
from emu2eval.fewshot.search import everything, nearest
from emu2eval.media import images
from emu2eval.spec.settings import Count, Settings
from emu2eval.types import Image, Progress, Sample, Video

ENCODER = "openai/clip-vit-large-patch14"
KEPT = 32
"""Neighbours kept for a query, at least: enough for the usual shots and what is excluded."""

Key = tuple[Digests, str]
"""Digests of a sample's images, and its words; either is empty where it does not count."""


class RicesSettings(Settings):
    """encoder: `thumbnail`, `model` (the evaluated model's own), a CLIP, SigLIP or DINO checkpoint by path
    or hub id, or `module:attr`.

    text: the weight of words in the similarity, 0 = only images; text_field: the field that contains the
    words.
    per_image: the maximum number of demonstrations with the same image. None = no limit, as OpenFlamingo
    has
    none: the several questions about the most similar image are then all shown first.
    """

    encoder: str = ENCODER
    text: Annotated[float, Meta(ge=0, le=1)] = 0.0
    text_field: str = "question"
    per_image: Count | None = None


class Rices(Chooser):
    """Most similar first, before `choose` turns them round; equals in the order of their ids.

    A sample of several images, or frames, is the mean of their unit vectors.
    """

    def __init__(self, pool: Samples, seed: int, settings: RicesSettings):
        super().__init__(pool, seed)
        self.encoder_name = settings.encoder
        self.text = settings.text
        self.text_field = settings.text_field
        self.per_image = settings.per_image
        self._encoder = None if self.encoder_name == OWN else build_encoder(self.encoder_name)
        self._own: Encoder | None = None
        self._index: PoolIndex | None = None
        self._found: dict[Key, Neighbours] = {}
        self._refused: dict[str, ImageError] = {}
        """Images that the encoder cannot take: a query of one is unscored, the pool is searched without."""

    def lacks(self) -> list[UserError]:
        """What its encoder lacks; the evaluated model's own comes with the model."""
        return [] if self._encoder is None else self._encoder.lacks()

    def fetch(self) -> None:
        if self._encoder is not None:
            self._encoder.fetch()

    @property
    def looks_through_model(self) -> bool:
        return self.encoder_name == OWN

    def prepare(
        self,
        queries: Iterable[Sample],
        shots: int,
        *,
        model: Encoder | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Computes the features that are not there yet, and searches for all queries at once."""
        self._own = model or self._own
        index = self._built(progress)
        wanted = _Wanted(self._key)
        for sample in queries:
            wanted.add(sample)
        keep = max(KEPT, 2 * shots)
        fresh = [
            key
            for key in wanted.keys
            if self._lost(key) is None and (key not in self._found or self._found[key].keep < keep)
        ]
        if fresh:
            self._search(index, fresh, wanted.images, keep, progress)

    def identity(self) -> Mapping[str, Any]:
        """The encoder, and the digests of the pool's features: others never continue a run of these."""
        return self._built(None).identity

    def ranked(self, query: Sample, trial: int) -> Iterator[Demonstration]:
        index = self._built(None)
        key = self._key(query)
        if key not in self._found:
            self.prepare([query], 0)
        if (error := self._lost(key)) is not None:
            raise error
        found = self._found[key]
        given: dict[int, int] = {}
        rank = 0
        for unit, similarity, position in self._in_order(index, found):
            image = int(index.image_of[unit])
            if self.per_image is not None and given.get(image, 0) >= self.per_image:
                continue
            given[image] = given.get(image, 0) + 1
            rank += 1
            why = f"rices: rank {rank}, similarity {similarity:.4f}, {self.encoder_name}"
            yield Demonstration(self.pool[position], why)

    def features(
        self, *, model: Encoder | None = None, progress: Progress | None = None
    ) -> list[PoolFeatures]:
        self._own = model or self._own
        wanted, _ = self._pool_units(progress)
        stored = self._filled(wanted.keys, wanted.images, progress)
        return [
            PoolFeatures(kind, len(found.used), found.computed, found.digest, found.store.folder)
            for kind, found in stored.items()
        ]

    # -- inside -----------------------------------------------------------------------------------

    def _in_order(self, index: PoolIndex, found: Neighbours) -> Iterator[tuple[int, float, int]]:
        """(unit, similarity, position in the pool), best first; of equals the lowest id first."""
        kept = list(zip(found.units.tolist(), found.similarity.tolist(), strict=True))
        certain = 0
        for unit, similarity, position in index.spread(kept, whole=len(kept) == index.units):
            certain += 1
            yield unit, similarity, position
        if len(kept) < index.units:
            # Rare: so much was refused that the neighbours kept do not suffice. All are ranked.
            order, exact = everything(index.sides(found.queries, found.rows), found.row)
            ranked = list(zip(order.tolist(), exact.tolist(), strict=True))
            for number, item in enumerate(index.spread(ranked, whole=True)):
                if number >= certain:
                    yield item

    def _built(self, progress: Progress | None) -> PoolIndex:
        if self._index is None:
            wanted, units = self._pool_units(progress)
            stores = self._filled(wanted.keys, wanted.images, progress)
            lost = [self._lost(key) for key in wanted.keys]
            taken = np.array([error is None for error in lost], dtype=bool)
            if lost and not taken.any():
                raise next(error for error in lost if error is not None)
            positions = np.flatnonzero(taken[units])
            tables = {kind: KeyedRows.of(stored) for kind, stored in stores.items()}
            weights = {"images": 1 - self.text, "texts": self.text}
            self._index = PoolIndex.of(
                tables,
                (taken.cumsum() - 1)[units[positions]],
                positions,
                {kind: weights[kind] for kind in tables},
                {
                    "encoder": dict(self._eyes.identity()),
                    "features": {kind: stored.digest for kind, stored in stores.items()},
                    **({} if taken.all() else {"passed_over": int((~taken).sum())}),
                },
            )
        return self._index

    @property
    def _eyes(self) -> Encoder:
        if self._encoder is None:
            self._encoder = build_encoder(self.encoder_name, self._own)
        return self._encoder

    @property
    def _at_work(self) -> Encoder:
        return (
            self._eyes if self.route is None or self._own is self._eyes else self.route(self._eyes)
        )

    def _pool_units(self, progress: Progress | None) -> tuple[_Wanted, Any]:
        """What must be encoded, and for each sample of the pool the number of its key."""
        self._eyes.identity()  # an encoder that cannot be used is reported before all images are read
        wanted = _Wanted(self._key)
        units = np.empty(len(self.pool), dtype=np.int32)
        for position, sample in enumerate(self.pool):
            units[position] = wanted.add(sample)
            done = position + 1
            if progress is not None and (done % 1024 == 0 or done == len(self.pool)):
                progress("reading the pool's images", done, len(self.pool))
        return wanted, units

    def _filled(
        self, keys: Iterable[Key], shown: Mapping[str, Image], progress: Progress | None
    ) -> dict[Kind, Stored]:
        """The features of all keys but those that are lost."""
        filled: dict[Kind, Stored] = {}
        if self.text < 1:
            store = FeatureCache(self._at_work, "images")
            computed = store.fill(shown, progress, self._refused)
            keys = [key for key in keys if self._lost(key) is None]
            filled["images"] = Stored([key[0] for key in keys], store, computed)
        if self.text > 0:
            store = FeatureCache(self._at_work, "texts")
            computed = store.fill({_text_digest(key[1]): key[1] for key in keys}, progress)
            filled["texts"] = Stored([(_text_digest(key[1]),) for key in keys], store, computed)
        return filled

    def _search(
        self,
        index: PoolIndex,
        keys: list[Key],
        shown: Mapping[str, Image],
        keep: int,
        progress: Progress | None,
    ) -> None:
        stores = self._filled(keys, shown, progress)
        keys = [key for key in keys if self._lost(key) is None]
        if not keys:
            return
        queries = {kind: KeyedRows.of(stored) for kind, stored in stores.items()}
        rows = np.arange(len(keys))

        def tell(done: int, total: int) -> None:
            if progress is not None:
                progress("searching for the most similar", done, total)

        units, similarity = nearest(index.sides(queries, rows), keep, tell)
        for row, key in enumerate(keys):
            self._found[key] = Neighbours(queries, rows, row, keep, units[row], similarity[row])

    def _lost(self, key: Key) -> ImageError | None:
        """Why there are no features of a key's images."""
        return next((self._refused[each] for each in key[0] if each in self._refused), None)

    def _key(self, sample: Sample) -> Key:
        shown: Digests = ()
        words = ""
        if self.text < 1:
            shown = tuple(images.digest(p) for p in _images(sample))
            if not shown:
                raise ConfigError(
                    f"the chooser 'rices' compares images, but sample {sample.id!r} has none",
                    where=self.pool.where,
                    hint="use 'random', or the option text: 1, which compares only text",
                )
        if self.text > 0:
            if self.text_field not in sample.fields:
                raise UnknownName("field of the samples", self.text_field, sample.fields)
            words = sample.fields[self.text_field]
        return shown, words


class _Wanted:
    """The different keys among samples, numbered in the order of first sight, and their images."""

    def __init__(self, key_of: Callable[[Sample], Key]):
        self.key_of = key_of
        self.keys: dict[Key, int] = {}
        self.images: dict[str, Image] = {}

    def add(self, sample: Sample) -> int:
        key = self.key_of(sample)
        number = self.keys.get(key)
        if number is None:
            number = self.keys[key] = len(self.keys)
            for digest, image in zip(key[0], _images(sample), strict=False):
                self.images.setdefault(digest, image)
        return number


def _images(sample: Sample) -> Iterator[Image]:
    for item in sample.images:
        if isinstance(item, Video):
            yield from item.frames
        else:
            yield item


def _text_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
