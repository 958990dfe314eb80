"""Attention to some of a row's positions, with the logarithm of the sum of its weights, by fused kernels.

torch's public function keeps these sums to itself, without which parts cannot be put together; the operators
behind it give them, and are private. So each is compared with a plain product, once for a device, dtype and
width of heads, before it is used; where none is right, the plain product takes its place (`scored`).

cuDNN's kernel and `flex_attention` give the sums too, and build a plan or compile for each new length.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

SCORES = 1 << 26
"""Scores of queries and keys that are held at a time where no kernel is fused: 256 MiB."""
APART = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""How far a kernel's results may be from exact ones, for values of a standard deviation of 1."""

Attended = tuple[Tensor, Tensor]
"""(rows, heads, queries, width) and the logarithms of the sums, (rows, heads, queries) in float32."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """An operator of torch. Its `run` is called as `part` is."""

    name: str
    device: str
    takes: Callable[[Tensor, Tensor, Tensor | None], bool]
    run: Callable[[Tensor, Tensor, Tensor, Tensor | None, float, bool], Attended]


def part(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None,
    scale: float,
    causal: bool = False,
) -> Attended:
    """query: (rows, heads, queries, width); keys and values: (rows, heads, length, width).

    mask: added to the scores, (rows, 1, queries, length). causal: query i sees the first i + 1 keys.
    """
    for kernel in right(query):
        if kernel.takes(query, values, mask):
            return kernel.run(query, keys, values, mask, scale, causal)
    return scored(query, keys, values, mask, scale, causal)


def right(query: Tensor) -> tuple[Kernel, ...]:
    """The kernels that give right results for such queries, the quickest first."""
    device, dtype, width = query.device, query.dtype, query.shape[-1]
    known = _RIGHT.get((device, dtype, width))
    if known is None:
        here = (kernel for kernel in KERNELS if kernel.device == device.type)
        known = tuple(kernel for kernel in here if is_right(kernel, device, dtype, width))
        _RIGHT[device, dtype, width] = known
    return known


_RIGHT: dict[tuple[torch.device, torch.dtype, int], tuple[Kernel, ...]] = {}


def is_right(kernel: Kernel, device: torch.device, dtype: torch.dtype, width: int) -> bool:
    """Whether a kernel gives what exact products do; not where it does not run. Warns of a wrong one."""
    random, tried = torch.Generator().manual_seed(0), False
    for new, length, causal in ((5, 37, False), (1, 300, False), (7, 7, True)):
        # Laid out as a decoder's are: position by position.
        made = [
            torch.randn(2, n, 3, width, generator=random).to(dtype).transpose(1, 2)
            for n in (new, length, length)
        ]
        hidden = torch.rand(2, 1, new, length, generator=random) < 0.5
        hides = torch.zeros(hidden.shape, dtype=dtype)
        hides.masked_fill_(hidden, torch.finfo(dtype).min / 2)
        for mask in (None,) if causal else (None, hides):
            query, keys, values = (each.to(device) for each in made)
            given = None if mask is None else mask.to(device)
            if not kernel.takes(query, values, given):
                continue
            tried = True
            try:
                found = kernel.run(query, keys, values, given, width**-0.5, causal)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:  # not for this card, dtype or width
                return False
            exact = [each.double() for each in (*made, *(() if mask is None else (mask,)))]
            wanted = _exact(*exact, scale=width**-0.5, causal=causal)
            apart = max(
                float((a.cpu().double() - b).abs().nan_to_num(torch.inf).max())
                for a, b in zip(found, wanted, strict=True)
            )
            if apart > APART.get(dtype, 0.0):
                warnings.warn(
                    f"torch's {kernel.name} attention is wrong by {apart:.2g} here ({device}, {dtype}, heads "
                    f"of {width}) and is not used",
                    stacklevel=2,
                )
                return False
    return tried


def _exact(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None = None,
    *,
    scale: float,
    causal: bool,
) -> Attended:
    scores = query @ keys.mT * scale
    if mask is not None:
        scores = scores + mask
    if causal:
        scores = scores.masked_fill(~_triangle(scores), -torch.inf)
    return scores.softmax(-1) @ values, scores.logsumexp(-1)


def scored(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None,
    scale: float,
    causal: bool = False,
) -> Attended:
    """The same from the scores themselves, on any device; some of the queries at a time."""
    rows, kinds, new, _ = query.shape
    step = max(1, SCORES // (rows * kinds * keys.shape[2]))
    seen, sums = [], []
    for at in range(0, new, step):
        # In float32, as the fused kernels do it: these sums decide answers.
        scores = query[:, :, at : at + step].float() @ keys.float().transpose(2, 3) * scale
        if mask is not None:
            scores += mask[:, :, at : at + step]
        if causal:
            scores.masked_fill_(~_triangle(scores, at), -torch.inf)
        sums.append(scores.logsumexp(-1))
        weights = scores.sub_(sums[-1][..., None]).exp_()
        seen.append(weights.to(values.dtype) @ values)
    return torch.cat(seen, 2), torch.cat(sums, 2)


def _triangle(scores: Tensor, first: int = 0) -> Tensor:
    """(queries, length), True where a query sees a key; its first row is that of query `first`."""
    seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device)
    return seen.tril(first)


def _for_cpu(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float, causal: bool
) -> Attended:
    found: Attended = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, keys, values, is_causal=causal, attn_mask=mask, scale=scale
    )
    return found


def _flash(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float, causal: bool
) -> Attended:
    """It splits long keys over the card's processors, where a step of decoding has few queries."""
    seen, sums, *_ = torch.ops.aten._scaled_dot_product_flash_attention(
        query, keys, values, is_causal=causal, scale=scale
    )
    return seen, sums[:, :, : query.shape[2]]


def _efficient(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float, causal: bool
) -> Attended:
    rows, kinds, new, _ = query.shape
    if mask is not None:
        # The kernel reads 16 places of the mask at a time, so its rows begin at multiples of 16.
        length = keys.shape[2]
        wide = functional.pad(mask, (0, -length % 16))
        mask = wide[..., :length].expand(rows, kinds, new, length)
    seen, sums, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(
        query, keys, values, mask, True, is_causal=causal, scale=scale
    )
    # Its sums are padded to whole blocks of queries.
    return seen, sums[:, :, :new]


def widened(
    run: Callable[[Tensor, Tensor, Tensor, Tensor | None, float, bool], Attended],
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None,
    scale: float,
    causal: bool,
) -> Attended:
    """By a kernel that wants heads of whole 16 bytes: others get zeros behind them, which change nothing."""
    whole = 16 // query.element_size()
    width = values.shape[-1]
    if any(each.shape[-1] % whole for each in (query, keys, values)):
        query, keys, values = (
            functional.pad(each, (0, -each.shape[-1] % whole)) for each in (query, keys, values)
        )
    seen, sums = run(query, keys, values, mask, scale, causal)
    return seen[..., :width], sums


def _flash_takes(query: Tensor, values: Tensor, mask: Tensor | None) -> bool:
    half = query.dtype in (torch.float16, torch.bfloat16)
    return half and mask is None and query.shape[-1] == values.shape[-1] <= 256


KERNELS = (
    Kernel("CPU", "cpu", lambda query, values, mask: True, _for_cpu),
    Kernel("flash", "cuda", _flash_takes, partial(widened, _flash)),
    Kernel(
        "memory-efficient",
        "cuda",
        lambda query, values, mask: query.dtype != torch.float64,
        partial(widened, _efficient),
    ),
)
"""In the order in which they are tried."""
