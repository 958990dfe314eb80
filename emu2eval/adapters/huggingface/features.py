"""What the model's vision encoder makes of an image, computed once per digest within a run."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from emu2eval.adapters.bounded import Bounded
from emu2eval.adapters.encoded import Shown
from emu2eval.adapters.huggingface.expansion import Arrays, Expansion
from emu2eval.adapters.huggingface.grid import Tiles, paint
from emu2eval.errors import ImageError
from emu2eval.media import images

CACHE_BYTES = 1 << 30
"""1 GiB holds about 3,000 images of 64 tokens for a model 2,560 wide in bf16."""
GRIDS = ("image_grid_thw",)
"""Sizes in patches, of which models with positions in three dimensions make them."""
JOINED = frozenset({"image_grid_thw", "image_sizes", "pixel_attention_mask", "pixel_values"})
"""Arrays of several images that are those of each, one after the other: no places within the others."""
AHEAD_BYTES = 256 << 20
"""Decoded and resized images that wait for their encoder."""
TOGETHER, TOGETHER_BYTES = 8, 32 << 20
"""Images that are encoded at a time, and what their arrays may take: about 20 tiles of 384 pixels."""


@dataclass(frozen=True, slots=True)
class Features:
    """pooled: (tokens, width), what fills the slots; deep: the same for some of the decoder's layers.

    grids: the arrays that decide the positions of the image and of what stands behind it.
    """

    pooled: Tensor
    deep: tuple[Tensor, ...] = ()
    in_list: bool = True
    grids: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in (self.pooled, *self.deep))


class Encoder:
    """Features by image, on the model's device. reuse: False computes each anew and alone."""

    def __init__(self, model: Any, expansion: Expansion, reuse: bool = True):
        self.model = model
        self.expansion = expansion
        self.reuse = reuse
        self.kept: Bounded[Features] = Bounded(CACHE_BYTES if reuse else 0)
        self.ahead: Bounded[Arrays] = Bounded(AHEAD_BYTES)
        self._encode = self._encoding()
        self._takes = set(inspect.signature(self._encode).parameters)

    def prepare(self, shown: Shown) -> None:
        """Decodes, resizes and normalises an image that is not known yet. Any thread may call it."""
        if shown.key not in self.kept and shown.key not in self.ahead:
            self.ahead.put(shown.key, self._arrays(shown))

    def arrays(self, shown: Shown) -> Arrays:
        """What the encoder takes, as prepared ahead if it was."""
        return self.ahead.take(shown.key) or self._arrays(shown)

    def features(self, shown: Shown) -> Features:
        """Features of an image. Raises ImageError where they do not fill the slots planned for it."""
        kept = self.kept.get(shown.key)
        if kept is not None:
            self.ahead.take(shown.key)
            return kept
        found = self._features(self.arrays(shown), shown)
        self.kept.put(shown.key, found)
        return found

    def several(self, wanted: Iterable[Shown]) -> dict[str, Features]:
        """Features by key; images that are not known yet go through the encoder together.

        They are those of each alone, up to rounding. Raises ImageError.
        """
        if not self.reuse or self.expansion.minds_company:
            return {shown.key: self.features(shown) for shown in wanted}
        found: dict[str, Features] = {}
        waiting: list[tuple[Shown, Arrays]] = []
        for shown in wanted:
            kept = self.kept.get(shown.key)
            if kept is not None:
                self.ahead.take(shown.key)
                found[shown.key] = kept
                continue
            one = (shown, self.arrays(shown))
            if waiting and not self._fits(waiting, one):
                found |= self._together(waiting)
                waiting = []
            waiting.append(one)
        found |= self._together(waiting)
        for key, features in found.items():
            self.kept.put(key, features)
        return found

    def _fits(self, waiting: Sequence[tuple[Shown, Arrays]], one: tuple[Shown, Arrays]) -> bool:
        """Whether one more can be encoded with these: as many embeddings for each tile or patch."""
        size = sum(arrays.nbytes for _, arrays in (*waiting, one))
        (first, like), (shown, arrays) = waiting[0], one
        if len(waiting) == TOGETHER or size > TOGETHER_BYTES or self._rows_of(shown) is None:
            return False
        for name in self._takes & (like.values.keys() | arrays.values.keys()):
            left, right = like.values.get(name), arrays.values.get(name)
            if not isinstance(left, Tensor) or not isinstance(right, Tensor) or name not in JOINED:
                return False
            if left.shape[1:] != right.shape[1:]:
                return False
            if left.is_floating_point() and len(left) * shown.tokens != len(right) * first.tokens:
                return False
        return True

    def _together(self, waiting: Sequence[tuple[Shown, Arrays]]) -> dict[str, Features]:
        if len(waiting) > 1:
            names = waiting[0][1].values.keys() & self._takes
            joined = Arrays({n: torch.cat([a.values[n] for _, a in waiting]) for n in names})
            pooled, deep, in_list = self._encoded(joined)
            tokens = [shown.tokens for shown, _ in waiting]
            # Otherwise it gave what the slots do not hold, of an image that is found alone.
            if {len(part) for part in (pooled, *deep)} == {sum(tokens)}:
                layers = [torch.split(part, tokens) for part in (pooled, *deep)]
                return {
                    shown.key: Features(
                        # Copies, so that an image that is forgotten frees its memory.
                        layers[0][i].clone(),
                        tuple(layer[i].clone() for layer in layers[1:]),
                        in_list,
                        _grids(arrays),
                    )
                    for i, (shown, arrays) in enumerate(waiting)
                }
        return {shown.key: self._features(arrays, shown) for shown, arrays in waiting}

    def _arrays(self, shown: Shown) -> Arrays:
        image = paint(Tiles(shown.tiles)) if shown.tiles else images.load(shown.image)
        return self.expansion.arrays(image, shown.variety)

    def _features(self, arrays: Arrays, shown: Shown) -> Features:
        pooled, deep, in_list = self._encoded(arrays)
        most = self._rows_of(shown)
        # The first image's, where there are two: see `Expansion`.
        found = Features(
            pooled[:most], tuple(layer[:most] for layer in deep), in_list, _grids(arrays)
        )
        if most is not None and found.pooled.shape[0] != most:
            raise ImageError(
                f"the encoder gives {found.pooled.shape[0]} embeddings for {most} places",
                where=shown.image.path or images.BYTES,
                hint="save the image anew, without EXIF data",
            )
        return found

    def _encoded(self, arrays: Arrays) -> tuple[Tensor, tuple[Tensor, ...], bool]:
        """(tokens, width) of all images, the same for the deep layers, and whether it was a list."""
        given = {name: self._moved(v) for name, v in arrays.values.items() if name in self._takes}
        out = self._encode(**given, return_dict=True)
        pooled, deep = out.pooler_output, getattr(out, "deepstack_features", None) or ()
        return _rows(pooled), tuple(map(_rows, deep)), not isinstance(pooled, Tensor)

    def _encoding(self) -> Any:
        """What takes the arrays by name and gives their features as `pooler_output`."""
        return self.model.base_model.get_image_features

    def _rows_of(self, shown: Shown) -> int | None:
        """How many embeddings there must be; None = as many as the model has for an image."""
        return shown.tokens

    def _moved(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        dtype = self.model.dtype if value.is_floating_point() else value.dtype
        return value.to(self.model.device, dtype)


def injected(features: Sequence[Features]) -> dict[str, Any] | None:
    """What transformers takes as `mm_encoder_outputs`: embeddings in reading order."""
    if not features:
        return None
    pooled: Any = [part.pooled for part in features]
    if not features[0].in_list:
        # (1, tokens, width): some models count the first two sizes, the others only the elements.
        pooled = torch.cat(pooled)[None]
    out = BaseModelOutputWithPooling(pooler_output=pooled)
    if features[0].deep:
        layers = zip(*(part.deep for part in features), strict=True)
        # A field that this output class does not declare, but the models that have it read.
        object.__setattr__(out, "deepstack_features", [list(layer) for layer in layers])
    return {"image": out}


def _grids(arrays: Arrays) -> dict[str, Tensor]:
    return {name: value for name, value in arrays.values.items() if name in GRIDS}


def _rows(found: Any) -> Tensor:
    """One (tokens, width) of whatever shape or list a model gives."""
    parts = [found] if isinstance(found, Tensor) else list(found)
    return torch.cat([part.reshape(-1, part.shape[-1]) for part in parts])
