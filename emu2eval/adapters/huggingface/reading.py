"""Prompts into keys and values: left-padded batches on top of a beginning that they share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from emu2eval.adapters.encoded import Encoded, Shown
from emu2eval.adapters.huggingface.features import Features, injected
from emu2eval.adapters.huggingface.roomy import roomy_cache


@dataclass(frozen=True)
class Rows:
    """A batch of sequences. ids, mask, types: (rows, length); types is 1 where an image stands.

    positions: what the model makes of them, (rows, length) or with a dimension in front.
    """

    ids: Tensor
    mask: Tensor
    types: Tensor
    positions: Tensor | None
    padded: bool

    @property
    def length(self) -> int:
        return self.ids.shape[1]


class Reader:
    """Runs a model over some positions of a batch. features: of an image, already computed.

    marks: ids that are an image's for the model: its places and, in some families, what frames them.
    segments: its attention takes what rows share apart from what they do not.
    """

    pads: ClassVar[bool] = True
    """Whether rows of a batch may be padded; if not, prompts of one length are asked together."""

    def __init__(
        self,
        model: Any,
        features: Callable[[Shown], Features],
        pad: int,
        marks: Sequence[int],
        segments: bool = False,
    ):
        self.model = model
        self.features = features
        self.pad = pad
        self.segments = segments and self.croppable
        self.marks = torch.tensor(marks)
        self._takes = set(inspect.signature(model.forward).parameters)

    @cached_property
    def croppable(self) -> bool:
        """Whether keys and values of a beginning can be cut from those of a longer one."""
        layers = DynamicCache(config=self._text_config).layers
        names = {type(layer).__name__ for layer in layers}
        return names <= {"DynamicLayer", "DynamicSlidingWindowLayer"}

    @cached_property
    def slides(self) -> bool:
        """Whether a layer sees a window of the latest positions, padding among them counted."""
        layers = DynamicCache(config=self._text_config).layers
        return any(type(layer).__name__ != "DynamicLayer" for layer in layers)

    def cache(self) -> DynamicCache:
        """Empty. One that keeps every position where that is possible: the masks see to windows."""
        return roomy_cache() if self.croppable else DynamicCache(config=self._text_config)

    def above(self, cache: DynamicCache, rows: int, length: int) -> DynamicCache:
        """A cache for so many rows on top of the first `length` positions of a cache of one row."""
        if self.segments:
            layers: Any = cache.layers
            return roomy_cache((layer.pairs(length) for layer in layers), self.slides)
        own = deepcopy(cache)
        beyond = own.get_seq_length() - length
        if beyond:
            own.crop(-beyond)
        own.batch_repeat_interleave(rows)
        return own

    def rows(self, sequences: Sequence[Encoded], shared: int = 0, right: bool = False) -> Rows:
        """The sequences as a batch: their first `shared` places, padding, the rest.

        right: pad there instead, for sequences whose ends alone differ.
        """
        length = max(map(len, sequences))
        ids = np.full((len(sequences), length), self.pad)
        mask, types = np.zeros_like(ids), np.zeros_like(ids)
        for row, one in enumerate(sequences):
            at = len(one) if right else shared
            end = at + length - len(one)
            for table, values in ((ids, one.ids), (types, one.slots), (mask, (1,) * len(one))):
                table[row, :at], table[row, end:] = values[:at], values[at:]
        device = self.model.device
        i, m, t = (torch.from_numpy(part).to(device) for part in (ids, mask, types))
        padded = any(len(one) < length for one in sequences)
        return Rows(i, m, t, self._positions((i, m), sequences), padded)

    def read(
        self,
        rows: Rows,
        sequences: Sequence[Encoded],
        cache: DynamicCache,
        start: int,
        stop: int,
        keep: int = 1,
    ) -> Tensor:
        """Adds the keys and values of those positions; the logits of the last `keep`, (rows, keep, words)."""
        given: dict[str, Any] = {
            "past_key_values": cache,
            "use_cache": True,
            "is_first_iteration": True,
            "next_sequence_length": stop - start,
            "logits_to_keep": keep,
            **self._images(rows, sequences, start, stop),
            **self._types(rows.ids[:, :stop]),
        }
        if rows.padded:
            given["attention_mask"] = rows.mask[:, :stop]
        if rows.positions is not None:
            given["position_ids"] = rows.positions[..., :stop]
        inputs = self.model.prepare_inputs_for_generation(rows.ids[:, :stop], **given)
        logits: Tensor = self.model(**inputs, return_dict=True).logits
        return logits[:, -keep:]

    def generate(
        self, rows: Rows, sequences: Sequence[Encoded], cache: DynamicCache, config: Any
    ) -> Tensor:
        """Answers to prompts of which all positions but the last are in the cache: their ids behind the
        prompts', (rows, length). A search with beams finds its rows repeated in the cache already."""
        positions = {} if rows.positions is None else {"position_ids": rows.positions}
        found: Tensor = self.model.generate(
            input_ids=rows.ids,
            attention_mask=rows.mask,
            past_key_values=cache,
            generation_config=config,
            **positions,
            **self._beside(rows, sequences),
        )
        return found[:, rows.length :]

    def _images(
        self, rows: Rows, sequences: Sequence[Encoded], start: int, stop: int
    ) -> dict[str, Any]:
        """How a pass over those positions is given the images in them."""
        shown = self._between(rows, sequences, start, stop)
        return {"mm_encoder_outputs": injected([self.features(one) for one in shown])}

    def _beside(self, rows: Rows, sequences: Sequence[Encoded]) -> dict[str, Any]:
        """What a model must see of the prompts besides its cache while it answers."""
        return {}

    def _between(
        self, rows: Rows, sequences: Sequence[Encoded], start: int, stop: int
    ) -> list[Shown]:
        """The images whose slots lie there, row by row. Nobody cuts through an image."""
        found = []
        for row, one in enumerate(sequences):
            # Slots are counted, for padding moves them: the images before, then those within.
            before = int(rows.types[row, :start].sum())
            within = int(rows.types[row, start:stop].sum())
            seen = 0
            for shown in one.shown:
                if before <= seen < before + within:
                    found.append(shown)
                seen += shown.tokens
        return found

    def _types(self, ids: Tensor) -> dict[str, Tensor]:
        names = ("token_type_ids", "mm_token_type_ids")
        types = torch.isin(ids, self.marks.to(ids.device)).long()
        return {name: types for name in names if name in self._takes}

    def _positions(self, given: Sequence[Tensor], sequences: Sequence[Encoded]) -> Tensor | None:
        if "position_ids" not in self._takes:
            return None
        ids, mask = given
        grids: dict[str, list[Tensor]] = {}
        for one in sequences:
            for shown in one.shown:
                for name, value in self.features(shown).grids.items():
                    grids.setdefault(name, []).append(value)
        known = {name: torch.cat(found).to(ids.device) for name, found in grids.items()}
        kwargs = {"input_ids": ids, "attention_mask": mask, **self._types(ids), **known}
        found: Tensor = self.model._prepare_position_ids_for_generation(ids, kwargs)
        return found

    @property
    def _text_config(self) -> Any:
        return self.model.config.get_text_config(decoder=True)
