"""Into how many ranks a language model can be split, by its configuration alone (tensor parallelism).

Each rank holds so many whole heads of every layer, so the number of ranks divides that of the heads, and that
of the heads of keys and values.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from emu2eval.errors import ConfigError


def degrees(config: Any) -> tuple[int, ...]:
    """The numbers of ranks above one, ascending. config: of the decoder, transformers' or Emu2's own.

    >>> from types import SimpleNamespace
    >>> degrees(SimpleNamespace(num_attention_heads=52))
    (2, 4, 13, 26, 52)
    >>> degrees(SimpleNamespace(num_attention_heads=28, num_key_value_heads=4))
    (2, 4)
    """
    heads = math.gcd(*(count for _, count in _heads(config)))
    return tuple(n for n in range(2, heads + 1) if heads % n == 0)


def check_degree(count: int, config: Any, where: str | Path) -> None:
    """Raises ConfigError for a decoder whose heads cannot be dealt to so many ranks."""
    able = degrees(config)
    if count in able:
        return
    what, heads = next(each for each in _heads(config) if each[1] % count)
    raise ConfigError(
        f"this model's {heads:,} {what} cannot be split over {count} ranks (tensor_parallel: {count})",
        where=where,
        hint=f"tensor_parallel: {' or '.join(map(str, able))}"
        if able
        else "remove tensor_parallel",
    )


def check_gpus(count: int, here: int) -> None:
    """Raises ConfigError where there are GPUs, but fewer than ranks. here: GPUs that can be used."""
    if 0 < here < count:
        raise ConfigError(
            f"tensor_parallel: {count} needs a GPU for each rank, but {here} {'is' if here == 1 else 'are'} "
            "visible",
            hint=f"tensor_parallel: {here}" if here > 1 else "remove tensor_parallel",
        )


def _heads(config: Any) -> list[tuple[str, int]]:
    """What is dealt out whole, and how many there are, of all layers."""
    each = getattr(config, "per_layer_config", None)
    layers = [config] if each is None else [each[n] for n in range(config.num_hidden_layers)]
    found: dict[tuple[str, int], None] = {}
    for layer in layers:
        for name, what in _KINDS.items():
            value = getattr(layer, name, None)
            for count in value if isinstance(value, list | tuple) else (value,):
                if count:
                    found[what, count] = None
    return [*found]


_KINDS = {
    "num_attention_heads": "attention heads",
    "num_key_value_heads": "heads of keys and values",
    "num_global_key_value_heads": "heads of keys and values in global layers",
}
