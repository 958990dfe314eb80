"""Attention of many rows over keys and values that they share, which are stored and multiplied once.

It stands in for transformers' "sdpa" in the decoder, and is that wherever rows share nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "emu2eval_shared"
"""The name under which `attend` is registered with transformers."""
SCORES = 1 << 26
"""Scores of queries and keys that are held at a time: 256 MiB."""

Segments = tuple[Tensor, ...]
"""What rows attend to: some of one row, (1, heads, length, width), for everybody; then each row's own."""


def install(model: Any) -> bool:
    """Makes the decoder's attention take segments; False where it has another than "sdpa"."""
    config = model.config.get_text_config(decoder=True)
    decoders = [
        module
        for module in model.modules()
        if isinstance(module, PreTrainedModel) and module.config is config
    ]
    able = all(decoder._can_set_attn_implementation() for decoder in decoders)
    # Layers that take their keys from another layer look for them in the cache itself.
    able = able and not getattr(config, "num_kv_shared_layers", 0)
    if config._attn_implementation != "sdpa" or not decoders or not able:
        return bool(config._attn_implementation == NAME)
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    config._attn_implementation = NAME
    return True


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

    attention_mask: (rows, 1, new, length), of all positions or only of those after the shared ones,
    which then everybody sees; None = causal.
    """
    if isinstance(key, Tensor) or isinstance(value, Tensor):
        assert isinstance(key, Tensor) and isinstance(value, Tensor)
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **more
        )
    if any(more.get(name) is not None for name in ("softcap", "position_bias", "s_aux")):
        raise NotImplementedError("attention with more than a scale and a mask: use `reuse: false`")
    rows, heads, new, width = query.shape
    kinds = key[-1].shape[1]
    group = heads // kinds
    scale = width**-0.5 if scaling is None else scaling
    # Heads that share keys are further queries of one head; rows that share keys, of one row.
    own = query.reshape(rows, kinds, group * new, width)
    shared = own.transpose(0, 1).reshape(1, kinds, rows * group * new, width)
    seen, sums = [], []
    masks = _masks(attention_mask, [part.shape[2] for part in key], own, group)
    for keys, values, mask in zip(key[:-1], value[:-1], masks, strict=False):
        wide = None if mask is None else mask.reshape(1, 1, -1, mask.shape[-1])
        found, total = _part(shared, keys, values, wide, scale)
        seen.append(found.view(kinds, rows, group * new, -1).transpose(0, 1))
        sums.append(total.view(kinds, rows, group * new).transpose(0, 1))
    found, total = _part(own, key[-1], value[-1], masks[-1], scale)
    weights = torch.stack([*sums, total]).softmax(0).to(query.dtype)
    result = (torch.stack([*seen, found]) * weights[..., None]).sum(0)
    return result.view(rows, heads, new, -1).transpose(1, 2).contiguous(), None


def _masks(
    mask: Tensor | None, lengths: Sequence[int], query: Tensor, group: int
) -> list[Tensor | None]:
    """What is added to the scores of each segment, (rows, 1, group * new, length); None = nothing."""
    rows, new = query.shape[0], query.shape[2] // group
    if mask is None and new > 1:
        causal = torch.ones(new, lengths[-1], dtype=torch.bool, device=query.device)
        mask = causal.tril(lengths[-1] - new).expand(rows, 1, -1, -1)
    if mask is None:
        return [None] * len(lengths)
    if mask.dtype == torch.bool:
        # Not infinity: a padding row that sees nothing would turn into NaN.
        hidden = torch.finfo(query.dtype).min / 2
        mask = query.new_zeros(mask.shape).masked_fill_(~mask, hidden)
    mask = mask.repeat(1, 1, group, 1)
    if mask.shape[-1] == lengths[-1]:
        return [*[None] * (len(lengths) - 1), mask]
    return list(torch.split(mask, list(lengths), -1))


def _part(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """Attention to some of the positions, and the logarithm of the sum of its weights, by query."""
    if query.device.type != "cpu":
        return scored(query, keys, values, mask, scale)
    # What torch's public function calls on the CPU; it alone gives the sums.
    seen, sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, keys, values, attn_mask=mask, scale=scale
    )
    return seen, sums


def scored(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """The same from the scores themselves, on any device."""
    rows, kinds, new, _ = query.shape
    step = max(1, SCORES // (rows * kinds * keys.shape[2]))
    seen, sums = [], []
    for at in range(0, new, step):
        # In float32, as the fused kernels do it: these sums decide answers.
        scores = query[:, :, at : at + step].float() @ keys.float().transpose(2, 3) * scale
        if mask is not None:
            scores += mask[:, :, at : at + step]
        sums.append(scores.logsumexp(-1))
        weights = scores.sub_(sums[-1][..., None]).exp_()
        seen.append(weights.to(values.dtype) @ values)
    return torch.cat(seen, 2), torch.cat(sums, 2)
