"""Scores of the next word in float32, where a model's head and what it is given are of half precision.

Such products are summed in float32 and rounded at their end: in bfloat16, scores of 16 to 32 are multiples of
0.125 and those of a hundred likely words fall on fifty values, so that choices tie. Here they stay as summed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

BLOCK = 16 << 20
"""Bytes of weights that are held in float32 at a time, where no product of half precision gives float32."""
HALF = (torch.bfloat16, torch.float16)


def wide_scores(hidden: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(…, width) x (words, width) -> (…, words) in float32, of tensors of half precision.

    weight, bias: whole, or split over ranks by their words.
    """
    if split_by_words(weight):
        from emu2eval.adapters.local.shares import local, whole_words

        own = None if bias is None else local(bias)
        return whole_words(wide_scores(hidden, local(weight), own), weight)
    rows = hidden.reshape(-1, hidden.shape[-1])
    # CUDA has it since torch 2.8, the CPU not yet.
    if rows.is_cuda and hasattr(torch.ops.aten.mm, "dtype"):
        found = torch.mm(rows, weight.t(), out_dtype=torch.float32)
    else:
        found = _in_blocks(rows.float(), weight)
    if bias is not None:
        found += bias
    return found.view(*hidden.shape[:-1], -1)


def split_by_words(weight: Any) -> bool:
    """Whether each rank has some of the words of a head, and for all of them the whole width."""
    placements: tuple[Any, ...] = getattr(weight, "placements", ())
    return len(placements) == 1 and placements[0].is_shard(0)


def _in_blocks(rows: Tensor, weight: Tensor) -> Tensor:
    words, width = weight.shape
    step = max(1, BLOCK // (width * 4))
    found = rows.new_empty(len(rows), words)
    for at in range(0, words, step):
        found[:, at : at + step] = rows @ weight[at : at + step].float().t()
    return found


@contextmanager
def exact_scores(model: Any, keep: int) -> Iterator[None]:
    """Within it, the model's head gives float32, and only of the last `keep` positions.

    A head in float32 is left as it is, and so is one that is more than a linear layer: quantized, adapted.
    """
    head = model.get_output_embeddings()
    weight: Any = getattr(head, "weight", None)
    known = type(weight) in (Tensor, nn.Parameter) or split_by_words(weight)
    plain = type(head) is nn.Linear and known
    if not plain or weight.dtype not in HALF:
        yield
        return

    def forward(hidden: Tensor) -> Tensor:
        # A hook brings the weights of an offloaded head.
        weight, bias = head.weight, head.bias
        last = hidden[:, -keep:] if hidden.dim() == 3 else hidden
        if last.dtype != weight.dtype:
            return nn.functional.linear(last, weight, bias)
        return wide_scores(last, weight, bias)

    # accelerate's hook stands in for `forward`, and calls what stood there before.
    name = "_old_forward" if hasattr(head, "_hf_hook") else "forward"
    before = vars(head).get(name)
    setattr(head, name, forward)
    try:
        yield
    finally:
        if before is None:
            delattr(head, name)
        else:
            setattr(head, name, before)
