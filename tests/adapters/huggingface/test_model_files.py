"""Every shipped model file of this adapter: it validates, and its settings are the adapter's."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
from PIL import Image

from emu2eval import registry
from emu2eval.spec import catalog
from emu2eval.spec.model import ModelSpec, load_model


def shipped() -> list[ModelSpec]:
    return [
        spec for spec in map(load_model, catalog.names("model")) if spec.adapter == "huggingface"
    ]


@pytest.mark.parametrize("spec", shipped(), ids=lambda spec: spec.name)
def test_file(spec: ModelSpec) -> None:
    factory = registry.find("adapter", spec.adapter)
    registry.check_options(spec.name, factory, spec.settings)
    assert spec.settings["checkpoint"].count("/") == 1
    assert spec.settings["layout"] in ("chat", "plain")
    assert "positions" in spec.about and "We have not run its real weights" in spec.about
    assert spec.licence and spec.source.startswith("https://huggingface.co/")
    assert spec.settings["checkpoint"] in spec.source


def test_the_families() -> None:
    names = {spec.name for spec in shipped()}
    assert len(names) >= 27
    assert {"idefics", "kosmos-2", "molmo2", "qwen3-vl", "qwen3.5", "gemma-4", "pixtral"} <= names


TILED = {"crop_to_patches": True}
SEEN: dict[str, tuple[str, dict[str, Any], tuple[int, ...], tuple[int, ...]]] = {
    "aya-vision": ("GotOcr2ImageProcessorPil", TILED, (13, 3, 384, 384), (1, 3, 384, 384)),
    "command-a-vision": ("Cohere2VisionImageProcessor", {}, (7, 3, 512, 512), (1, 3, 512, 512)),
    "gemma-4": (
        "Gemma4ImageProcessorPil",
        {"max_soft_tokens": 560},
        (1, 5040, 768),
        (1, 2520, 768),
    ),
    "glm-4.6v": ("Glm46VImageProcessorPil", {}, (6256, 1176), (2436, 1176)),
    "internvl3.5": ("GotOcr2ImageProcessorPil", TILED, (13, 3, 384, 384), (1, 3, 384, 384)),
    "lfm2-vl": ("Lfm2VlImageProcessor", {}, (7, 1024, 768), (1, 1024, 768)),
    "llama-4-scout": ("Llama4ImageProcessor", {}, (13, 3, 336, 336), (1, 3, 336, 336)),
    "minicpm-v-4.6": (
        "MiniCPMV4_6ImageProcessorPil",
        {},
        (1, 3, 14, 100128),
        (1, 3, 14, 14112),
    ),
    "mistral-small-3": (
        "PixtralImageProcessorPil",
        {"patch_size": 28},
        (1, 3, 784, 1036),
        (1, 3, 420, 560),
    ),
    "ovis2": ("Ovis2ImageProcessorPil", TILED, (13, 3, 384, 384), (1, 3, 384, 384)),
    "qwen3.5": (
        "Qwen2VLImageProcessorPil",
        {"patch_size": 16, "size": {"shortest_edge": 65536, "longest_edge": 16777216}},
        (6000, 1536),
        (4968, 1536),
    ),
    "smolvlm2": ("SmolVLMImageProcessorPil", {}, (1, 13, 3, 364, 364), (1, 1, 3, 364, 364)),
}
"""The image processor's class, what its checkpoint sets, and the arrays of an image without our settings and
with them."""


@pytest.mark.parametrize("name", SEEN)
def test_the_image_options_are_the_processors_own(name: str) -> None:
    """Each does what its file says: fewer tiles, or fewer pixels."""
    import transformers

    kind, own, usual, most = SEEN[name]
    if not kind.endswith("Pil") and importlib.util.find_spec("torchvision") is None:
        pytest.skip("needs torchvision")
    processor = getattr(transformers, kind)(**own)
    size = (1600, 960) if name == "qwen3.5" else (1280, 960)
    image, options = Image.new("RGB", size), load_model(name).settings["image_options"]
    assert processor([image], return_tensors="pt")["pixel_values"].shape == usual
    assert processor([image], return_tensors="pt", **options)["pixel_values"].shape == most
