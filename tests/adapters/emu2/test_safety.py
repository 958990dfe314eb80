"""The safety checker: what it is shown, and that its verdict is Stable Diffusion's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image
from transformers import CLIPConfig
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from emu2eval.adapters.emu2.safety import SafetyChecker

SIDE = 32


@pytest.fixture
def checker() -> SafetyChecker:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    vision = {**sizes, "num_attention_heads": 2, "image_size": SIDE, "patch_size": 8}
    torch.manual_seed(0)
    model = StableDiffusionSafetyChecker(
        CLIPConfig(projection_dim=8, vision_config={**vision, "projection_dim": 8})
    )
    return SafetyChecker(model)


def image(size: tuple[int, int], seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(noise)


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (96, 40), (41, 97), (50, 33)])
def test_it_sees_what_clip_sees(
    checker: SafetyChecker, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []

    def record(clip_input: torch.Tensor, images: torch.Tensor) -> tuple[None, list[bool]]:
        shown.append(clip_input)
        return None, [False]

    monkeypatch.setattr(checker.model, "forward", record)
    checker.flagged([image(size)])
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    )
    wanted = processor(image(size), return_tensors="pt").pixel_values
    assert shown[0].shape == wanted.shape
    torch.testing.assert_close(shown[0], wanted, atol=1e-5, rtol=0)


def test_each_image_has_its_own_verdict(checker: SafetyChecker) -> None:
    images = [image((SIDE, SIDE), seed) for seed in range(6)]
    model = checker.model
    with torch.no_grad():
        # One concept lies exactly where the third image is; nothing else is near any.
        model.concept_embeds.copy_(torch.zeros_like(model.concept_embeds))
        model.special_care_embeds.copy_(torch.zeros_like(model.special_care_embeds))
        seen: list[torch.Tensor] = []
        hook = model.visual_projection.register_forward_hook(lambda *call: seen.append(call[2]))
        checker.flagged(images)
        hook.remove()
        model.concept_embeds[4] = seen[2][0]
        model.concept_embeds_weights.fill_(0.999)
        model.special_care_embeds_weights.fill_(0.999)
    similar = torch.nn.functional.cosine_similarity(seen[2], torch.cat(seen))
    expected = [bool(s > 0.999) for s in similar]
    assert expected[2]
    assert checker.flagged(images) == expected
    assert checker.flagged(images[2:3]) == [True]
