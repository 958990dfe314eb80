"""What is private to transformers and used here all the same: what a release changes of it, stands here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor


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
