"""The safety checker that ships with Emu2-Gen: Stable Diffusion's, CLIP ViT-L/14 against fixed concepts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from emu2eval.adapters.emu2.sdxl import SAFETY_CHECKER
from emu2eval.adapters.emu2.vision import pixels


class SafetyChecker:
    """model: diffusers' StableDiffusionSafetyChecker."""

    def __init__(self, model: Any):
        self.model = model.eval().requires_grad_(False)
        self.side = int(model.config.vision_config.image_size)

    @torch.inference_mode()
    def flagged(self, images: Sequence[Image.Image]) -> list[bool]:
        """True for each image that must not be shown; one at a time."""
        return [self._flagged(image) for image in images]

    def _flagged(self, image: Image.Image) -> bool:
        weight = self.model.visual_projection.weight
        prepared = pixels(_centre(image, self.side), self.side)[None]
        prepared = prepared.to(weight.device, weight.dtype)
        # It blackens what it is given as `images`; the painter does that itself.
        return bool(self.model(clip_input=prepared, images=torch.zeros(1, 1))[1][0])


def empty_checker() -> Any:
    """The published checker's module with its parameters on the meta device, to be filled."""
    from accelerate import init_empty_weights
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    with init_empty_weights(include_buffers=False):
        return StableDiffusionSafetyChecker(CLIPConfig(**SAFETY_CHECKER))


def _centre(image: Image.Image, side: int) -> Image.Image:
    """CLIP's view: the shorter edge resized to `side`, bicubic, and the middle square of it."""
    short = min(image.size)
    width, height = (int(side * edge / short) for edge in image.size)
    small = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - side) // 2, (height - side) // 2
    return small.crop((left, top, left + side, top + side))
