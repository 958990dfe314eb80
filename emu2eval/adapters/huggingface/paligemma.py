"""PaliGemma (arXiv 2407.07726): all positions of a prompt see one another, those behind them among them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from PIL import Image
from torch import Tensor

from emu2eval.adapters.huggingface.expansion import Expansion
from emu2eval.adapters.huggingface.reading import TransformersReader
from emu2eval.adapters.local.encoded import Encoded
from emu2eval.adapters.local.reading import Rows


class PaliGemmaExpansion(Expansion):
    """What transformers' `PaliGemmaProcessor` writes: <bos> behind the last image, a newline at the end."""

    @property
    def closing(self) -> str:
        return "\n"

    def whole(self, text: str, images: Sequence[Image.Image]) -> list[int]:
        with warnings.catch_warnings():
            # The processor makes an array of tensors.
            warnings.simplefilter("ignore", DeprecationWarning)
            return super().whole(text, images)

    def finish(self, text: str) -> str:
        before, image, after = text.rpartition(self.placeholder)
        return f"{before}{image}{self.processor.tokenizer.bos_token}{after}"


class PaliGemmaReader(TransformersReader):
    """Reads a prompt whole: no part of it can be read before the rest."""

    @cached_property
    def croppable(self) -> bool:
        return False

    def beside(self, rows: Rows, sequences: Sequence[Encoded]) -> dict[str, Any]:
        return self._types(rows.ids)

    def _types(self, ids: Tensor) -> dict[str, Tensor]:
        # 0 = of the prompt. Behind what is in the cache, the model takes everything as a reply.
        return {"token_type_ids": ids.new_zeros(ids.shape)}
