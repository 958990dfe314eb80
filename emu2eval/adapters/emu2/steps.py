"""Steps of decoding that are all alike: fixed memory, no shape that depends on how far an answer is.

So a GPU can record one as a graph and replay it, where the host would launch some thousand kernels for each.
Keys and values stay where they were written, in one segment for all beams of a prompt; a mask says which of
them a beam goes back to, so that beams part by numbers of a mask and not by moving keys.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from emu2eval.adapters.emu2.model import Emu2
from emu2eval.adapters.local.cache import Pair, RoomyLayer
from emu2eval.adapters.local.reading import Rows

BLOCK = 32
"""Steps that memory is set aside for at a time."""


class AnswerSegments:
    """Keys and values of answers on top of those of their prompts, in the place of a cache.

    Those of a layer: (prompts, heads, steps, beams, width).
    """

    def __init__(self, prompts: DynamicCache, beams: int):
        self.beams = beams
        self.before = [_known(layer) for layer in prompts.layers]
        self.own = [
            (_empty(keys[-1], beams), _empty(values[-1], beams)) for keys, values in self.before
        ]
        devices = dict.fromkeys(keys.device for keys, _ in self.own)
        self.at = {device: torch.zeros(1, dtype=torch.long, device=device) for device in devices}

    def grow(self, steps: int) -> None:
        self.own = [(_grown(keys, steps, 2), _grown(values, steps, 2)) for keys, values in self.own]

    def update(
        self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Writes those of a step, (rows, heads, 1, width); gives all, as segments."""
        for own, new in zip(self.own[layer], (keys, values), strict=True):
            beams = new[:, :, 0].view(-1, self.beams, new.shape[1], new.shape[3]).transpose(1, 2)
            own.index_copy_(2, self.at[own.device], beams[:, :, None])
        (keys_before, values_before), (own_keys, own_values) = self.before[layer], self.own[layer]
        return (*keys_before, own_keys.flatten(2, 3)), (*values_before, own_values.flatten(2, 3))

    def next_step(self) -> None:
        for at in self.at.values():
            at += 1


class Steps:
    """The logits after each token, as `decoding.Advance`; most: tokens that are asked for.

    rows, prompts: the prompts and the cache that holds them. Recorded where `recordable`.
    """

    def __init__(self, model: Emu2, prompts: DynamicCache, rows: Rows, beams: int, most: int):
        self.model = model
        self.most = most
        self.taken = self.room = 0
        count = len(rows.ids) * beams
        self.answers = AnswerSegments(prompts, beams)
        self.tokens = torch.zeros(count, 1, dtype=torch.long, device=model.device)
        self.parents = torch.zeros(count, dtype=torch.long, device=model.device)
        ends = rows.mask.sum(1, keepdim=True)  # padding has no position
        self.positions = ends.repeat_interleave(beams, 0).to(model.device)
        # Added to scores; not infinity, since a kernel could make NaN of it.
        self.hidden = torch.finfo(model.dtype).min / 2
        self.mask = self._padding(prompts, rows).repeat_interleave(beams, 0)
        self.padding = self.mask.shape[-1]
        own = torch.full((beams, 1, beams), self.hidden, dtype=model.dtype, device=model.device)
        own.diagonal(dim1=0, dim2=2).fill_(0)
        self.own = own.expand(len(rows.ids), -1, -1, -1)
        self.records = recordable(model)
        self._graph: Any = None
        self._logits: Tensor | None = None

    def __call__(self, tokens: Tensor, parents: Tensor) -> Tensor:
        if self.taken == self.room:
            self._grow()
        self.tokens.copy_(tokens[:, None])
        self.parents.copy_(parents)
        self.taken += 1
        # The first step wakes what a recording must not: libraries, and kernels that are tried.
        if not self.records or self.taken == 1:
            return self._step()
        if self._graph is None:
            self._record()
        self._graph.replay()
        assert self._logits is not None
        return self._logits

    def _record(self) -> None:
        """Nothing is computed: what is launched becomes a graph. `torch.cuda.graph` would first give the GPU
        back what is set aside on it, which is too much for each batch."""
        cuda: Any = torch.cuda
        graph, aside, now = cuda.CUDAGraph(), _aside(self.model.device), cuda.current_stream()
        aside.wait_stream(now)
        with cuda.stream(aside):
            # Threads that prepare images may set memory aside meanwhile.
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                self._logits = self._step()
            finally:
                graph.capture_end()
        now.wait_stream(aside)
        self._graph = graph

    def _step(self) -> Tensor:
        seen = self.mask[..., self.padding :]
        seen.copy_(seen.index_select(0, self.parents))
        at = self.answers.at[self.mask.device]
        shape = (*self.own.shape[:2], self.room, self.own.shape[3])
        seen.view(shape).index_copy_(2, at, self.own)
        embeds = self.model.embed(self.tokens)
        hidden = self.model.decoder(embeds, self.mask, self.positions, self.answers)
        logits = self.model.logits(hidden[:, -1])
        self.positions += 1
        self.answers.next_step()
        return logits

    def _grow(self) -> None:
        more = min(BLOCK, self.most - self.taken)
        self.answers.grow(more)
        self.mask = _grown(self.mask, more * self.answers.beams, 3, self.hidden)
        self.room += more
        # What was recorded is at home in the memory before.
        self._graph = self._logits = None

    def _padding(self, prompts: DynamicCache, rows: Rows) -> Tensor:
        """What hides padding, (prompts, 1, 1, places that not all share); no place without padding."""
        _, shared = prompts.get_mask_sizes(1, 0)
        known = rows.mask[:, shared:] if rows.padded else rows.mask[:, :0]
        mask = torch.zeros(known.shape, dtype=self.model.dtype, device=self.model.device)
        return mask.masked_fill_(known == 0, self.hidden)[:, None, None]


@cache
def _aside(device: torch.device) -> Any:
    """The stream on which steps are recorded: one, since each has a workspace of its own."""
    cuda: Any = torch.cuda
    return cuda.Stream(device)


def recordable(model: Emu2) -> bool:
    """Whether a step is nothing but work of one GPU: no other device, no weights that are quantised."""
    weights = [*model.decoder.parameters()]
    one = len({weight.device for weight in weights}) == 1 and weights[0].is_cuda
    # A weight that is split over ranks is no plain tensor.
    plain = all(type(weight) in (Tensor, nn.Parameter) for weight in weights)
    return one and plain and all(weight.is_floating_point() for weight in weights)


def _known(layer: Any) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    assert isinstance(layer, RoomyLayer)
    pairs: tuple[Pair, ...] = layer.pairs(layer.get_seq_length())
    keys, values = zip(*pairs, strict=True)
    return keys, values


def _empty(like: Tensor, beams: int) -> Tensor:
    rows, heads, _, width = like.shape
    return like.new_empty(rows, heads, 0, beams, width)


def _grown(held: Tensor, more: int, dim: int, value: float = 0.0) -> Tensor:
    """With so many more places, which hold the value: what is hidden must be a number, too."""
    shape = list(held.shape)
    shape[dim] = more
    return torch.cat([held, held.new_full(shape, value)], dim)
