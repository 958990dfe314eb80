"""The options of the adapter for transformers' vision-language models."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, field

from emu2eval.adapters.local.settings import Count, LocalSettings

Backend = Literal["auto", "torchvision", "pillow"]
Layout = Literal["chat", "plain"]


class HuggingFaceSettings(LocalSettings, frozen=True, kw_only=True):
    """layout: "chat" = turns in the model's chat template, "plain" = one sequence, for base models; None
    = "chat" if the checkpoint has a template.

    images: the maximum number of images in a prompt; None = as many as fit.
    grid: True shows the demonstrations' images as numbered tiles of one image, including the query's if
    the model accepts only one; answers are marked "tiles".
    image_backend: the library that resizes images, torchvision or pillow, whose pixels differ slightly;
    auto = torchvision, the faster one, if it is installed and the model's image processor supports it.
    image_options: options of the image processor, such as {do_image_splitting: false}, {size:
    {longest_edge: 512}}.
    image_mark: the placeholder for an image in the plain layout; None = the processor's own.
    device_map, memory: as in transformers ("auto", "cuda:1", a mapping; {0: 20GiB, cpu: 60GiB}).
    adapter: the folder of an adapter trained with PEFT, such as LoRA; it is merged into the weights
    unless they are quantized.
    attention: the implementation, such as sdpa or flash_attention_2.
    thinking: tokens on top of the task's, for models that think before they answer; the answer itself is cut
    at the task's. template_options: for the chat template, such as {enable_thinking: false}.
    trust_remote_code: True runs Python files that come with the checkpoint, if `--trust` is given as
    well.
    """

    layout: Layout | None = None
    images: Count | None = None
    grid: bool = False
    image_backend: Backend = "auto"
    image_options: dict[str, Any] = field(default_factory=dict)
    image_mark: str | None = None
    memory: dict[int | str, str] | None = None
    adapter: str | None = None
    attention: str | None = None
    thinking: Annotated[int, Meta(ge=0)] = 0
    template_options: dict[str, Any] = field(default_factory=dict)
    trust_remote_code: bool = False
