"""How many GPUs share one copy of a model behind an engine: as few as hold it, as many as its heads allow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

from emu2eval.adapters.memory import GIB, DeviceUse, MemoryPlan, ReplicaFit
from emu2eval.adapters.served.engines import Engine, plain
from emu2eval.errors import DoesNotFit

SHARE = 0.75
"""Of a card, for weights: an engine needs the rest for keys and values, activations and graphs."""
TAKEN = 0.9
"""Of a card, in all: vLLM's gpu_memory_utilization."""

_SPREAD = frozenset(
    "tensor_parallel_size tp_size tp pipeline_parallel_size pp_size pp data_parallel_size dp_size dp".split()
)


def asked_for(options: Mapping[str, Any]) -> int | None:
    """GPUs that the user's options ask for; None where none of them says anything.

    >>> asked_for({"tp-size": 2, "dp_size": 2}), asked_for({"max_model_len": 8192})
    (4, None)
    """
    given = [value for key, value in options.items() if plain(key) in _SPREAD]
    return prod(value for value in given if isinstance(value, int)) if given else None


def shared_by(
    engine: Engine, gpus: int, config: Mapping[str, Any], options: Mapping[str, Any]
) -> dict[str, int]:
    """The option that spreads a model over GPUs, unless the user says how: the most of them that divide its
    heads.

    config: the checkpoint's config.json.
    """
    if engine.gpus is None or asked_for(options) is not None:
        return {}
    size = next((size for size in range(gpus, 1, -1) if _divides(size, config)), 1)
    return {} if size == 1 else {engine.gpus: size}


def fewest(
    engine: Engine,
    weights: int,
    devices: Sequence[int],
    config: Mapping[str, Any],
    options: Mapping[str, Any],
    batch: int,
) -> ReplicaFit:
    """The fewest GPUs that hold a copy. weights, devices: bytes of the checkpoint's files and of each GPU.

    Raises DoesNotFit.
    """
    budget, asked = min(devices), asked_for(options)
    for gpus in range(1, len(devices) + 1):
        if asked is not None:
            fits = gpus == asked
        else:
            whole = engine.gpus is None or _divides(gpus, config)
            fits = whole and weights <= gpus * SHARE * budget
        if fits:
            each = weights // gpus
            cache = max(0, int(TAKEN * budget) - each)
            uses = tuple(
                DeviceUse(number, each, cache, 0, 0, budget, (engine.name,))
                for number in range(gpus)
            )
            plan = MemoryPlan(uses, "the checkpoint's precision", None, None, batch, 1)
            return ReplicaFit(gpus, len(devices) // gpus, batch, plan)
    if asked is not None:
        raise DoesNotFit(
            f"the engine's options ask for {asked} GPUs, and there are {len(devices)}",
            hint="remove them, and as many as are needed are taken",
        )
    raise DoesNotFit(
        f"the weights take {weights / GIB:,.0f} GiB, more than {SHARE:.0%} of {len(devices)} GPUs of "
        f"{budget / GIB:,.0f} GiB that can share them",
        hint="use more or larger GPUs, or a quantized checkpoint; to try it all the same: "
        "--set model.settings.options.tensor_parallel_size=N",
    )


def _divides(size: int, config: Mapping[str, Any]) -> bool:
    """A head is never cut, and heads of keys and values are shared out evenly, or copied so.

    >>> config = {"num_attention_heads": 28, "num_key_value_heads": 4}
    >>> [size for size in range(1, 9) if _divides(size, config)]
    [1, 2, 4]
    """
    return all(
        heads % size == 0 and (keys % size == 0 or size % keys == 0)
        for heads, keys in _heads(config)
    )


def _heads(config: Mapping[str, Any]) -> Iterator[tuple[int, int]]:
    """(attention heads, key-value heads) of each part of a model that says them."""
    heads = config.get("num_attention_heads") or config.get("num_heads")
    if isinstance(heads, int) and heads > 0:
        keys = config.get("num_key_value_heads")
        yield heads, keys if isinstance(keys, int) and keys > 0 else heads
    for name in ("text_config", "vision_config", "thinker_config", "llm_config"):
        inner = config.get(name)
        if isinstance(inner, Mapping):
            yield from _heads(inner)
