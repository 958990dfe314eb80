"""MiniCPM-V 4.6 and later: each image of a prompt is given its number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from emu2eval.adapters.huggingface.expansion import Expansion
from emu2eval.adapters.huggingface.features import VisionEncoder


class MiniCPMExpansion(Expansion):
    """What transformers' `MiniCPMV4_6Processor` writes for an image; use_image_id is an option of its own."""

    def __init__(self, processor: Any, options: Mapping[str, Any]):
        super().__init__(processor, options)
        numbers = self._kwargs.pop("use_image_id", None)
        self._numbers = processor.default_use_image_id if numbers is None else bool(numbers)

    def numbered(self, text: str, number: int) -> str:
        own = self.processor
        if not self._numbers:
            return text
        return f"{own.image_id_start_token}{number}{own.image_id_end_token}{text}"

    @property
    def mode(self) -> str:
        """How far patches are merged: "16x" or "4x"."""
        return str(
            self._kwargs.get("downsample_mode") or self.processor.image_processor.downsample_mode
        )


class MiniCPMEncoder(VisionEncoder):
    """Merges as many patches as the processor counted on."""

    def encoding(self) -> Any:
        # The model looks here when it encodes an image and when it gives positions.
        self.model.config.downsample_mode = cast(MiniCPMExpansion, self.expansion).mode
        return super().encoding()
