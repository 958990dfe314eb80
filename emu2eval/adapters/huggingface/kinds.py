"""Families that take images in a way of their own; every other one takes them in place of tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from emu2eval.adapters.huggingface import (
    chameleon,
    emu3,
    ernie,
    got_ocr2,
    idefics,
    kosmos2,
    minicpm,
    mllama,
    molmo2,
    ovis2,
    paligemma,
)
from emu2eval.adapters.huggingface.expansion import Expansion
from emu2eval.adapters.huggingface.features import VisionEncoder
from emu2eval.adapters.huggingface.reading import TransformersReader


@dataclass(frozen=True, slots=True)
class Kind:
    """expansion: what the processor makes of an image. encoder, reader: of the weights.

    slot: the token that marks an image's places, where the configuration names none; such a family's
    model takes its images as its own reader gives them.
    """

    expansion: type[Expansion] = Expansion
    encoder: type[VisionEncoder] = VisionEncoder
    reader: type[TransformersReader] = TransformersReader
    slot: str | None = None

    def places(self, config: Any) -> bool:
        """Whether an image has places among the tokens."""
        return self.slot is not None or getattr(config, "image_token_id", None) is not None

    def slot_of(self, config: Any, tokenizer: Any) -> int:
        """The id that marks an image's places."""
        return int(
            config.image_token_id
            if self.slot is None
            else tokenizer.convert_tokens_to_ids(self.slot)
        )


OWN = {
    "ernie4_5_vl_moe": Kind(reader=ernie.ErnieReader),
    "chameleon": Kind(expansion=chameleon.ChameleonExpansion),
    "emu3": Kind(expansion=emu3.Emu3Expansion),
    "got_ocr2": Kind(expansion=got_ocr2.GotOcr2Expansion),
    "idefics": Kind(
        idefics.IdeficsExpansion, idefics.IdeficsEncoder, idefics.IdeficsReader, idefics.SLOT
    ),
    "kosmos-2": Kind(
        kosmos2.Kosmos2Expansion, kosmos2.Kosmos2Encoder, kosmos2.Kosmos2Reader, kosmos2.SLOT
    ),
    "minicpm_ocr": Kind(minicpm.MiniCPMExpansion, minicpm.MiniCPMEncoder),
    "minicpmv4_6": Kind(minicpm.MiniCPMExpansion, minicpm.MiniCPMEncoder),
    "minicpmv4_7": Kind(minicpm.MiniCPMExpansion, minicpm.MiniCPMEncoder),
    "mllama": Kind(mllama.MllamaExpansion, mllama.MllamaEncoder, mllama.MllamaReader, mllama.SLOT),
    "molmo2": Kind(expansion=molmo2.Molmo2Expansion, reader=molmo2.Molmo2Reader),
    "ovis2": Kind(reader=ovis2.Ovis2Reader),
    "paligemma": Kind(expansion=paligemma.PaliGemmaExpansion, reader=paligemma.PaliGemmaReader),
}


def kind_of(model_type: str) -> Kind:
    """By the `model_type` of a configuration."""
    return OWN.get(model_type) or Kind()
