"""Every vision-language family of transformers: whether it can be evaluated here, what it needs, why not.

A family a line; shown by tiny models with random weights (tests/adapters/huggingface/test_families.py). With
real weights none was run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["works", "refused", "untried"]

RELEASE = "5.23"
"""The release of transformers that the table was checked against."""


@dataclass(frozen=True, slots=True)
class Family:
    """model_type: as a config.json has it. packages: what transformers wants for it besides torch and Pillow.

    works: equal to the family's own processor and model. refused: why no few-shot prompt can be asked, or how
    it would differ. untried: why no tiny model of it was made or was found equal.
    """

    model_type: str
    verdict: Verdict = "works"
    packages: tuple[str, ...] = ()
    why: str = ""

    @property
    def standing(self) -> str:
        """works, needs, refused or untried."""
        return "needs" if self.verdict == "works" and self.packages else self.verdict


def find(model_type: str) -> Family | None:
    """The line of a family; None for one that the table does not know."""
    return _BY_NAME.get(model_type)


def _refused(model_type: str, why: str, *packages: str) -> Family:
    return Family(model_type, "refused", packages, why)


def _untried(model_type: str, why: str, *packages: str) -> Family:
    return Family(model_type, "untried", packages, why)


_PIXELS = (
    "its class encodes images only in the pass that reads them, so none can be encoded beforehand; beyond "
    "4,096 positions it discards what it has read"
)
_ONE_IMAGE = "it accepts a single image, with no others before it"

FAMILIES: tuple[Family, ...] = (
    Family("aria"),
    Family("aya_vision"),
    _refused("blip", _ONE_IMAGE),
    _refused("blip-2", _ONE_IMAGE),
    Family("chameleon"),
    Family("cohere2_vision", packages=("torchvision",)),
    Family("cohere_compass"),
    Family("cosmos3_edge"),
    Family("cosmos3_omni"),
    Family("deepseek_ocr2"),
    Family("deepseek_vl"),
    Family("deepseek_vl_hybrid"),
    _refused(
        "diffusion_gemma",
        "it generates blocks of words by diffusion, without next-word probabilities",
    ),
    Family("dots3_note"),
    Family("emu3", packages=("torchvision",)),
    Family("ernie4_5_vl_moe"),
    _refused("evolla", "it reads proteins, not images"),
    Family("exaone4_5"),
    Family("fast_vlm", packages=("torchvision", "timm")),
    _refused("florence2", _ONE_IMAGE),
    _refused("fuyu", _ONE_IMAGE),
    Family("gemma3"),
    Family("gemma3n", packages=("torchvision", "timm")),
    Family("gemma4"),
    Family("gemma4_unified", packages=("torchvision",)),
    _refused("git", _ONE_IMAGE),
    Family("glm46v"),
    Family("glm4v"),
    Family("glm4v_moe"),
    Family("glm5_next"),
    Family("glm_ocr"),
    Family("glmga"),
    Family("got_ocr2"),
    Family("granite4_vision"),
    Family("granite_docling"),
    Family("hunyuan_vl"),
    Family("hyperclovax_vision_v2"),
    Family("idefics"),
    Family("idefics2"),
    Family("idefics3"),
    Family("inkling2", packages=("torchvision",)),
    Family("inkling_mm_model", packages=("torchvision",)),
    _refused("instructblip", _ONE_IMAGE),
    _refused("instructblipvideo", _ONE_IMAGE),
    Family("internvl"),
    Family("janus"),
    Family("kimi_k25", packages=("torchvision",)),
    Family("kosmos-2"),
    _refused("kosmos-2.5", _ONE_IMAGE),
    Family("lfm2_vl", packages=("torchvision",)),
    Family("lfm3_vl"),
    Family("lighton_ocr"),
    Family("llama4", packages=("torchvision",)),
    Family("llava"),
    Family("llava_next"),
    Family("llava_next_video"),
    Family("llava_onevision"),
    Family("minicpm_ocr", packages=("torchvision",)),
    Family("minicpmv4_6", packages=("torchvision",)),
    Family("minicpmv4_7", packages=("torchvision",)),
    Family("minimax_m3_vl", packages=("torchvision",)),
    Family("mistral3"),
    _refused("mistral4", "it reads text only"),
    Family("mistral_large4"),
    Family("mllama"),
    Family("molmo2", packages=("torchvision",)),
    Family("muse_glimmer", packages=("torchvision",)),
    Family("muse_spark", packages=("torchvision",)),
    Family("nemotron_h_omni", packages=("torchvision",)),
    Family("ovis2"),
    Family("paddleocr_vl"),
    Family("paligemma"),
    Family("perception_lm", packages=("torchvision", "timm")),
    _refused("phi4_multimodal", _PIXELS),
    _refused("pi0", "it outputs robot movements, not text"),
    _refused("pix2struct", _ONE_IMAGE),
    _refused(
        "pp_chart2table",
        "it turns a single chart into a table, and its processor creates no image placeholders",
    ),
    _refused("pp_formulanet", "it turns a single image of a formula into LaTeX and reads no text"),
    Family("qianfan_ocr"),
    Family("qwen2_5_omni"),
    Family("qwen2_5_omni_thinker"),
    Family("qwen2_5_vl"),
    Family("qwen2_vl"),
    Family("qwen3_5"),
    Family("qwen3_5_moe"),
    Family("qwen3_omni_moe"),
    Family("qwen3_omni_moe_thinker"),
    Family("qwen3_vl"),
    Family("qwen3_vl_moe"),
    Family("qwen4_exp"),
    _refused(
        "shieldgemma2",
        "it classifies a single image with a fixed prompt: whether it violates a policy",
    ),
    Family("smolvlm"),
    Family("step3p7", packages=("torchvision",)),
    _refused("t5gemma2", "it is an encoder-decoder model, which is not supported"),
    _refused("udop", "it reads a single page with word boxes"),
    _refused(
        "unlimited_ocr",
        "its answer attends to the whole prompt but only to a window of itself, which no cache here "
        "supports",
        "torchvision",
    ),
    Family("video_llama_3"),
    Family("video_llava"),
    Family("vipllava"),
    _refused("vision-encoder-decoder", _ONE_IMAGE),
)  # fmt: skip

_BY_NAME = {family.model_type: family for family in FAMILIES}
