"""Into how many ranks a language model can be split, by its configuration alone (tensor parallelism).

Each rank holds so many whole heads of every layer, so the number of ranks divides that of the heads, and that
of the heads of keys and values.
"""

from __future__ import annotations

import math
from typing import Any


def degrees(config: Any) -> tuple[int, ...]:
    """The numbers of ranks above one, ascending. config: of the decoder, transformers' or Emu2's own.

    >>> from types import SimpleNamespace
    >>> degrees(SimpleNamespace(num_attention_heads=52))
    (2, 4, 13, 26, 52)
    >>> degrees(SimpleNamespace(num_attention_heads=28, num_key_value_heads=4))
    (2, 4)
    """
    heads = math.gcd(*heads_of(config))
    return tuple(n for n in range(2, heads + 1) if heads % n == 0)


def heads_of(config: Any) -> tuple[int, ...]:
    """The numbers of heads that are split: of queries, of keys and values, and those of layers that differ."""
    each = getattr(config, "per_layer_config", None)
    layers = [config] if each is None else [each[n] for n in range(config.num_hidden_layers)]
    found: list[int] = []
    for layer in layers:
        for name in ("num_attention_heads", "num_key_value_heads", "num_global_key_value_heads"):
            value = getattr(layer, name, None)
            found += value if isinstance(value, list | tuple) else [] if value is None else [value]
    return tuple(dict.fromkeys(found))
