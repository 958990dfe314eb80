"""Attention of many rows over keys and values that they share, which are stored and multiplied once.

It stands in for transformers' "sdpa" in a decoder, and is that wherever rows share nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from emu2eval.adapters.local import kernels
from emu2eval.adapters.local.private import attention_of, can_set_attention, set_attention

NAME = "emu2eval_shared"
"""The name under which `attend` is registered with transformers."""

Segments = tuple[Tensor, ...]
"""What rows attend to, in order: keys or values of (R, heads, length, width), where R divides the rows.

Row i reads row i // (rows / R) of a segment: a single row serves all rows, the row of a prompt all its beams.
"""


def register() -> str:
    """Makes `attend` known to transformers; gives its name."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    return NAME


def install(model: Any) -> bool:
    """Makes a model's decoder take segments; False where its attention is another than "sdpa"."""
    config = model.config.get_text_config(decoder=True)
    decoders = [
        module
        for module in model.modules()
        if isinstance(module, PreTrainedModel) and module.config is config
    ]
    able = all(can_set_attention(decoder) for decoder in decoders)
    # Layers that take their keys from another layer look for them in the cache itself.
    able = able and not getattr(config, "num_kv_shared_layers", 0)
    if attention_of(config) != "sdpa" or not decoders or not able:
        return attention_of(config) == NAME
    set_attention(config, register())
    return True


def remove(model: Any) -> None:
    """Gives a decoder its own attention back."""
    set_attention(model.config.get_text_config(decoder=True), "sdpa")


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor | Segments,
    value: Tensor | Segments,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """query: (rows, heads, new, width); returns (rows, new, heads, width).

    attention_mask: (rows, 1, new, length), of all positions or only of those after the first segments,
    which all rows see whole; None = causal.
    """
    if isinstance(key, Tensor) or isinstance(value, Tensor):
        assert isinstance(key, Tensor) and isinstance(value, Tensor)
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **more
        )
    if any(more.get(name) is not None for name in ("softcap", "position_bias", "s_aux")):
        raise NotImplementedError("attention with more than a scale and a mask: use `reuse: false`")
    rows, heads, new, width = query.shape
    lengths = [part.shape[2] for part in key]
    if _joins(query):
        whole = _whole(attention_mask, lengths, query)
        joined = (_joined(key, rows), _joined(value, rows))
        return sdpa_attention_forward(module, query, *joined, whole, scaling=scaling, **more)
    kinds = key[-1].shape[1]
    group = heads // kinds
    scale = width**-0.5 if scaling is None else scaling
    # Heads that share keys are further queries of one head; rows that share keys, of one row.
    own = query.reshape(rows, kinds, group * new, width)
    seen, sums = [], []
    masks: list[Tensor | None]
    if attention_mask is None and 1 < new == lengths[-1]:
        # The kernel's own triangle is quicker than a mask that says the same.
        keys, values = (part[-1].repeat_interleave(group, 1) for part in (key, value))
        found, total = kernels.part(query, keys, values, None, scale, causal=True)
        seen.append(found.reshape(rows, kinds, group * new, -1))
        sums.append(total.reshape(rows, kinds, group * new))
        key, value, masks = key[:-1], value[:-1], [None] * (len(key) - 1)
    else:
        masks = _masks(attention_mask, lengths, own, group)
    for keys, values, mask in zip(key, value, masks, strict=True):
        held = keys.shape[0]
        asked = own.reshape(held, -1, kinds, group * new, width).transpose(1, 2)
        wide = None if mask is None else mask.reshape(held, 1, -1, mask.shape[-1])
        found, total = kernels.part(
            asked.reshape(held, kinds, -1, width), keys, values, wide, scale
        )
        seen.append(_spread(found.reshape(held, kinds, -1, group * new, width), rows))
        sums.append(_spread(total.reshape(held, kinds, -1, group * new), rows))
    # In float32, so that what is put together is rounded once more and no oftener.
    weights = torch.stack(sums).softmax(0)
    result = seen.pop(0) * weights[0, ..., None]
    for weight in weights[1:]:
        result += seen.pop(0) * weight[..., None]
    result = result.to(query.dtype)
    return result.reshape(rows, heads, new, -1).transpose(1, 2).contiguous(), None


def _spread(found: Tensor, rows: int) -> Tensor:
    """(held, kinds, rows / held, …) -> (rows, kinds, …)."""
    return found.transpose(1, 2).reshape(rows, found.shape[1], *found.shape[3:])


def _joins(query: Tensor) -> bool:
    """Whether torch's attention over a copy of all keys needs less than the scores of many queries.

    Where a fused kernel gives what is needed to put parts together, nothing is copied.
    """
    return query.shape[2] > query.shape[3] and not kernels.right(query)


def _joined(segments: Segments, rows: int) -> Tensor:
    return torch.cat([part.repeat_interleave(rows // part.shape[0], 0) for part in segments], 2)


def _whole(mask: Tensor | None, lengths: Sequence[int], query: Tensor) -> Tensor:
    """The mask of all positions, (rows, 1, new, length)."""
    if mask is None:
        mask = _causal(query.shape[0], query.shape[2], lengths[-1], query)
    before = sum(lengths) - mask.shape[-1]
    return functional.pad(mask, (before, 0), value=float(mask.dtype == torch.bool))


def _causal(rows: int, new: int, length: int, query: Tensor) -> Tensor:
    causal = torch.ones(new, length, dtype=torch.bool, device=query.device)
    return causal.tril(length - new).expand(rows, 1, -1, -1)


def _masks(
    mask: Tensor | None, lengths: Sequence[int], query: Tensor, group: int
) -> list[Tensor | None]:
    """What is added to the scores of each segment, (rows, 1, group * new, length); None = nothing."""
    rows, new = query.shape[0], query.shape[2] // group
    if mask is None and new > 1:
        mask = _causal(rows, new, lengths[-1], query)
    if mask is None:
        return [None] * len(lengths)
    if mask.dtype == torch.bool:
        mask = torch.where(mask, *_seen_and_hidden(query))
    # A step of decoding is short of launches, not of memory: none for what a view can say.
    mask = mask.expand(-1, -1, group, -1) if new == 1 else mask.repeat(1, 1, group, 1)
    found: list[Tensor | None] = []
    left = mask.shape[-1]
    for length in reversed(lengths):
        found.append(mask[..., left - length : left] if left else None)
        left -= length if left else 0
    return found[::-1]


def _seen_and_hidden(query: Tensor) -> tuple[Tensor, Tensor]:
    """What is added to a score. Not infinity: a padding row that sees nothing would turn into NaN."""
    place = query.device, query.dtype
    found = _KEPT.get(place)
    if found is None:
        found = query.new_zeros(()), query.new_full((), torch.finfo(query.dtype).min / 2)
        if type(query) is Tensor:  # one without data is nobody else's
            _KEPT[place] = found
    return found


_KEPT: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}
