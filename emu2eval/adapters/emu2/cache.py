"""A key/value cache in segments, so that what several rows share is computed and stored once.

A few-shot prompt is the same for all queries (fixed demonstrations), and a query's prompt is the same
for its five beams or its hundred choices. Keys and values of the 33B decoder take 1.6 MB a position
in bf16: 3.3 GB for a full context, which copying to every beam would multiply.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ATTENTION = "emu2_segments"
"""The name under which `attend` is registered with transformers."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Keys and values of some positions, one (rows, heads, length, head_dim) a layer.

    valid: (rows, length), False at padding. A segment of R rows serves N rows where R divides N: row i
    reads row i // (N / R). So one row serves everybody, and a sample's row serves all its beams.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    valid: Tensor

    @property
    def rows(self) -> int:
        return self.valid.shape[0]

    @property
    def length(self) -> int:
        return self.valid.shape[1]

    @property
    def nbytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in (*self.keys, *self.values))

    def head(self, length: int) -> Segment:
        """The first `length` positions, without a copy."""
        return self._map(lambda t: t[:, :, :length], self.valid[:, :length])

    def row(self, index: int) -> Segment:
        """One row, without its padding."""
        keep = self.valid[index]
        valid = self.valid[index : index + 1, keep]
        return self._map(lambda t: t[index : index + 1, :, keep.to(t.device)], valid)

    def then(self, other: Segment) -> Segment:
        """The positions of this segment followed by those of another with as many rows."""
        return Segment(
            tuple(torch.cat(pair, 2) for pair in zip(self.keys, other.keys, strict=True)),
            tuple(torch.cat(pair, 2) for pair in zip(self.values, other.values, strict=True)),
            torch.cat([self.valid, other.valid], 1),
        )

    def _map(self, change: Any, valid: Tensor) -> Segment:
        return Segment(tuple(map(change, self.keys)), tuple(map(change, self.values)), valid)


class SegmentedCache:
    """What transformers' LLaMA calls `past_key_values`: closed segments, then one that grows."""

    def __init__(self, shared: Sequence[Segment] = ()):
        self.shared = tuple(shared)
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self.valid: Tensor | None = None

    def admit(self, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Announces new positions, (rows, new) and False at left padding.

        Gives their attention mask (rows, 1, new, all) and their position ids (rows, new).
        """
        rows, new = valid.shape
        past = [s.valid.repeat_interleave(rows // s.rows, 0) for s in self.shared]
        if self.valid is not None:
            past.append(self.valid)
        before = torch.cat(past, 1) if past else valid[:, :0]
        position = before.sum(1, keepdim=True) + valid.long().cumsum(1) - 1
        causal = torch.ones(new, new, dtype=torch.bool, device=valid.device).tril()
        # Padding sees itself: a row of the mask without any True would turn into NaN.
        own = torch.eye(new, dtype=torch.bool, device=valid.device)
        inside = (causal & valid[:, None, :]) | own
        mask = torch.cat([before[:, None, :].expand(-1, new, -1), inside], 2)
        self.valid = valid if self.valid is None else torch.cat([self.valid, valid], 1)
        return mask[:, None], position.clamp(min=0)

    def update(
        self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Called by every attention layer: all keys and values it may see, segment by segment."""
        if layer == len(self.keys):
            self.keys.append(key)
            self.values.append(value)
        else:
            self.keys[layer] = torch.cat([self.keys[layer], key], 2)
            self.values[layer] = torch.cat([self.values[layer], value], 2)
        return (
            (*(s.keys[layer] for s in self.shared), self.keys[layer]),
            (*(s.values[layer] for s in self.shared), self.values[layer]),
        )

    def close(self) -> tuple[Segment, ...]:
        """Every segment, the grown one included."""
        if self.valid is None:
            return self.shared
        return (*self.shared, Segment(tuple(self.keys), tuple(self.values), self.valid))

    def reorder(self, rows: Tensor) -> None:
        """Row i goes on from row rows[i]; the closed segments stay, so rows move within a sample only."""
        if self.valid is None:
            return
        self.keys = [k.index_select(0, rows.to(k.device)) for k in self.keys]
        self.values = [v.index_select(0, rows.to(v.device)) for v in self.values]
        self.valid = self.valid.index_select(0, rows.to(self.valid.device))


def attend(
    module: nn.Module,
    query: Tensor,
    keys: tuple[Tensor, ...],
    values: tuple[Tensor, ...],
    attention_mask: Tensor,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention over segments. query: (N, heads, new, head_dim); returns (N, new, heads, head_dim)."""
    rows, _heads, new, width = query.shape
    scale = width**-0.5 if scaling is None else scaling
    if new > width or (len(keys) == 1 and keys[0].shape[0] == rows):
        # Long queries: the fused kernel on joined keys needs less memory than the scores themselves.
        seen = F.scaled_dot_product_attention(
            query, _joined(keys, rows), _joined(values, rows), attention_mask, scale=scale
        )
        return seen.transpose(1, 2).contiguous(), None
    scores = torch.cat([_grouped(query, k.transpose(2, 3), rows) for k in keys], -1) * scale
    scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    seen = torch.zeros_like(query)
    start = 0
    for value in values:
        stop = start + value.shape[2]
        seen = seen + _grouped(weights[..., start:stop], value, rows)
        start = stop
    return seen.transpose(1, 2).contiguous(), None


def _joined(segments: tuple[Tensor, ...], rows: int) -> Tensor:
    if len(segments) == 1:
        return segments[0]
    return torch.cat([s.repeat_interleave(rows // s.shape[0], 0) for s in segments], 2)


def _grouped(left: Tensor, right: Tensor, rows: int) -> Tensor:
    """left (N, heads, new, a) @ right (R, heads, a, b): rows that share a right make one product."""
    shared, group = right.shape[0], rows // right.shape[0]
    heads, new, inner = left.shape[1:]
    stacked = left.reshape(shared, group, heads, new, inner).transpose(1, 2)
    product: Tensor = stacked.reshape(shared, heads, group * new, inner) @ right
    product = product.reshape(shared, heads, group, new, -1).transpose(1, 2)
    return product.reshape(rows, heads, new, -1)
