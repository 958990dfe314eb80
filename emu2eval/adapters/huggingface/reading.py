"""A vision-language model of transformers as a reader of prompts, by what transformers offers for it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache, GenerationConfig

from emu2eval.adapters.huggingface.features import VisionEncoder, injected
from emu2eval.adapters.local.encoded import Encoded
from emu2eval.adapters.local.finite import best_are_finite, check_scores, refuse_scores
from emu2eval.adapters.local.head import exact_scores
from emu2eval.adapters.local.private import positions_for, prefilled
from emu2eval.adapters.local.reading import Reader, Rows
from emu2eval.adapters.local.sampling import Draws
from emu2eval.adapters.local.search import Found, Search

if TYPE_CHECKING:
    from emu2eval.adapters.local.rank import Rank

Processor = Callable[[Tensor, Tensor], Tensor]
"""(ids so far, scores of the next word, (rows, words)) -> scores, as `generate` calls it."""


class Finite:
    """Leaves the scores as they are, and knows whether an answer can be made of them. That is asked for once,
    at the end: no token waits for its device to say so."""

    def __init__(self) -> None:
        self._all: Tensor | None = None

    def __call__(self, _: Tensor, scores: Tensor) -> Tensor:
        found = best_are_finite(scores)
        self._all = found if self._all is None else self._all & found
        return scores

    def check(self) -> None:
        """Raises NotFinite."""
        if self._all is not None and not self._all:
            refuse_scores()


def penalised(penalty: float, mask: Tensor) -> Processor:
    """transformers' repetition penalty, for words of the prompt and of the answer; of no padding, which it
    counts where the others of a batch are longer. mask: (rows, length), 0 at padding."""

    def process(ids: Tensor, scores: Tensor) -> Tensor:
        real = torch.ones_like(ids, dtype=scores.dtype)
        real[:, : mask.shape[1]] = mask
        seen = torch.zeros_like(scores).scatter_reduce(1, ids, real, "amax") > 0
        return torch.where(
            seen, torch.where(scores < 0, scores * penalty, scores / penalty), scores
        )

    return process


def chosen(draws: Draws) -> Processor:
    """Leaves the drawn word alone, which transformers' greedy search then takes."""

    def process(_: Tensor, scores: Tensor) -> Tensor:
        known = scores.float().cpu()
        check_scores(known)
        drawn = torch.tensor(draws(known), device=scores.device)[:, None]
        return torch.full_like(scores, -torch.inf).scatter(1, drawn, 0.0)

    return process


class TransformersReader(Reader[VisionEncoder]):
    """Searches by transformers' own `generate`, so that answers are those of its documentation.

    ends: ids that end an answer. marks: ids that are an image's for the model: its places and, in some
    families, what frames them. rank: which of the processes that hold the model together this one is.
    """

    rank: Rank | None = None

    def __init__(
        self,
        model: Any,
        encoder: VisionEncoder,
        pad: int,
        segments: bool,
        ends: Sequence[int],
        marks: Sequence[int],
    ):
        super().__init__(model, encoder, pad, segments)
        self.ends = list(ends)
        self.marks = torch.tensor(marks)
        self._takes = set(inspect.signature(model.forward).parameters)

    @property
    def speaker(self) -> Any:
        """The part of the model whose `generate` is used."""
        return self.model

    @property
    def config(self) -> Any:
        return self.model.config.get_text_config(decoder=True)

    def read(
        self,
        rows: Rows,
        sequences: Sequence[Encoded],
        cache: DynamicCache,
        start: int,
        stop: int,
        keep: int = 1,
    ) -> Tensor:
        inputs = self._inputs(rows, sequences, cache, start, stop, keep)
        with exact_scores(self.speaker, keep):
            logits: Tensor = self.model(**inputs, return_dict=True).logits
        return logits[:, -keep:]

    def _inputs(
        self,
        rows: Rows,
        sequences: Sequence[Encoded],
        cache: DynamicCache,
        start: int,
        stop: int,
        keep: int,
    ) -> dict[str, Any]:
        """What the model's own code makes of a pass over those positions."""
        given: dict[str, Any] = {
            "past_key_values": cache,
            "use_cache": True,
            "is_first_iteration": True,
            "next_sequence_length": stop - start,
            "logits_to_keep": keep,
            **self.images(rows, sequences, start, stop),
            **self._types(rows.ids[:, :stop]),
        }
        if rows.padded:
            given["attention_mask"] = rows.mask[:, :stop]
        if rows.positions is not None:
            given["position_ids"] = rows.positions[..., :stop]
        found: dict[str, Any] = self.model.prepare_inputs_for_generation(
            rows.ids[:, :stop], **given
        )
        return found

    @cached_property
    def pads(self) -> bool:
        """Not where a model drops the positions it is given, and counts its cache's places, padding among
        them (EXAONE 4.5, HyperCLOVA X)."""
        one = Encoded((self.pad,) * 2, (False,) * 2)
        rows = self.rows([one])
        if rows.positions is None:
            return True
        return self._inputs(rows, [one], self.cache(), 0, 2, 1).get("position_ids") is not None

    def generate(
        self,
        rows: Rows,
        sequences: Sequence[Encoded],
        cache: DynamicCache,
        first: Tensor,
        search: Search,
        keys: Sequence[str] = (),
    ) -> list[Found]:
        if search.beams > 1:
            cache = self.spread(cache, search.beams)
        finite = Finite()
        processors: list[Processor] = [finite]
        if self.rank is not None:
            rank = self.rank
            processors.insert(0, lambda _, scores: rank.first_scores(scores))
        if search.repetition_penalty != 1.0:
            mask = rows.mask.repeat_interleave(search.beams, 0)
            processors.append(penalised(search.repetition_penalty, mask))
        if search.sampling is not None:
            processors.append(chosen(Draws(search.sampling, keys, self.ends)))
        with prefilled(self.speaker, first), exact_scores(self.speaker, 1):
            out = self.continued(rows, sequences, cache, self._generation(search), processors)
        finite.check()
        return [Found.cut(ids, self.ends) for ids in out[:, rows.length :].tolist()]

    def continued(
        self,
        rows: Rows,
        sequences: Sequence[Encoded],
        cache: DynamicCache,
        config: Any,
        processors: list[Processor],
    ) -> Tensor:
        """(rows, length): the prompts' ids and the answers' behind them."""
        positions = {} if rows.positions is None else {"position_ids": rows.positions}
        found: Tensor = self.model.generate(
            input_ids=rows.ids,
            attention_mask=rows.mask,
            past_key_values=cache,
            generation_config=config,
            logits_processor=processors,
            **positions,
            **self.beside(rows, sequences),
        )
        return found

    def images(
        self, rows: Rows, sequences: Sequence[Encoded], start: int, stop: int
    ) -> dict[str, Any]:
        """How a pass over those positions is given the images in them."""
        shown = self.between(rows, sequences, start, stop)
        return {"mm_encoder_outputs": injected([self.encoder.held(one) for one in shown])}

    def beside(self, rows: Rows, sequences: Sequence[Encoded]) -> dict[str, Any]:
        """What a model must see of the prompts besides its cache while it answers."""
        return {}

    def positions(self, given: Sequence[Tensor], sequences: Sequence[Encoded]) -> Tensor | None:
        if "position_ids" not in self._takes:
            return None
        ids, mask = given
        grids: dict[str, list[Tensor]] = {}
        for one in sequences:
            for shown in one.shown:
                for name, value in self.encoder.held(shown).grids.items():
                    grids.setdefault(name, []).append(value)
        known = {name: torch.cat(found).to(ids.device) for name, found in grids.items()}
        kwargs = {"input_ids": ids, "attention_mask": mask, **self._types(ids), **known}
        return positions_for(self.model, ids, kwargs)

    def _types(self, ids: Tensor) -> dict[str, Tensor]:
        names = ("token_type_ids", "mm_token_type_ids")
        types = torch.isin(ids, self.marks.to(ids.device)).long()
        return {name: types for name in names if name in self._takes}

    def _generation(self, search: Search) -> Any:
        config: Any = GenerationConfig
        return config(
            do_sample=False,
            num_beams=search.beams,
            max_new_tokens=search.max_new_tokens,
            min_new_tokens=search.min_new_tokens or None,
            length_penalty=search.length_penalty,
            pad_token_id=self.pad,
            eos_token_id=self.ends,
        )
