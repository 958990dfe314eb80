"""What weights of 8 and 4 bits take, by bitsandbytes (arXiv 2208.07339 and 2305.14314)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

Bits = Literal[8, 4]
BLOCK = 64
"""Weights that share one scale in 4 bits; bitsandbytes' default."""


def quantized_bytes(shape: Sequence[int], bits: Bits) -> int:
    """What a quantised weight takes with its float32 scales: one a row in 8 bits, one a block in 4.

    >>> quantized_bytes((2, 64), 8), quantized_bytes((2, 64), 4)
    (136, 72)
    """
    count = math.prod(shape)
    return count + 4 * shape[0] if bits == 8 else count // 2 + 4 * -(-count // BLOCK)
