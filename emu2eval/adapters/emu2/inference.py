"""Batches of encoded prompts through a loaded Emu2: texts, log-probabilities, images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from emu2eval.adapters.emu2.features import TowerEncoder, unconditional
from emu2eval.adapters.emu2.model import Emu2
from emu2eval.adapters.emu2.painter import GUIDANCE, STEPS, Painter
from emu2eval.adapters.emu2.reading import Emu2Reader
from emu2eval.adapters.local.encoded import Encoded, Shown
from emu2eval.adapters.local.inference import Inference
from emu2eval.media.images import from_pil
from emu2eval.types import Image, ImageOutput


class Emu2Inference(Inference[Emu2Reader]):
    """A model with its caches. painter: called once, when the first image is wanted.

    empty: the prompt that classifier-free guidance contrasts with.
    """

    def __init__(
        self, model: Emu2, empty: Encoded, painter: Callable[[], Painter], reuse: bool = True
    ):
        super().__init__(Emu2Reader(model, TowerEncoder(model, reuse)), reuse)
        self.model = model
        self.empty = empty
        self._load_painter = painter
        self._painter: Painter | None = None
        self._uncond: Tensor | None = None
        self._uncond_of_images: Tensor | None = None
        self._latest: tuple[tuple[int | str, ...], Tensor] | None = None

    @torch.inference_mode()
    def image(self, prompt: Encoded, output: ImageOutput) -> tuple[Image, bool]:
        """An image for a prompt that ends in [IMG], and whether the safety checker blackened it.

        One at a time and without a shared beginning: rounding alone would change its pixels.
        """
        if self._uncond is None:
            self._uncond = self.regress([self.empty])
        # Several images of one prompt follow one another.
        if self._latest is None or self._latest[0] != prompt.signature:
            self._latest = prompt.signature, self.regress([prompt])
        return self._paint(self._latest[1], self._uncond, output)

    @torch.inference_mode()
    def autoencoded(self, shown: Shown, output: ImageOutput) -> tuple[Image, bool]:
        """An image encoded and painted again; the language model takes no part."""
        cond = self.reader.encoder.several([shown])[shown.key].pooled[None]
        if self._uncond_of_images is None:
            self._uncond_of_images = unconditional(self.model)
        return self._paint(cond, self._uncond_of_images, output)

    @torch.inference_mode()
    def regress(self, prompts: Sequence[Encoded]) -> Tensor:
        """(prompts, n_query, width) visual embeddings, see `Emu2Reader.regress`."""
        self.reader.encoder.hold(prompts)
        rows, cache = self.reader.rows(prompts), self.reader.cache()
        hidden = self.reader.hidden(rows, prompts, cache, 0, rows.length)[:, -1]
        return self.reader.regress(rows, cache, hidden, self.model.config.n_query)

    def _paint(self, cond: Tensor, uncond: Tensor, output: ImageOutput) -> tuple[Image, bool]:
        if self._painter is None:
            self._painter = self._load_painter()
        image = self._painter.paint(
            cond,
            uncond,
            [output.seed],
            width=output.width,
            height=output.height,
            steps=STEPS if output.steps is None else output.steps,
            guidance=GUIDANCE if output.guidance is None else output.guidance,
        )[0]
        return from_pil(image), bool(image.info.get("flagged"))
