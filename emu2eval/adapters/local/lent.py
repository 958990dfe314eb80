"""A model of somebody else's, such as one in training: used as it lies in memory, given back as it was."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from emu2eval.errors import ModelError

_WRAPPERS = ("module", "_orig_mod")
"""Under what name DDP, DataParallel and DeepSpeed, and torch.compile, keep the model that they wrap."""


def unwrapped(model: nn.Module) -> Any:
    """The model itself, without what trains it; adapters of PEFT stay in place and active.

    Raises ModelError where no process holds all of its weights, or PEFT puts embeddings before the prompt.
    """
    _check_whole(model)
    inner: Any = model
    while (
        name := next((n for n in _WRAPPERS if n in dict(inner.named_children())), None)
    ) is not None:
        inner = inner.get_submodule(name)
    if hasattr(inner, "peft_config") and hasattr(inner, "get_base_model"):
        if getattr(getattr(inner, "active_peft_config", None), "is_prompt_learning", False):
            raise ModelError(
                "this PEFT adapter prepends learnt embeddings to the prompt, which is not supported",
                where=type(inner).__name__,
                hint="use another kind of adapter, such as LoRA",
            )
        inner = inner.get_base_model()
    return inner


def _check_whole(model: nn.Module) -> None:
    sharded = any(
        hasattr(weight, "ds_id") or type(weight).__name__ == "DTensor"
        for weight in model.parameters()
    )
    if sharded or any(type(m).__name__ == "FullyShardedDataParallel" for m in model.modules()):
        raise ModelError(
            "the weights of this model are spread over processes (FSDP, DeepSpeed ZeRO-3 or tensor "
            "parallel), so a single process cannot run it",
            where=type(model).__name__,
            hint="save a checkpoint and pass its folder as the model",
        )


@contextmanager
def as_before(model: nn.Module) -> Iterator[None]:
    """Puts the model into eval mode, without gradient checkpointing; afterwards everything is as it was.

    That is each submodule's attributes and buffers, among them its mode; configurations, with attention and
    use_cache; which weights want gradients; and the states of Python's, NumPy's and torch's random numbers.
    """
    restore = [*_attributes(model), *_gradients(model), *_randomness()]
    try:
        model.eval()
        for module in model.modules():
            if getattr(module, "gradient_checkpointing", False):
                module.gradient_checkpointing = False  # type: ignore[assignment]
        yield
    finally:
        for step in restore:
            step()


def _attributes(model: nn.Module) -> Iterator[Callable[[], None]]:
    kept: dict[int, dict[str, Any]] = {}
    for module in model.modules():
        # What it holds by name, too: buffers that were made in inference mode could not be trained with, and
        # transformers' hooks go with the attribute that says they are there.
        for own in (vars(module), *vars(module).values()):
            if isinstance(own, dict):
                kept[id(own)] = own
        for config in _configs(getattr(module, "config", None)):
            kept[id(vars(config))] = vars(config)
    for own in kept.values():
        yield _putting_back(own)


def _configs(config: Any) -> Iterator[Any]:
    """A configuration of transformers, and those inside it."""
    if hasattr(config, "model_type"):
        yield config
        for inner in vars(config).values():
            yield from _configs(inner)


def _putting_back(own: dict[str, Any]) -> Callable[[], None]:
    before = dict(own)

    def step() -> None:
        for name in own.keys() - before.keys():
            del own[name]
        own.update(before)

    return step


def _gradients(model: nn.Module) -> Iterator[Callable[[], None]]:
    wanted = [(weight, weight.requires_grad) for weight in model.parameters()]

    def step() -> None:
        for weight, wants in wanted:
            if weight.requires_grad != wants:
                weight.requires_grad_(wants)

    yield step


def _randomness() -> Iterator[Callable[[], None]]:
    python, cpu = random.getstate(), torch.get_rng_state()
    yield lambda: random.setstate(python)
    yield lambda: torch.set_rng_state(cpu)
    if torch.cuda.is_available():
        gpus = torch.cuda.get_rng_state_all()
        yield lambda: torch.cuda.set_rng_state_all(gpus)
    if "numpy" in sys.modules:
        import numpy

        legacy: Any = numpy.random.get_state()
        yield lambda: numpy.random.set_state(legacy)
