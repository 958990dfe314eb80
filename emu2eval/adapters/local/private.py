"""What is private to transformers and used here all the same: what a release changes of it, stands here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import DynamicCache
from transformers.utils.generic import ModelOutput


def attention_of(config: Any) -> str | None:
    """The name of the attention that a configuration's model uses."""
    name: str | None = config._attn_implementation
    return name


def set_attention(config: Any, name: str) -> None:
    """Its model uses that attention from the next pass on."""
    config._attn_implementation = name


def can_set_attention(module: Any) -> bool:
    """Whether the module's layers look their attention up by name."""
    return bool(module._can_set_attn_implementation())


def merged_options(processor: Any, images: Mapping[str, Any]) -> dict[str, Any]:
    """A processor's own options under those for its image half. Raises whatever it does at a wrong one."""
    merged: dict[str, Any] = processor._merge_kwargs(
        tokenizer_init_kwargs=processor.tokenizer.init_kwargs, images_kwargs=images
    )
    return merged


def image_step(processor: Any) -> Callable[..., tuple[Mapping[str, Any], list[str]]]:
    """What a processor does with images alone: (images, options) -> arrays and a text for each."""
    step: Callable[..., tuple[Mapping[str, Any], list[str]]] = processor._process_images
    return step


def positions_for(model: Any, ids: Tensor, given: Mapping[str, Any]) -> Tensor:
    """The positions that `generate` would begin with, as the model has them."""
    found: Tensor = model._prepare_position_ids_for_generation(ids, given)
    return found


def made_of(kind: Any, parts: Callable[[Any], list[Any]]) -> Any:
    """The processor's class, `from_pretrained` of which takes its parts from that call with the folder."""

    class Made(kind):  # type: ignore[misc]
        @classmethod
        def _get_arguments_from_pretrained(cls, where: Any, *_: Any, **__: Any) -> list[Any]:
            return parts(where)

    return Made


@dataclass
class Prefilled(ModelOutput):
    """What `generate` wants of the pass over a prompt. logits: (rows, 1, words)."""

    logits: Tensor | None = None
    past_key_values: DynamicCache | None = None
    image_hidden_states: Any = None


@contextmanager
def prefilled(model: Any, logits: Tensor) -> Iterator[None]:
    """Within it, the model's `generate` goes on from the cache that it is given, which holds all of its
    prompts, and from the logits of their last positions, (rows, words), rather than read these again."""

    def prefill(ids: Tensor, config: Any, given: Mapping[str, Any], **_: Any) -> Prefilled:
        # Beams begin as so many copies of a row.
        rows = logits.repeat_interleave(len(ids) // len(logits), 0)
        aside = given.get("image_hidden_states")  # IDEFICS hands it on from pass to pass
        return Prefilled(rows[:, None], given["past_key_values"], aside)

    model._prefill = prefill
    try:
        yield
    finally:
        del model._prefill


def compiled_template(processor: Any) -> Any:
    """A processor's chat template, compiled; None where it has several, or it is kept elsewhere."""
    from transformers.utils import chat_template_utils

    compiled = getattr(chat_template_utils, "_compile_jinja_template", None)
    source = getattr(processor, "chat_template", None)
    return compiled(source) if compiled is not None and isinstance(source, str) else None


def parallel_plan(model: Any) -> dict[str, str]:
    """How each weight and module of a model of transformers is split over ranks, by its name."""
    plan: dict[str, str] = model._expand_parallel_plan(model.tp_plan)
    return plan


def exchanges() -> int:
    """How many exchanges with other ranks this process has begun; 0 outside of a group."""
    import torch.distributed as dist

    if not dist.is_initialized():
        return 0
    groups: Any = dist.distributed_c10d._world.pg_map
    return sum(group._get_sequence_number_for_group() for group in groups)


def local_place(weight: Any) -> tuple[slice, ...]:
    """Where this rank's share of a distributed tensor lies in the whole."""
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    shape, start = compute_local_shape_and_global_offset(
        weight.shape, weight.device_mesh, weight.placements
    )
    return tuple(slice(at, at + size) for at, size in zip(start, shape, strict=True))
