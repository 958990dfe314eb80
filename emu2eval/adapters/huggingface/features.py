"""Images through the vision encoder of a model of transformers, several at a time where they are alike."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from emu2eval.adapters.huggingface.expansion import PROCESSOR, Expansion
from emu2eval.adapters.huggingface.grid import Tiles, paint
from emu2eval.adapters.local.encoded import Shown
from emu2eval.adapters.local.features import ImageEncoder
from emu2eval.adapters.local.kept_features import LaidFeatures
from emu2eval.adapters.local.prepared import Arrays
from emu2eval.errors import ImageError
from emu2eval.media import images
from emu2eval.media.refusals import taking
from emu2eval.types import Image

ENCODER = "the model's image encoder"
GRIDS = ("image_grid_thw", "target_sizes")
"""Sizes in patches, of which models with positions in three dimensions make them."""
JOINED = frozenset({"image_grid_thw", "image_sizes", "pixel_attention_mask", "pixel_values"})
"""Arrays of several images that are those of each, one after the other: no places within the others."""
FILLING = ("pooler_output", "last_hidden_state")
"""Fields of an encoder's output that fill an image's places; the first that it has."""
POOLED, DEEP, GRID = "pooled", "deep.", "grid."
"""Names of tensors on the disk."""
TOGETHER, TOGETHER_BYTES = 8, 32 << 20
"""Images that are encoded at a time, and what their arrays may take: about 20 tiles of 384 pixels."""


class Unequal(ImageError):
    """Features of an image that are more or fewer than its places, none of which may stay empty or be cut."""

    def __init__(self, features: int, places: int, image: Image):
        self.features, self.places = features, places
        super().__init__(
            f"the model produces {features} embeddings for this image, but its processor {places} "
            "placeholders",
            where=images.where(image),
            hint="save the image again without EXIF data; if all images fail, the model's config.json and "
            "its processor's files do not match",
        )


@dataclass(frozen=True, slots=True)
class OutputForm:
    """How a model's encoder gives its output, and wants it back.

    kind: its class. field: the one that fills the slots; None = the deep layers do, and nothing else.
    in_list: a tensor for each image instead of one of all. layers: numbers given with the deep ones.
    """

    kind: type = BaseModelOutputWithPooling
    field: str | None = "pooler_output"
    in_list: bool = True
    layers: tuple[int, ...] = ()

    @classmethod
    def of(cls, out: Any) -> OutputForm:
        """As an output has it. Llama 4 names no pooled output, and fills from its last state."""
        named = (n for n in FILLING if getattr(out, n, None) is not None)
        field = next(named, None)
        deep = [layer[0] for layer in _deep(out) if isinstance(layer[0], int)]
        return cls(
            type(out), field, not isinstance(out[field] if field else None, Tensor), (*deep,)
        )

    def output(self, pooled: Any, deep: Sequence[Sequence[Tensor]]) -> Any:
        """An output of the encoder's own class with those features."""
        # Some classes, timm's among them, want a value for fields that no decoder reads.
        wanted = {f.name: None for f in fields(self.kind) if f.default is MISSING}
        out = self.kind(**wanted if self.field is None else {**wanted, self.field: pooled})
        if deep:
            numbered = zip(self.layers, deep, strict=True) if self.layers else deep
            # A field that not every class of outputs declares, but the models that have it read.
            object.__setattr__(out, "deepstack_features", [*numbered])
        return out


@dataclass(frozen=True, slots=True)
class VisionFeatures:
    """pooled: (tokens, width), what fills the slots; deep: the same for some of the decoder's layers.

    grids: the arrays that decide the positions of the image and of what stands behind it.
    """

    pooled: Tensor
    deep: tuple[Tensor, ...] = ()
    form: OutputForm = field(default_factory=OutputForm)
    grids: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        own = () if self.form.field is None else (self.pooled,)
        return sum(part.nbytes for part in (*own, *self.deep))


class VisionEncoder(ImageEncoder[VisionFeatures]):
    """Features stay on the model's device."""

    def __init__(self, model: Any, expansion: Expansion, reuse: bool = True):
        super().__init__(reuse)
        self.model = model
        self.expansion = expansion
        self._kind: type | None = None
        self._encode = self.encoding()
        self._takes = set(inspect.signature(self._encode).parameters)

    def decode(self, shown: Shown) -> Arrays:
        image = paint(Tiles(shown.tiles)) if shown.tiles else images.load(shown.image)
        with taking(shown.image, PROCESSOR):
            return self.expansion.arrays(image, shown.variety)

    def joins(self, waiting: Sequence[tuple[Shown, Arrays]], one: tuple[Shown, Arrays]) -> bool:
        """As many embeddings for each tile or patch, and an encoder that treats each as if it were alone."""
        size = sum(arrays.nbytes for _, arrays in (*waiting, one))
        (first, like), (shown, arrays) = waiting[0], one
        if len(waiting) == TOGETHER or size > TOGETHER_BYTES or self.rows_of(shown) is None:
            return False
        if self.expansion.minds_company:
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

    def together(self, waiting: Sequence[tuple[Shown, Arrays]]) -> dict[str, VisionFeatures]:
        if len(waiting) > 1:
            names = waiting[0][1].values.keys() & self._takes
            joined = Arrays({n: torch.cat([a.values[n] for _, a in waiting]) for n in names})
            tokens = [shown.tokens for shown, _ in waiting]
            pooled, deep, form = self._tried(joined)
            # Otherwise one of them is refused, or does not fill its places: it is found alone.
            if {len(part) for part in (pooled, *deep)} == {sum(tokens)}:
                layers = [torch.split(part, tokens) for part in (pooled, *deep)]
                return {
                    shown.key: VisionFeatures(
                        # Copies, so that an image that is forgotten frees its memory.
                        layers[0][i].clone(),
                        tuple(layer[i].clone() for layer in layers[1:]),
                        form,
                        _grids(arrays),
                    )
                    for i, (shown, arrays) in enumerate(waiting)
                }
        return {shown.key: self.encode(arrays, shown) for shown, arrays in waiting}

    def encode(self, arrays: Arrays, shown: Shown) -> VisionFeatures:
        """Raises ImageError where the encoder fails, or its features do not fill the places exactly."""
        with taking(shown.image, ENCODER):
            pooled, deep, form = self._encoded(arrays)
        most = self.rows_of(shown)
        copies = self.expansion.copies(shown.variety)
        for part in (pooled, *deep):
            if most is not None and len(part) != copies * most:
                raise Unequal(len(part) // copies, most, shown.image)
        # The first image's, where there are two: see `Expansion.copies`.
        return VisionFeatures(
            pooled[:most], tuple(layer[:most] for layer in deep), form, _grids(arrays)
        )

    def _tried(self, arrays: Arrays) -> tuple[Tensor, tuple[Tensor, ...], OutputForm]:
        """What `_encoded` gives; nothing where it fails for another reason than memory."""
        try:
            return self._encoded(arrays)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            return torch.empty(0, 0), (), OutputForm()

    def _encoded(self, arrays: Arrays) -> tuple[Tensor, tuple[Tensor, ...], OutputForm]:
        """(tokens, width) of all images, the same for the deep layers, and how they were given."""
        given = {name: self._moved(v) for name, v in arrays.values.items() if name in self._takes}
        out = self._encode(**given, return_dict=True)
        form = OutputForm.of(out)
        self._kind = form.kind
        deep = [_rows(layer[1] if form.layers else layer) for layer in _deep(out)]
        pooled = deep[0] if form.field is None else _rows(out[form.field])
        return pooled, tuple(deep), form

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device

    def laid(self, features: VisionFeatures) -> LaidFeatures:
        form = features.form
        tensors = {f"{DEEP}{i}": layer for i, layer in enumerate(features.deep)}
        if form.field is not None:
            tensors[POOLED] = features.pooled
        tensors |= {f"{GRID}{name}": value for name, value in features.grids.items()}
        about = {"field": form.field, "in_list": form.in_list, "layers": form.layers}
        return LaidFeatures(tensors, about)

    def taken_up(self, laid: LaidFeatures) -> VisionFeatures | None:
        # A class is not read from a disk: it is known since the model was tried, when it was loaded.
        if self._kind is None:
            return None
        named = {n: v for n, v in laid.tensors.items() if not n.startswith(GRID)}
        own = {name: value.to(self.device) for name, value in named.items()}
        deep = tuple(own[f"{DEEP}{i}"] for i in range(len(own) - (POOLED in own)))
        about = laid.about
        form = OutputForm(self._kind, about["field"], about["in_list"], tuple(about["layers"]))
        pooled = deep[0] if form.field is None else own[POOLED]
        grids = {n.removeprefix(GRID): v for n, v in laid.tensors.items() if n.startswith(GRID)}
        return VisionFeatures(pooled, deep, form, grids)

    def encoding(self) -> Any:
        """What takes the arrays by name and gives their features as `pooler_output`."""
        return self.model.base_model.get_image_features

    def rows_of(self, shown: Shown) -> int | None:
        """How many embeddings there must be; None = as many as the model has for an image."""
        return shown.tokens

    def _moved(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        dtype = self.model.dtype if value.is_floating_point() else value.dtype
        return value.to(self.model.device, dtype)


def injected(features: Sequence[VisionFeatures]) -> dict[str, Any] | None:
    """What transformers takes as `mm_encoder_outputs`: embeddings in reading order."""
    if not features:
        return None
    form = features[0].form
    pooled: Any = [part.pooled for part in features]
    if not form.in_list:
        # (1, tokens, width): some models count the first two sizes, the others only the elements.
        pooled = torch.cat(pooled)[None]
    layers = zip(*(part.deep for part in features), strict=True)
    return {"image": form.output(pooled, [list(layer) for layer in layers])}


def _deep(out: Any) -> Sequence[Any]:
    return getattr(out, "deepstack_features", None) or ()


def _grids(arrays: Arrays) -> dict[str, Tensor]:
    return {name: value for name, value in arrays.values.items() if name in GRIDS}


def _rows(found: Any) -> Tensor:
    """One (tokens, width) of whatever shape or list a model gives."""
    parts = [found] if isinstance(found, Tensor) else list(found)
    return torch.cat([part.reshape(-1, part.shape[-1]) for part in parts])
