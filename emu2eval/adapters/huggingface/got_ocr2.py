"""GOT-OCR 2: its processor takes the images of one text in a row, and lays them out by its own options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image

from emu2eval.adapters.huggingface.expansion import Expansion
from emu2eval.adapters.local.private import image_step


class GotOcr2Expansion(Expansion):
    """The question that its processor writes around one image, where it is given none, is the prompt's."""

    def whole(self, text: str, images: Sequence[Image.Image]) -> list[int]:
        given = self.processor(
            text=[text], images=[*images], images_kwargs=self._sized, return_tensors="pt"
        )
        ids: list[int] = given["input_ids"][0].tolist()
        return ids

    def _processed(self, image: Image.Image, variety: str) -> tuple[dict[str, Any], str]:
        found, texts = image_step(self.processor)([image], **self._kwargs)
        return dict(found), str(texts[0])
